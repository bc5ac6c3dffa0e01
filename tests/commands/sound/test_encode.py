from waveglow_vq.inference import SpeechCodec
from waveglow_vq.inference.codes.code_file import read_code_file

import torch

from tests.commands.conftest import tree
from tests.inference.conftest import CPU


def test_a_sound_file(codec_folder, recording, tmp_path, run, refused):
    out = tmp_path / "out.wvq"
    status, said, error = run("encode", codec_folder, recording, out)
    assert (status, error) == (0, "")
    size = out.stat().st_size
    assert said.startswith(f"{out}: 0.23 s in {size} bytes ({size * 8 * 22050 / 5000:.0f} bit/s)")
    codec = SpeechCodec.from_hparams(codec_folder, run_opts=CPU)
    code_file = read_code_file(out)
    assert torch.equal(code_file.codes, codec.encode_file(recording).cpu())
    assert code_file.samples == 5000
    assert "--force" in refused("encode", codec_folder, recording, out)


def test_a_folder(converter_folders, clips, tmp_path, run):
    (clips / "broken.wav").write_bytes(b"RIFF")
    out = tmp_path / "codes"
    status, said, error = run("encode", converter_folders("pitch"), clips, out)
    assert status == 1 and f"{out}: 2 files" in said and "broken.wav" in error
    assert tree(out) == {"one.wvq", "more/two.wvq"}


def test_refusals(vocoder_folder, converter_folders, codec_folder, recording, tmp_path, refused):
    out = tmp_path / "out.wvq"
    for model, output, words in (
        (
            vocoder_folder,
            out,
            "is an export for WaveGlowVocoder, which encode cannot use; use",
        ),
        (converter_folders("mel"), out, "codes"),
        (codec_folder, tmp_path / "out.wav", "expected a .wvq file name"),
    ):
        assert words in refused("encode", model, recording, output)
    assert not tree(tmp_path)
