import os

from waveglow_vq.audio.io import WavWriter, read_wav, write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.utils import files
from waveglow_vq.utils.files import atomic_write, count_kinds, lines_of, walk_files

import pytest
import torch


def test_links_are_followed_and_circles_are_not(tmp_path):
    for name in ("corpus/a.wav", "disk/one/b.wav", "disk/c.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    corpus = tmp_path / "corpus"
    (corpus / "kept").symlink_to(tmp_path / "disk")
    (corpus / "file.wav").symlink_to(tmp_path / "disk" / "c.wav")
    (corpus / "gone.wav").symlink_to(tmp_path / "nowhere")
    (corpus / "self.wav").symlink_to(corpus / "self.wav")
    (tmp_path / "disk" / "one" / "up").symlink_to(corpus)
    (tmp_path / "disk" / "one" / "here").symlink_to(".")
    found = [str(path.relative_to(corpus)) for path in walk_files(corpus)]
    # What leads nowhere is listed: who opens it can say so.
    wanted = ["a.wav", "file.wav", "gone.wav", "kept/c.wav", "kept/one/b.wav", "self.wav"]
    assert found == wanted
    with pytest.raises(UserError, match="nowhere cannot be read: No such file"):
        walk_files(tmp_path / "nowhere")


def test_kinds_beyond_a_handful_are_counted_together():
    names = [f"{n}.{kind}" for kind in "abcdefg" for n in range(1 + (kind == "c"))]
    assert count_kinds(names) == "2 files .c, 1 .a, 1 .b, 1 .d, 1 .e, 2 of other kinds"
    assert count_kinds([]) == ""


def test_lines_are_those_of_an_editor():
    text = "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b"
    assert lines_of(f"{text}\r\n\n\r{text}") == [text, "", "", text]


def test_names_of_any_bytes_and_length(tmp_path):
    wav = torch.linspace(-0.5, 0.5, 50)
    for name in (b"\xe9\xff.wav", "ü".encode() * 125 + b"x.wav", b"w" * 251 + b".wav"):
        path = tmp_path / os.fsdecode(name)
        with WavWriter(path, 8000) as writer:
            (part,) = os.listdir(tmp_path)
            assert part.startswith(".") and len(part) < 50  # file systems differ in their limits
            writer.write(wav)
        assert len(read_wav(path)) == 50
        write_wav(path, wav[:20], 8000)
        assert len(read_wav(path)) == 20
        path.unlink()
    for open_ in (lambda path: WavWriter(path, 8000), atomic_write):
        with pytest.raises((UserError, OSError), match="File name too long"):
            open_(tmp_path / ("w" * 252 + ".wav")).__enter__()
    with pytest.raises(UserError, match="here.wav cannot be written: Not a directory"):
        (tmp_path / "file").touch()
        WavWriter(tmp_path / "file" / "here.wav", 8000).__enter__()
    assert os.listdir(tmp_path) == ["file"]


def test_home_is_expanded_where_files_are_read_and_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with WavWriter("~/a.wav", 8000) as writer:
        writer.write(torch.zeros(10))
    write_wav("~/b.wav", torch.zeros(10), 8000)
    files.write_json("~/c.json", [1])
    assert len(read_wav("~/a.wav")) == len(read_wav("~/b.wav")) == 10
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "b.wav", "c.json"]
