from waveglow_vq.audio.io import read_wav
from waveglow_vq.inference import VoiceConverter

import torch

from tests.commands.conftest import tree
from tests.inference.conftest import CPU


def test_a_file(converter_folders, clips, tmp_path, run):
    export, source, output = converter_folders("pitch"), clips / "one.wav", tmp_path / "out.wav"
    command = ["convert", export, source, output, "--speaker", "p226", "--device", "cpu"]
    status, said, error = run(*command)
    assert (status, error) == (0, "")
    assert said.startswith(f"{output}: 0.14 s in the voice of p226, computed in")
    converter = VoiceConverter.from_hparams(export, run_opts=CPU)
    first = read_wav(output)
    expected = converter.convert_file(source, "p226", generator=0)[0]
    torch.testing.assert_close(first, expected.clamp(-1, 1), atol=1e-4, rtol=0)
    for options in (
        ["--seed", "1"],
        ["--sigma", "0.3"],
        ["--refine", "2"],
        ["--flat_pitch"],
        ["--mode", "latent_swap", "--source_speaker", "p330"],
    ):
        assert run(*command, *options, "--force")[0] == 0
        assert not torch.equal(read_wav(output), first), options
    assert run(*command, "--force")[0] == 0
    assert torch.equal(read_wav(output), first)


def test_a_reference(converter_folders, clips, tmp_path, run):
    export = converter_folders("encoder")
    voice, output = clips / "more" / "two.WAV", tmp_path / "out.wav"
    status, said, _ = run("convert", export, clips / "one.wav", output, "--reference", voice)
    assert status == 0 and f"in the voice of {voice}" in said
    converter = VoiceConverter.from_hparams(export, run_opts=CPU)
    expected = converter.convert_file(clips / "one.wav", reference=voice, generator=0)[0]
    torch.testing.assert_close(read_wav(output, 22050), expected.clamp(-1, 1), atol=1e-4, rtol=0)


def test_a_folder(converter_folders, clips, tmp_path, run):
    export, output = converter_folders("codes"), tmp_path / "converted"
    status, said, _ = run("convert", export, clips, output, "--speaker", "p225")
    assert status == 0 and f"{output}: 2 files: 0.27 s" in said
    assert tree(output) == {"one.wav", "more/two.wav"}
    alone = tmp_path / "alone.wav"
    assert run("convert", export, clips / "one.wav", alone, "--speaker", "p225")[0] == 0
    assert torch.equal(read_wav(output / "one.wav"), read_wav(alone))


def test_refusals(converter_folders, codec_folder, clips, tmp_path, run, refused):
    export, clip, out = converter_folders("codes"), clips / "one.wav", tmp_path / "out.wav"
    for arguments, words in (
        ([export, clip, out, "--speaker", "p2225"], "'p2225' is not one of the 3 speakers"),
        ([export, clips, out.parent / "out", "--speaker", "p2225"], "'p2225' is not one of"),
        ([export, clip, out, "--speaker", "p225", "--mode", "x"], "'x' is not one of"),
        ([export, clip, out, "--reference", tmp_path / "no.wav"], "no.wav"),
        ([export, tmp_path / "no.wav", out, "--speaker", "p225"], "no.wav"),
        ([codec_folder, clip, out, "--speaker", "p225"], "use waveglow-vq encode and decode"),
    ):
        assert words in refused("convert", *arguments)
    # Without a target it is wrong usage.
    status, _, error = run("convert", export, clip, out)
    assert status == 2 and "one of the arguments --speaker --reference is required" in error
    assert not tree(tmp_path) - {"clips/one.wav", "clips/more/two.WAV", "clips/notes.txt"}
