"""Extraction in several processes, and what is left of it when it is killed."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.code_file import read_code_file
from waveglow_vq.training.text_to_codes import code_corpus, code_extraction
from waveglow_vq.training.text_to_codes.code_corpus import (
    INDEX,
    extract_codes,
    read_code_corpus,
    read_index,
)
from waveglow_vq.training.text_to_codes.code_extraction import JOURNAL
from waveglow_vq.utils.journal import Journal

import pytest
from speechbrain.utils.distributed import run_on_main

from tests.training.forks import fork, kill_at_event, together, wait
from tests.training.text_to_codes.coded_corpus import (
    NAMES,
    write_corpus,
    write_manifest,
    write_recording,
)


def codes_of(folder):
    """The code files, and what the journal says."""
    files = {path.name: path.read_bytes() for path in folder.glob("*.wvq")}
    return files, Journal(folder / JOURNAL).entries


def extract(codec, corpus, folder, **options):
    options = {"device": "cpu", "num_workers": 1, **options}
    return extract_codes(codec, {"train": corpus / "train.json"}, corpus, folder, **options)


def test_killed_at_any_access_to_a_file_it_goes_on(tmp_path, codec_folder):
    """Whatever a run had finished is kept, and the end is that of one that was not killed."""
    corpus = tmp_path / "corpus"
    write_corpus(corpus, NAMES[:2])
    extract(codec_folder, corpus, tmp_path / "whole")
    expected, index = codes_of(tmp_path / "whole"), read_index(tmp_path / "whole")
    states = set()
    for number in range(1, 200):
        folder = tmp_path / "codes"
        shutil.rmtree(folder, ignore_errors=True)

        def work(folder=folder, number=number):
            # From the folder on: what comes before leaves nothing.
            original = code_corpus._check_folder
            code_corpus._check_folder = lambda *rest: (original(*rest), kill_at_event(number))
            extract(codec_folder, corpus, folder)

        status = wait(fork(work))
        assert status in (0, -signal.SIGKILL)
        finished = Journal(folder / JOURNAL).entries
        states.add(len(finished))
        for name in finished:
            read_code_file(folder / f"{name}.wvq")
        if status == 0:
            break
        if folder.exists():
            with pytest.raises(UserError, match="unfinished|missing"):
                read_index(folder)
        report = extract(codec_folder, corpus, folder)
        assert report["kept"] >= len(finished) and report["kept"] + report["encoded"] == 2
        assert codes_of(folder) == expected and read_index(folder) == index
        assert not list(folder.glob(".*"))
    assert status == 0 and states == {0, 1, 2}


def test_the_model_may_change_after_a_kill(tmp_path, codec_folder, wav_codec_folder):
    """That, too, is noticed: what is there is of the first one."""
    corpus, folder = tmp_path / "corpus", tmp_path / "codes"
    write_corpus(corpus, NAMES[:3])

    def work():
        original = code_extraction._encode

        def fatal(codec, task):
            if task[1].stem == "clip1":
                os.kill(os.getpid(), signal.SIGKILL)
            return original(codec, task)

        code_extraction._encode = fatal
        extract(codec_folder, corpus, folder)

    assert wait(fork(work)) == -signal.SIGKILL
    assert [path.name for path in folder.glob("*.wvq")] == ["clip0.wvq"]
    with pytest.raises(UserError, match="holds codes of the model '[^']+' with checksum"):
        extract(wav_codec_folder, corpus, folder)
    assert extract(codec_folder, corpus, folder)["kept"] == 1


def test_an_error_that_ends_it_leaves_what_is_finished(tmp_path, codec_folder, monkeypatch):
    corpus, folder = tmp_path / "corpus", tmp_path / "codes"
    write_corpus(corpus, NAMES[:4])
    original = code_extraction.write_code_file

    def fill_the_disk(path, code_file):
        if path.stem == "clip2":
            raise OSError(28, "No space left on device", str(path))
        original(path, code_file)

    monkeypatch.setattr(code_extraction, "write_code_file", fill_the_disk)
    with pytest.raises(UserError, match=r"clip2\.wvq cannot be written \(No space.*resumes"):
        extract(codec_folder, corpus, folder)
    monkeypatch.undo()
    assert extract(codec_folder, corpus, folder)["kept"] == 2


@pytest.mark.parametrize("device_type", ["cuda", "cpu"])
def test_how_many_processes_there_are(tmp_path, codec_folder, monkeypatch, device_type):
    """One for a GPU; on a CPU as many as are worth their start, or as were asked for."""
    write_corpus(tmp_path, NAMES[:3])
    started = []

    def note(work, tasks, workers, doing, **options):
        started.append((workers, options["prepare"] is not None))
        yield from [(1.0, None)] * len(tasks)

    monkeypatch.setattr(code_extraction, "run_tasks", note)
    monkeypatch.setattr(code_extraction.os, "cpu_count", lambda: 8)
    codec = type("Codec", (), {"device_type": device_type})()
    keys = dict.fromkeys(map(str, range(9000)))
    for recordings, wanted in ((9, None), (300, None), (9000, None), (9, 3), (2, 8), (0, 8)):
        some = dict.fromkeys(list(keys)[:recordings], "")
        code_extraction.encode_all(codec, codec_folder, some, keys, tmp_path, wanted, 0)
    several = [(1, False), (2, True), (8, True), (3, True), (2, True), (0, False)]
    assert started == ([(1, False)] * 6 if device_type == "cuda" else several)


def test_of_processes_that_train_together_one_encodes(tmp_path, codec_folder):
    """Within SpeechBrain's run_on_main nobody waits for anybody twice, and all get the report."""
    corpus, folder = tmp_path / "corpus", tmp_path / "codes"
    write_corpus(corpus, NAMES[:3])

    def work(rank):
        report = run_on_main(extract, [codec_folder, corpus, folder])
        assert report["encoded"] == 3
        read = read_code_corpus(folder, corpus / "train.json", corpus, report["checksum"])
        assert [utterance.id for utterance in read] == NAMES[:3]

    assert together(2, tmp_path, work) == [0, 0]


