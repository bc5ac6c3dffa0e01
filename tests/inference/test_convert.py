from waveglow_vq.data.audio import read_wav, write_wav
from waveglow_vq.inference import VoiceConverter
from waveglow_vq.inference.convert import main

import pytest
import torch

from tests.inference.conftest import CPU, LABELS
from tests.inference.exports import voiced_speech_like


@pytest.fixture
def clips(tmp_path):
    """A folder of two clips, one in a folder of its own, and something else."""
    folder = tmp_path / "clips"
    for index, name in enumerate(("one.wav", "more/two.WAV")):
        write_wav(folder / name, voiced_speech_like(3000 + index, seed=index), 22050)
    (folder / "notes.txt").write_text("nothing to hear")
    return folder


def run(*arguments):
    main([*map(str, arguments), "--device", "cpu"])


def test_a_file(converter_folders, clips, tmp_path, capsys):
    export, source, output = converter_folders("pitch"), clips / "one.wav", tmp_path / "out.wav"
    run(export, source, "--speaker", "p226", "--output", output)
    said = capsys.readouterr().out
    assert said.startswith(f"{output}: 0.14 s at 22050 Hz in the voice of p226, computed in")
    converter = VoiceConverter.from_hparams(export, run_opts=CPU)
    first = read_wav(output)
    expected = converter.convert_file(source, "p226", generator=0)[0]
    torch.testing.assert_close(first, expected.clamp(-1, 1), atol=1e-4, rtol=0)
    for options in (
        ["--seed", "1"],
        ["--sigma", "0.3"],
        ["--flat_pitch"],
        ["--mode", "latent_swap", "--source_speaker", "p330"],
    ):
        run(export, source, "--speaker", "p226", "--output", output, *options)
        assert not torch.equal(read_wav(output), first), options
    run(export, source, "--speaker", "p226", "--output", output)
    assert torch.equal(read_wav(output), first)


def test_a_reference(converter_folders, clips, tmp_path, capsys):
    export = converter_folders("encoder")
    voice, output = clips / "more" / "two.WAV", tmp_path / "out.wav"
    run(export, clips / "one.wav", "--reference", voice, "--output", output)
    assert f"in the voice of {voice}" in capsys.readouterr().out
    assert read_wav(output, 22050).shape == (3000,)


def test_a_folder(converter_folders, clips, tmp_path, capsys):
    export, output = converter_folders("codes"), tmp_path / "converted"
    run(export, clips, "--speaker", "p225", "--output", output)
    assert f"{output}: 2 files: 0.27 s" in capsys.readouterr().out
    written = {file.relative_to(output).as_posix() for file in output.rglob("*") if file.is_file()}
    assert written == {"one.wav", "more/two.wav"}
    run(export, clips / "one.wav", "--speaker", "p225", "--output", tmp_path / "alone.wav")
    assert torch.equal(read_wav(output / "one.wav"), read_wav(tmp_path / "alone.wav"))


def test_lists_the_speakers(converter_folders, capsys):
    run(converter_folders("codes"), "--list")
    assert capsys.readouterr().out.split() == LABELS


def test_errors_are_sentences(converter_folders, codec_folder, clips, tmp_path, capsys):
    export, clip, out = converter_folders("codes"), clips / "one.wav", tmp_path / "out.wav"
    taken = tmp_path / "taken"
    for name in ("a.wav", "a.flac"):
        write_wav(taken / name, voiced_speech_like(3000), 22050)
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([export], "input, --output"),
        ([export, clip, "--speaker", "p225"], "input, --output"),
        ([export, clip, "--output", out], "give one of them"),
        ([export, clip, "--speaker", "p2225", "--output", out], "info"),
        ([export, clip, "--speaker", "p225", "--output", out, "--mode", "x"], "'x' is not one of"),
        ([export, tmp_path / "no.wav", "--speaker", "p225", "--output", out], "no.wav"),
        ([export, clip, "--speaker", "p225", "--output", tmp_path], "is a folder"),
        ([export, clips, "--speaker", "p225", "--output", clip], "is a file"),
        ([export, clips, "--speaker", "p225", "--output", clips / "out"], "inside of"),
        ([export, tmp_path / "empty", "--speaker", "p225", "--output", out], "no sound files"),
        ([export, taken, "--speaker", "p225", "--output", out], "both be written"),
        ([codec_folder, clip, "--speaker", "p225", "--output", out], "for SpeechCodec"),
        ([tmp_path / "missing", "--list"], "missing"),
    ):
        with pytest.raises(SystemExit) as stop:
            run(*arguments)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not out.exists()
