from argparse import Namespace
from pathlib import Path

from waveglow_vq.commands.common import (
    SOUND_SUFFIXES,
    Plan,
    load_model,
    plan_files,
    process,
    written_whole,
)
from waveglow_vq.errors import UserError

import pytest
import torch

from tests.commands.conftest import tree


def plan(source, output, force=False):
    return plan_files(source, output, SOUND_SUFFIXES, ".wav", force)


def test_a_folder_becomes_a_folder_of_the_same_tree(clips, tmp_path):
    (clips / "._one.wav").touch()
    assert plan(clips, tmp_path / "out") == Plan(
        [
            (clips / "more" / "two.WAV", tmp_path / "out" / "more" / "two.wav"),
            (clips / "one.wav", tmp_path / "out" / "one.wav"),
        ],
        tmp_path / "out",
    )


def test_a_file_becomes_a_file_or_goes_into_a_folder(clips, tmp_path):
    source = clips / "more" / "two.WAV"
    assert plan(source, tmp_path / "a.wav") == Plan([(source, tmp_path / "a.wav")], None)
    assert plan(source, tmp_path).pairs == [(source, tmp_path / "two.wav")]


def test_what_cannot_be_is_said_before_anything_is_done(clips, tmp_path):
    taken = tmp_path / "taken"
    (taken / "a").mkdir(parents=True)
    for name in ("a.wav", "a.flac"):
        (taken / name).touch()
    (tmp_path / "empty").mkdir()
    one = clips / "one.wav"
    for source, output, words in (
        (tmp_path / "no.wav", tmp_path / "a.wav", "no.wav does not exist"),
        (one, tmp_path / "a.flac", "OUTPUT: the name of a .wav file is wanted, not"),
        (one, clips, "one.wav is the input itself"),
        (clips, one, "is a file, but"),
        (clips, clips / "out", "inside of"),
        (tmp_path / "empty", tmp_path / "out", "holds no such files: .wav, .flac"),
        (taken, tmp_path / "out", "both be written"),
    ):
        with pytest.raises(UserError, match=words):
            plan(source, output, force=True)


def test_nothing_is_overwritten_without_force(clips, tmp_path):
    out = tmp_path / "out"
    plan(clips, out)
    (out / "more").mkdir(parents=True)
    for name in ("one.wav", "more/two.wav"):
        (out / name).write_text("precious")
    with pytest.raises(UserError, match="two.wav and 1 more exist; .* them with --force"):
        plan(clips, out)
    with pytest.raises(UserError, match="one.wav exists; .* replace it with --force"):
        plan(clips / "one.wav", out / "one.wav")
    assert len(plan(clips, out, force=True).pairs) == 2


def test_the_other_files_of_a_folder_are_processed(tmp_path, capsys):
    pairs = [(Path(f"{name}.wav"), tmp_path / f"{name}.out") for name in "abc"]

    def work(source, output, advance):
        if source.stem == "b":
            raise UserError("b.wav is no sound")
        output.touch()
        advance(2.0)

    assert process(Plan(pairs, tmp_path), work, None) == 1
    said = capsys.readouterr()
    assert tree(tmp_path) == {"a.out", "c.out"}
    assert said.out.startswith(f"{tmp_path}: 2 files: 4.00 s") and "real-time factor" in said.out
    assert said.err == "error: b.wav is no sound\n1 of 3 files could not be processed\n"
    assert process(Plan(pairs[:1], tmp_path), work, None) == 0


def test_an_error_that_is_not_of_a_file_ends_it(tmp_path):
    pairs, seen = [(Path(f"{name}.wav"), tmp_path / f"{name}.out") for name in "abc"], []

    def work(source, output, advance):
        seen.append(source)
        raise UserError("--sigma is -1")

    with pytest.raises(UserError, match="sigma"):
        process(Plan(pairs, tmp_path), work, None)
    assert len(seen) == 1

    def full(source, output, advance):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="a.out: No space left"):
        process(Plan(pairs, tmp_path), full, None)


def test_the_only_file_raises(tmp_path):
    def work(source, output, advance):
        raise UserError("a.wav is no sound")

    with pytest.raises(UserError, match="a.wav"):
        process(Plan([(Path("a.wav"), tmp_path / "a.out")], None), work, lambda path: 1.0)


def test_written_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.json"
    with written_whole(path) as part:
        part.write_text("first")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and tree(tmp_path) == {"deep/a.json"}
    with pytest.raises(UserError, match="cannot be written"), written_whole("/dev/null/a") as part:
        part.write_text("nowhere")


def test_the_model_of_a_command(vocoder_folder, codec_folder, tmp_path):
    before = torch.get_num_threads()
    try:
        options = Namespace(model=vocoder_folder, device="cpu", threads=before + 1, dtype="fp32")
        model = load_model(options, "vocode", ("WaveGlowVocoder",))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert type(model).__name__ == "WaveGlowVocoder"
    (tmp_path / "a.pt").touch()
    for change, words in (
        ({"model": codec_folder}, "for SpeechCodec, not for vocode; use waveglow-vq encode and"),
        ({"model": tmp_path / "a.pt"}, "is a file.*import-checkpoint"),
        ({"model": tmp_path}, "not an export folder"),
        ({"threads": 0}, "--threads: 0"),
        ({"device": "gpu"}, "--device: 'gpu'; give cpu"),
        ({"dtype": "fp8"}, "fp8"),
    ):
        with pytest.raises(UserError, match=words):
            load_model(
                Namespace(**(vars(options) | {"threads": None} | change)),
                "vocode",
                ("WaveGlowVocoder",),
            )
