from pathlib import Path

from waveglow_vq.commands.file_plan import FilePlan
from waveglow_vq.commands.file_processing import process
from waveglow_vq.errors import UserError

import pytest

from tests.commands.conftest import tree


def test_the_other_files_of_a_folder_are_processed(tmp_path, capsys):
    pairs = [(Path(f"{name}.wav"), tmp_path / f"{name}.out") for name in "abc"]

    def work(source, output, advance):
        if source.stem == "b":
            raise UserError("b.wav is no sound")
        output.touch()
        advance(2.0)

    assert process(FilePlan(pairs, tmp_path), work, None) == 1
    said = capsys.readouterr()
    assert tree(tmp_path) == {"a.out", "c.out"}
    assert said.out.startswith(f"{tmp_path}: 2 files: 4.00 s") and "real-time factor" in said.out
    assert said.err == "error: b.wav is no sound\n1 of 3 files could not be processed\n"
    assert process(FilePlan(pairs[:1], tmp_path), work, None) == 0


def test_an_error_that_is_not_of_a_file_ends_it(tmp_path):
    pairs, seen = [(Path(f"{name}.wav"), tmp_path / f"{name}.out") for name in "abc"], []

    def work(source, output, advance):
        seen.append(source)
        raise UserError("--sigma is -1")

    with pytest.raises(UserError, match="sigma"):
        process(FilePlan(pairs, tmp_path), work, None)
    assert len(seen) == 1

    def full(source, output, advance):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="a.out: No space left"):
        process(FilePlan(pairs, tmp_path), full, None)


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

    assert process(FilePlan(pairs, tmp_path), work, None) == 1
    assert tree(tmp_path) == {"a.out", "f.out"}
    first, second, third, fourth, last = capsys.readouterr().err.splitlines()
    assert first.startswith("error: b.wav: RuntimeError: not foreseen (a bug")
    assert second == "error: c.out: Permission denied"
    assert third.startswith("error: d.wav: MemoryError (")
    assert fourth == "error: e.wav: nothing is voiced"
    assert last == "4 of 6 files could not be processed"
    with pytest.raises(RuntimeError, match="foreseen"):  # with its traceback
        process(FilePlan(pairs[1:2], None), work, lambda path: 1.0)
    problems["c"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        process(FilePlan(pairs, tmp_path), work, None)


def test_the_only_file_raises(tmp_path):
    def work(source, output, advance):
        raise UserError("a.wav is no sound")

    with pytest.raises(UserError, match="a.wav"):
        process(FilePlan([(Path("a.wav"), tmp_path / "a.out")], None), work, lambda path: 1.0)
