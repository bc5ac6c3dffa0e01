import os
from argparse import Namespace
from pathlib import Path

from waveglow_vq.audio.headers.kinds import sound_suffixes
from waveglow_vq.commands.common import (
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
    return plan_files(source, output, sound_suffixes(), ".wav", force)


def test_a_folder_becomes_a_folder_of_the_same_tree(clips, tmp_path):
    (clips / "._one.wav").touch()
    assert plan(clips, tmp_path / "out") == Plan(
        [
            (clips / "more" / "two.WAV", tmp_path / "out" / "more" / "two.wav"),
            (clips / "one.wav", tmp_path / "out" / "one.wav"),
        ],
        tmp_path / "out",
        "1 file .txt",
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
        (tmp_path / "empty", tmp_path / "out", "holds no sound files$"),
        (taken, tmp_path / "out", "both be written"),
    ):
        with pytest.raises(UserError, match=words):
            plan(source, output, force=True)


def test_what_a_folder_holds_beside_sound_is_counted(clips, tmp_path, capsys):
    (clips / "more" / "b.opus").touch()
    (clips / "disk").symlink_to(tmp_path / "disk")
    for name in ("disk/c.SND", "disk/talk 1.MP4", "disk/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    planned = plan(clips, tmp_path / "out")
    assert [out.name for _, out in planned.pairs] == ["c.wav", "b.wav", "two.wav", "one.wav"]
    hint = '; ffmpeg -i "talk 1.MP4" "talk 1.wav" makes a file that can be read'
    assert process(planned, lambda *_: None, None) == 0
    assert capsys.readouterr().err == f"left out: 1 file .mp4, 1 .txt{hint}\n"
    with pytest.raises(UserError, match=r"talk 1.MP4 is of a kind that is not read; ffmpeg -i"):
        plan(tmp_path / "disk" / "talk 1.MP4", tmp_path / "x.wav")
    (tmp_path / "disk" / "c.SND").unlink()
    with pytest.raises(UserError, match="holds no sound files, only 1 file .mp4; ffmpeg"):
        plan(tmp_path / "disk", tmp_path / "out")


def test_any_name_is_a_name(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    names = [b"\xff\xfe.wav", b"y" * 251 + b".wav", "ж".encode() * 125 + b".flac"]
    for name in names:
        (source / os.fsdecode(name)).touch()
    pairs = plan(source, tmp_path / "out").pairs
    assert [os.fsencode(a.name) for a, _ in pairs] == sorted(names, key=os.fsdecode)
    with pytest.raises(UserError, match="does not exist"):
        plan("z" * 300, tmp_path / "out")


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


def test_no_exception_of_one_file_ends_the_folder(tmp_path, capsys):
    pairs = [(Path(f"{name}.wav"), tmp_path / f"{name}.out") for name in "abcdef"]
    problems = {
        "b": RuntimeError("not\nforeseen"),
        "c": PermissionError(13, "Permission denied", "c.out"),
        "d": MemoryError(),
        "e": UserError("nothing is voiced"),  # after others, where it is not of an option
    }

    def work(source, output, advance):
        if source.stem in problems:
            raise problems[source.stem]
        output.touch()

    assert process(Plan(pairs, tmp_path), work, None) == 1
    assert tree(tmp_path) == {"a.out", "f.out"}
    first, second, third, fourth, last = capsys.readouterr().err.splitlines()
    assert first.startswith("error: b.wav: RuntimeError: not foreseen (a defect")
    assert second == "error: c.out: Permission denied"
    assert third.startswith("error: d.wav: MemoryError (")
    assert fourth == "error: e.wav: nothing is voiced"
    assert last == "4 of 6 files could not be processed"
    with pytest.raises(RuntimeError, match="foreseen"):  # with its traceback
        process(Plan(pairs[1:2], None), work, lambda path: 1.0)
    problems["c"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        process(Plan(pairs, tmp_path), work, None)


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
        ({"device": "gpu"}, "--device: 'gpu' is no device; give cpu"),
        ({"dtype": "fp8"}, "fp8"),
    ):
        with pytest.raises(UserError, match=words):
            load_model(
                Namespace(**(vars(options) | {"threads": None} | change)),
                "vocode",
                ("WaveGlowVocoder",),
            )