@pytest.mark.slow  # each of its processes imports torch and SpeechBrain
def test_the_same_codes_with_any_number_of_processes(tmp_path, codec_folder, converter_folders):
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    (corpus / "clip2.wav").write_bytes(b"RIFF")
    for name, codec in (("codec", codec_folder), ("converter", converter_folders("pitch"))):
        one, two = tmp_path / f"{name}1", tmp_path / f"{name}2"
        reports = [extract(codec, corpus, one), extract(codec, corpus, two, num_workers=2)]
        assert reports[0] == reports[1] and [*reports[0]["skipped"]] == ["clip2"]
        assert codes_of(one) == codes_of(two) and len(codes_of(one)[0]) == 5


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_run_takes_its_processes_with_it(tmp_path, codec_folder):
    corpus, folder = tmp_path / "corpus", tmp_path / "codes"
    write_corpus(corpus, ["a"])
    entries = {f"a{n}": {"wav": "{data_root}/a.wav"} for n in range(600)}
    write_manifest(corpus, entries)
    pid = fork(lambda: extract(codec_folder, corpus, folder, num_workers=2))
    while len(Journal(folder / JOURNAL).entries) < 5:
        assert is_running(pid)
        time.sleep(0.002)
    workers = children(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL
    while any(is_running(worker) for worker in workers):  # for ever, if they are not told to leave
        time.sleep(0.1)
    finished = len(Journal(folder / JOURNAL).entries)
    assert workers and 5 <= finished < 600 and not is_complete(folder)
    report = extract(codec_folder, corpus, folder)
    assert report["kept"] == finished and report["encoded"] == 600 - finished
    write_recording(corpus, "a", 3)
    assert extract(codec_folder, corpus, folder)["encoded"] == 600


def is_complete(folder):
    return '"complete": true' in (folder / INDEX).read_text()


def test_no_exception_of_a_recording_ends_the_corpus(tmp_path):
    class Codec:
        def to_code_file(self, source):
            raise ZeroDivisionError("in a decoder")

    (tmp_path / "old.wvq").touch()
    result = code_extraction._encode(Codec(), ("a.mp3", tmp_path / "old.wvq"))
    assert result == (0.0, "a.mp3: ZeroDivisionError: in a decoder")
    assert not list(tmp_path.iterdir())
