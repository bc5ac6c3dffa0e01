"""A prepared corpus of synthetic voices, and tiny models of several speakers, for the tests."""

import json
import math
from pathlib import Path

from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import write_wav
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer

import numpy as np
import torch

from tests.evaluation.signals import RATE, speech_like

# Middle of each voice's pitch in Hz. "low" and "near" are less than two semitones apart.
VOICES = {"high": 230.0, "low": 110.0, "near": 117.0}
UNSEEN = {"new": 160.0}
LABELS = sorted(VOICES)
SECONDS = 0.9


def write_corpus(folder, train_clips=3, texts=True):
    """Writes sound files, pitch and manifests; returns the folders of audio and of manifests."""
    folder = Path(folder)
    audio, manifests = folder / "audio", folder / "manifests"
    manifests.mkdir(parents=True)
    splits = {"train": train_clips, "valid": 1, "test": 2}
    number, contents, speakers = 0, {split: {} for split in (*splits, "unseen")}, {}
    for speaker, f0_hz in (VOICES | UNSEEN).items():
        clips = splits if speaker in VOICES else {"unseen": 2}
        for split, count in clips.items():
            for _ in range(count):
                number += 1
                name = f"{speaker}_{number:02d}"
                wav = speech_like(SECONDS, f0_hz, seed=number)
                write_wav(audio / speaker / f"{name}.wav", wav, RATE)
                log_f0 = np.full(1 + len(wav) // 256, math.log(f0_hz), dtype=np.float32)
                np.save(audio / speaker / f"{name}.pitch.npy", log_f0)
                contents[split][name] = {
                    "wav": f"{{data_root}}/{speaker}/{name}.wav",
                    "num_samples": len(wav),
                    "duration": len(wav) / RATE,
                    "text": "one two three" if texts else "",
                    "speaker": speaker,
                    "pitch": f"{{data_root}}/{speaker}/{name}.pitch.npy",
                    "log_f0_mean": math.log(f0_hz),
                    "log_f0_std": 0.2,
                }
        if speaker in VOICES:
            speakers[speaker] = {
                "train_clips": train_clips,
                "log_f0_mean": math.log(f0_hz),
                "log_f0_std": 0.2,
            }
    for name, content in (contents | {"speakers": speakers}).items():
        (manifests / f"{name}.json").write_text(json.dumps(content))
    return audio, manifests


def tiny_model(kind="mel_vq", source="table", speakers=True, seed=0):
    """A random model whose every part does something. kind: mel_vq, wav_vq or mel."""
    features = LogMel()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels = 4 if speakers else 0
        if kind == "mel":
            conditioner = MelConditioner(features, channels=8)
        elif kind == "wav_vq":
            conditioner = WaveVQConditioner(
                features, SoftEMQuantizer(16, 8), channels=8, mel_head=True,
                speaker_channels=channels,
            )  # fmt: skip
        else:
            conditioner = MelVQConditioner(
                features, SoftEMQuantizer(16, 8), stride=2, channels=8, speaker_channels=channels,
                use_pitch=speakers,
            )  # fmt: skip
        vocoder = WaveGlow(
            features, 8, flows=2, layers=2, channels=8, envelope={"order": 8},
            speaker_channels=channels, condition_hop=conditioner.hop,
        )  # fmt: skip
        condition = None
        if speakers:
            condition = SpeakerCondition(
                len(VOICES), channels=channels, source=source, features=features,
                encoder_channels=8, encoder_layers=1,
            )  # fmt: skip
        model = WaveGlowVQ(conditioner, vocoder, speakers=condition)
        for parameter in model.parameters():
            parameter.data += 0.03 * torch.randn_like(parameter)
        if speakers:
            statistics = [[math.log(VOICES[label]), 0.2] for label in LABELS]
            condition.set_f0_statistics(torch.tensor(statistics))
            if source == "encoder":
                condition.set_centroids(torch.randn(len(VOICES), channels))
        if model.quantizer is not None:
            wav = speech_like(1.0)[: 80 * 256][None]
            vectors = model.conditioner.encoder(wav if kind == "wav_vq" else features(wav))[0]
            rows = torch.linspace(0, len(vectors) - 1, model.quantizer.codebook_size).long()
            model.quantizer.set_codebook(vectors[rows].detach())
    return model.eval(), features
