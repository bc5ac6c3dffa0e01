from waveglow_vq.audio.io import read_wav
from waveglow_vq.inference import SpeechCodec, VoiceConverter
from waveglow_vq.inference.codes.code_file import write_code_file

import pytest
import torch

from tests.commands.conftest import tree
from tests.inference.conftest import CPU


@pytest.fixture
def coded(codec_folder, recording, tmp_path):
    """A code file, and what is expected of it."""
    codec = SpeechCodec.from_hparams(codec_folder, run_opts=CPU)
    path = tmp_path / "codes" / "a.wvq"
    write_code_file(path, codec.to_code_file(recording))
    return path, codec.reconstruct_file(recording, generator=0)[0]


def test_a_file(codec_folder, coded, recording, tmp_path, run):
    path, expected = coded
    out = tmp_path / "out.wav"
    status, said, error = run("decode", codec_folder, path, out, "--device", "cpu")
    assert (status, error) == (0, "") and said.startswith(f"{out}: 0.23 s")
    wav = read_wav(out, 22050)
    torch.testing.assert_close(wav, expected.clamp(-1, 1), atol=1e-4, rtol=0)
    assert run("decode", codec_folder, path, out, "--seed", "1", "--force")[0] == 0
    assert not torch.equal(read_wav(out), wav)
    assert run("decode", codec_folder, path, out, "--overlap_frames", "9", "--force")[0] == 0
    torch.testing.assert_close(read_wav(out), wav, atol=1e-4, rtol=0)
    assert run("decode", codec_folder, path, out, "--refine", "2", "--force")[0] == 0
    codec = SpeechCodec.from_hparams(codec_folder, run_opts=CPU)
    expected = codec.reconstruct_file(recording, generator=0, refine=2)[0]
    torch.testing.assert_close(read_wav(out, 22050), expected.clamp(-1, 1), atol=1e-4, rtol=0)


def test_bad_files_of_a_folder_do_not_stop_the_others(
    codec_folder, converter_folders, coded, recording, tmp_path, run
):
    path, _ = coded
    folder, out = path.parent, tmp_path / "out"
    data = path.read_bytes()
    (folder / "b.wvq").write_bytes(data[:-1])
    (folder / "c.wvq").write_bytes(b"no codes")
    other = VoiceConverter.from_hparams(converter_folders("codes"), run_opts=CPU)
    write_code_file(folder / "d.wvq", other.to_code_file(recording))
    (folder / "e.wvq").write_bytes(data)
    status, said, error = run("decode", codec_folder, folder, out)
    assert status == 1 and tree(out) == {"a.wav", "e.wav"} and f"{out}: 2 files" in said
    lines = error.splitlines()
    assert lines[-1] == "3 of 5 files could not be processed"
    for line, name in zip(lines[:-1], "bcd", strict=True):
        assert line.startswith(f"error: {folder / name}.wvq")
    assert "checksum" in lines[2]


def test_in_another_voice(converter_folders, recording, tmp_path, run, refused):
    export, coded = converter_folders("pitch"), tmp_path / "a.wvq"
    assert run("encode", export, recording, coded)[0] == 0
    assert run("decode", export, coded, tmp_path / "own.wav")[0] == 0
    command = [export, coded, tmp_path / "p226.wav", "--speaker"]
    assert run("decode", *command, "p226", "--seed", "2")[0] == 0
    own, converted = read_wav(tmp_path / "own.wav"), read_wav(tmp_path / "p226.wav")
    converter = VoiceConverter.from_hparams(export, run_opts=CPU)
    expected = converter.convert_file(recording, "p226", generator=2)[0].clamp(-1, 1)
    torch.testing.assert_close(converted, expected, atol=1e-4, rtol=0)
    assert not torch.equal(own, converted)
    assert "'p22'" in refused("decode", *command, "p22", "--force")


def test_refusals(
    vocoder_folder, codec_folder, converter_folders, coded, recording, tmp_path, refused
):
    path, out = coded[0], tmp_path / "out.wav"
    for arguments, words in (
        ([vocoder_folder, path, out], "for WaveGlowVocoder, which decode cannot"),
        ([codec_folder, path, out, "--speaker", "p225"], "--speaker: "),
        ([codec_folder, path, out, "--overlap_frames", "-1"], "overlap_frames"),
        ([converter_folders("codes"), path, out, "--overlap_frames", "1"], "--overlap_frames: "),
        ([codec_folder, recording, out], "is not a code file"),
    ):
        assert words in refused("decode", *arguments)
