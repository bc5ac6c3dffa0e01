"""What is found of a single utterance by :mod:`~waveglow_vq.evaluation.text_to_speech.judgement`,
which says what the figures mean.
"""

from typing import NamedTuple

from waveglow_vq.audio.io import read_for_model
from waveglow_vq.data.manifests import load_manifest
from waveglow_vq.data.shards.format import sound_source
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.metrics import cepstral_distortion, mel_cepstrum
from waveglow_vq.evaluation.text_to_speech.attention import (
    alignment_figures,
    longest_repetition,
    tolerance_for,
)
from waveglow_vq.inference.codes.coding import resample_nearest
from waveglow_vq.text.normalization import normalize_text

import torch


class Sentence(NamedTuple):
    """An utterance of the manifest."""

    name: str
    wav: str
    text: str  # as it is written
    spoken: str  # normalized
    speaker: str  # who is to speak, for models of several voices; else None


def read_sentences(tts, manifest, data_root):
    """The utterances of a manifest that the model can speak, by name, and notes on what is left
    out, and why. If none is left, that is a UserError."""
    entries, sentences, left_out = load_manifest(manifest, data_root), [], {}
    for name in sorted(entries):
        entry, voices = entries[name], tts.speakers
        text = str(entry.get("text") or "").strip()
        speaker = entry.get("speaker") if len(voices) > 1 else None
        try:
            if not text:
                raise UserError("it has no text")
            if len(voices) > 1 and speaker not in voices:
                raise UserError(f"the model has no voice for the speaker {speaker!r}")
            tts.tokenizer.encode(text)
        except UserError as error:
            left_out[name] = str(error)
            continue
        sentences.append(Sentence(name, entry["wav"], text, normalize_text(text), speaker))
    notes = []
    if left_out:
        name, reason = next(iter(left_out.items()))
        notes = [
            f"Left out: {len(left_out)} of {len(entries)} utterances, such as {name}: {reason}"
        ]
    if not sentences:
        raise UserError(
            f"{manifest} has no utterance that the model can speak"
            + (f": of {name}, {reason}" if left_out else "; prepare a corpus with texts")
        )
    return sentences, notes


def teacher_forced(tts, sentence, code_file):
    """How well a model foresees the codes of a recording.

    Returns ``nll`` in nats and ``accuracy`` of a code, and those of ``pitch_`` where there is
    pitch; ``codes``, over how many they are means, the end included; ``diagonal`` and
    ``longest_stall``.
    """
    model, device = tts.mods.model, tts.device
    ids = tts.tokenizer.encode(sentence.text)
    pitch, whole = None, torch.ones(1, device=device)
    if code_file.pitch is not None:
        pitch = resample_nearest(
            code_file.pitch,
            len(code_file.codes),
            code_file.samples_per_code,
            code_file.samples_per_pitch,
        )[None].to(device)
    number = tts.voice_of(sentence.speaker)[0]
    output = model(
        torch.tensor([ids], device=device),
        whole,
        code_file.codes[None].to(device),
        whole,
        None if number is None else torch.tensor([number], device=device),
        pitch,
    )
    figures = alignment_figures(output.attention[0, :-1], tolerance_for(tts.tokenizer.pieces(ids)))
    terms = ("nll", "accuracy", "pitch_nll", "pitch_accuracy")
    return {
        **{name: float(output.terms[name]) for name in terms if name in output.terms},
        "codes": len(code_file.codes) + 1,
        "diagonal": figures["diagonal"],
        "longest_stall": figures["longest_stall"],
    }


def read_recording(sentence, features):
    """The samples ``[N]`` of the recording of a sentence, at the rate of the features."""
    return read_for_model(
        sound_source(sentence.wav), features.sample_rate, min_samples=features.margin + 1
    )


def cepstrum_of(wav, features):
    """The mel cepstrum ``[frames, order]`` of samples ``[N]``."""
    # Speech that ended at once is too short for a log-mel: silence behind it changes nothing else.
    missing = max(0, features.margin + 1 - len(wav))
    wav = torch.nn.functional.pad(wav, (0, missing))
    return mel_cepstrum(features(wav[None])[0]).numpy()


def reconstruction_of(tts, code_file, speaker, sigma, seed):
    """What the codec makes of a recording's codes, in the voice that speaks."""
    label = tts.voice_of(speaker)[1]
    more = {} if label is None else {"speaker": label}
    sigma = tts.sampling_sigma if sigma is None else sigma
    blocks = tts.codec.decode_stream(code_file, sigma=sigma, generator=seed, **more)
    return torch.cat(list(blocks)).cpu()


def comparable(sentence, sentences):
    """Other sentences, of the same speaker: nobody is to be told by the voice."""
    return [
        other
        for other in sentences
        if other.speaker == sentence.speaker and other.spoken != sentence.spoken
    ]


def durations(wavs, sample_rate):
    """Seconds of each waveform, and how those of speech and recording compare."""
    seconds = {name: len(wav) / sample_rate for name, wav in wavs.items()}
    ratio = seconds["speech"] / seconds["recording"]
    return {"seconds": seconds, "duration_ratio": ratio, "duration_deviation": abs(ratio - 1)}


def distortions(sentence, compared, wavs, recording, features):
    """Distortion of speech and reconstruction to the own recording, and to those of others."""
    row = {}
    for kind in ("reconstruction", "speech"):
        cepstrum = cepstrum_of(wavs[kind], features)
        own = cepstral_distortion(recording(sentence), cepstrum)
        others = {s.name: cepstral_distortion(recording(s), cepstrum) for s in compared}
        row[kind] = {"mcd_db": own, "others": len(others)}
        if others:
            nearest = min(others, key=others.get)
            row[kind] |= {
                "nearest_other": nearest,
                "nearest_other_mcd_db": others[nearest],
                "nearer_to_own": own < others[nearest],
            }
    row["mcd_ratio"] = row["speech"]["mcd_db"] / max(row["reconstruction"]["mcd_db"], 1e-6)
    return row


def readings(sentences):
    """How the sentences of a text were read."""
    alignments = [
        alignment_figures(each.attention, tolerance_for(each.pieces))
        | {"stopped": each.stopped, "longest_repetition": longest_repetition(each.codes)}
        for each in sentences
    ]
    return {
        "diagonal": all(each["diagonal"] for each in alignments),
        "truncated": any(each["truncated"] for each in alignments),
        "stopped": all(each["stopped"] for each in alignments),
        "alignments": alignments,
    }
