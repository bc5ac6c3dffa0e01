import json
import shutil

from waveglow_vq.inference import SpeechCodec, load_export
from waveglow_vq.utils.files import model_checksum

import pytest
import torch

from tests.inference.conftest import CPU, LABELS


def told(run, path):
    status, said, error = run("info", path, "--json")
    assert (status, error) == (0, "")
    return json.loads(said)


def test_a_vocoder(vocoder_folder, run):
    report = told(run, vocoder_folder)
    model = load_export(vocoder_folder, run_opts=CPU).mods.model
    assert report["interface"] == "WaveGlowVocoder" and report["condition"] == "log-mel"
    assert report["parameters"] == sum(p.numel() for p in model.parameters())
    assert report["checksum"] == model_checksum(model)
    assert report["codebook_size"] is None and report["speakers"] == []
    assert report["sampling_sigma"] == 0.9 and report["prior"] == "envelope"
    # Three flows of two layers of three taps, in groups of eight samples.
    assert report["receptive_field_samples"] == 8 * 3 * (1 + 2)
    assert report["overlap_frames"] == 1
    status, said, _ = run("info", vocoder_folder)
    assert status == 0 and "interface                WaveGlowVocoder\n" in said
    assert "codebook size" not in said


@pytest.mark.parametrize("refine", [0, 3])
def test_the_lookahead_is_what_a_stream_waits_for(vocoder_folder, tmp_path, run, refine):
    folder = tmp_path / "export"
    shutil.copytree(vocoder_folder, folder)
    text = (folder / "hyperparams.yaml").read_text()
    (folder / "hyperparams.yaml").write_text(text.replace("refine: 0", f"refine: {refine}"))
    vocoder, taken = load_export(folder, run_opts=CPU), []

    def frames():
        while True:
            taken.append(torch.full((80, 1), -5.0))
            yield taken[-1]

    block = next(iter(vocoder.stream(frames(), chunk_frames=1)))
    ahead = len(taken) * vocoder.hop_length - len(block)
    report = told(run, folder)
    assert report["lookahead_ms"] == pytest.approx(1000 * ahead / 22050)
    assert report["refine"] == vocoder.refine == refine


def test_a_codec_and_a_converter(codec_folder, converter_folders, run):
    report = told(run, codec_folder)
    codec = SpeechCodec.from_hparams(codec_folder, run_opts=CPU)
    assert report["condition"] == "codes of the log-mel"
    assert report["codebook_size"] == 32
    assert report["code_rate"] == codec.code_rate
    assert report["bits_per_second"] == codec.bits_per_second
    assert report["pitch_bits_per_second"] is None
    report = told(run, converter_folders("pitch"))
    assert report["speakers"] == LABELS and report["pitch_bits_per_second"] > 0
    assert (
        "speakers                 p225, p226, p330\n" in run("info", converter_folders("pitch"))[1]
    )


def test_a_file_of_codes(codec_folder, recording, tmp_path, run, refused):
    path = tmp_path / "a.wvq"
    assert run("encode", codec_folder, recording, path)[0] == 0
    report = told(run, path)
    assert report["samples"] == 5000 and report["seconds"] == pytest.approx(5000 / 22050)
    assert report["checksum"] == told(run, codec_folder)["checksum"]
    assert report["bytes"] == path.stat().st_size and report["codebook_size"] == 32
    path.write_bytes(path.read_bytes()[:-2])
    assert "damaged" in refused("info", path)


def test_people_see_four_digits(codec_folder, run):
    said, told_all = run("info", codec_folder)[1], told(run, codec_folder)
    for name, digits in (("code_rate", "43.07"), ("bits_per_second", "215.3")):
        assert told_all[name] != float(digits) == pytest.approx(told_all[name], rel=1e-3)
        assert said.split(name.replace("_", " ") + " ", 1)[1].split()[0] == digits


def test_refusals(tmp_path, refused):
    assert "nothing does not exist" in refused("info", tmp_path / "nothing")
    assert "is not an export folder" in refused("info", tmp_path)


def test_text_to_speech(speech_folders, codec_folder, run):
    report, codec = told(run, speech_folders("plain")), told(run, codec_folder)
    tts = load_export(speech_folders("plain"), run_opts=CPU)
    assert report["interface"] == "TextToSpeech" and report["codec"] == "SpeechCodec"
    assert report["parameters"] == sum(p.numel() for p in tts.mods.model.parameters())
    assert report["tokenizer"] == {"kind": "char", "tokens": tts.tokenizer.vocabulary_size}
    sampling = {"temperature": 0.8, "top_k": 0, "top_p": 1.0}
    assert report["search"] == {"method": "sample", **sampling, "look_ahead": 6}
    assert report["speakers"] == [] and report["max_characters"] == 40
    for name in ("codebook_size", "code_rate", "bits_per_second", "sampling_sigma", "sample_rate"):
        assert report[name] == codec[name], name
    assert report["codec_checksum"] == codec["checksum"]
    assert report["checksum"] == model_checksum(tts.mods.model)
    said = run("info", speech_folders("pitch"))[1]
    assert "speakers               p225, p226\n" in said and "pitch bits per second" in said
