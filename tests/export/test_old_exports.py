"""Exports of version 0.1, made before modules moved; the numbers are what that version gave."""

import pydoc
import zipfile
from pathlib import Path

from waveglow_vq.audio.io import write_wav
from waveglow_vq.inference import load_export

import pytest
import torch

CPU = {"device": "cpu"}
NAMES = """
data.features.LogMel inference.loading.load_labels inference.loading.load_weights
lobes.code_search.SearchOptions lobes.conditioners.MelConditioner lobes.mel_vq.MelVQConditioner
lobes.model.WaveGlowVQ lobes.quantizers.build_quantizer lobes.speakers.build_speakers
lobes.text_to_codes.TextToCodes lobes.wave_vq.WaveVQConditioner lobes.waveglow.WaveGlow
options.choose training.checkpointing.KillSafeCheckpointer training.schedule.WarmupHoldHalve
"""
# Every 200th, 300th and 100th sample.
VOCODED = """
-0.00336099 -0.06038986 -0.06946296 -0.07433397 -0.0839153 -0.089125 -0.09958965 -0.1050676
-0.1152567 -0.1241221 -0.1250026 -0.1258615
"""
CONVERTED = """
-0.0003388573 -0.00108252 -0.0004467942 -0.001049898 -0.0005122805 -0.001057054 -0.0005505962
-0.001127796 -0.0005681175 -0.001136357
"""
SPOKEN = """
0.0004005391 0.0005427583 0.0007482052 0.0005527211 0.0007414553 0.0005507841 0.0007477928
0.0005465297 0.0007557181 0.0005408741 0.0007561843
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("exports")
    with zipfile.ZipFile(Path(__file__).with_name("exports_0_1.zip")) as archive:
        archive.extractall(path)
    return path


def close(found, expected, step):
    expected = torch.tensor([float(word) for word in expected.split()])
    return torch.allclose(found[::step], expected, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES.split())
def test_names_of_yaml_files_and_exports(name):
    assert callable(pydoc.locate(f"waveglow_vq.{name}"))


def test_vocoder(folder):
    vocoder = load_export(folder / "vocoder", run_opts=CPU)
    mel = torch.linspace(-9, -1, 80)[:, None] + torch.linspace(0, 1, 9).sin()
    wav = vocoder.decode_spectrogram(mel, sigma=0)[0]
    assert close(wav, VOCODED, 200)


def test_converter(folder, tmp_path):
    converter = load_export(folder / "converter", run_opts=CPU)
    time = torch.arange(3000) / 22050
    tone = 0.1 * sum((2 * torch.pi * 150 * k * time).sin() / k for k in range(1, 6))
    write_wav(tmp_path / "tone.wav", tone, 22050)
    code_file = converter.to_code_file(tmp_path / "tone.wav")
    assert code_file.codes.tolist() == [28, 0, 22, 22, 24, 14]
    assert code_file.pitch.tolist() == [16, 16, 16]
    assert code_file.checksum.startswith("2ee9f438bd81")
    wav = torch.cat(list(converter.decode_stream(code_file, "p226", sigma=0)))
    assert close(wav, CONVERTED, 300)


def test_text_to_speech(folder):
    tts = load_export(folder / "speech", run_opts=CPU)
    spoken = tts.encode_text("No sound.", search={"method": "greedy"})
    assert spoken.codes.tolist() == [15, 6, 15, 27, 6, 15, 27, 6, 15, 12, 13, 23, 13, 23, 17, 11]
    wav = tts.decode_text(spoken, sigma=0)[0]
    assert close(wav, SPOKEN, 100)
