from waveglow_vq.training.text_to_codes.code_corpus import read_code_corpus, read_index

from tests.commands.conftest import tree
from tests.training.text_to_codes.coded_corpus import (
    NAMES,
    write_corpus,
    write_manifest,
    write_recording,
)


def test_a_corpus(codec_folder, tmp_path, run):
    manifest, codes = write_corpus(tmp_path), tmp_path / "codes"
    write_recording(tmp_path, "more", 0)
    more = write_manifest(tmp_path, {"more": {"wav": "{data_root}/more.wav"}}, "test")
    command = ["encode-corpus", codec_folder, manifest, more, codes, "--data_folder", tmp_path]
    command += ["--device", "cpu", "--num_workers", 1]
    status, said, error = run(*command)
    assert (status, error) == (0, "")
    assert said.startswith(
        f"{codes}: codes of 7 recordings, 7 of them encoded now: 1.29 s of sound"
    )
    assert tree(codes) == {f"{n}.wvq" for n in [*NAMES, "more"]} | {"codes.json", "codes.jsonl"}
    assert len(read_code_corpus(codes, manifest, tmp_path)) == 6
    status, said, error = run(*command)
    assert (status, error) == (0, "") and "7 recordings, 0 of them encoded now" in said


def test_bad_recordings(codec_folder, tmp_path, run, caplog):
    manifest, codes = write_corpus(tmp_path), tmp_path / "codes"
    (tmp_path / "clip1.wav").write_bytes(b"RIFF")
    (tmp_path / "clip2.wav").unlink()
    command = ["encode-corpus", codec_folder, manifest, codes, "--data_folder", tmp_path]
    status, said, error = run(*command, "--max_skipped", 2)
    assert status == 1 and "codes of 4 recordings" in said
    # Where nobody has set up logging, Python prints warnings on stderr.
    assert "clip1.wav" in caplog.text and error == "2 recordings could not be encoded\n"
    assert set(read_index(codes).skipped) == {"clip1", "clip2"}
    status, _, error = run(*command, "--max_skipped", 1)
    assert status == 2 and "more than 1 recordings" in error and "clip2.wav" in error


def test_another_model(codec_folder, wav_codec_folder, tmp_path, run, refused):
    manifest, codes = write_corpus(tmp_path), tmp_path / "codes"
    rest = [manifest, codes, "--data_folder", tmp_path, "--device", "cpu", "--num_workers", 1]
    assert run("encode-corpus", codec_folder, *rest)[0] == 0
    assert "--force" in refused("encode-corpus", wav_codec_folder, *rest)
    status, said, _ = run("encode-corpus", wav_codec_folder, *rest, "--force")
    assert status == 0 and "6 of them encoded now" in said
    assert read_index(codes).samples_per_code == 64


def test_refusals(vocoder_folder, converter_folders, codec_folder, tmp_path, refused):
    manifest, codes = write_corpus(tmp_path), tmp_path / "codes"
    for model, options, words in (
        (vocoder_folder, [], "is an export for WaveGlowVocoder, which"),
        (converter_folders("mel"), [], "is a model without codes"),
        (codec_folder, ["--device", "gpu"], "--device: 'gpu'"),
        (codec_folder, ["--num_workers", "0"], "num_workers is 0"),
    ):
        command = ["encode-corpus", model, manifest, codes, "--data_folder", tmp_path, *options]
        assert words in refused(*command)
    missing = ["encode-corpus", codec_folder, tmp_path / "no.json", codes]
    assert "no.json cannot be read" in refused(*missing, "--data_folder", tmp_path)
    assert not codes.exists()
