import os

from waveglow_vq.audio.formats import sound_suffixes
from waveglow_vq.commands.file_plan import FilePlan, plan_files
from waveglow_vq.commands.file_processing import process
from waveglow_vq.errors import UserError

import pytest


def plan(source, output, force=False):
    return plan_files(source, output, sound_suffixes(), ".wav", force)


def test_a_folder_becomes_a_folder_of_the_same_tree(clips, tmp_path):
    (clips / "._one.wav").touch()
    assert plan(clips, tmp_path / "out") == FilePlan(
        [
            (clips / "more" / "two.WAV", tmp_path / "out" / "more" / "two.wav"),
            (clips / "one.wav", tmp_path / "out" / "one.wav"),
        ],
        tmp_path / "out",
        "1 file .txt",
    )


def test_a_file_becomes_a_file_or_goes_into_a_folder(clips, tmp_path):
    source = clips / "more" / "two.WAV"
    assert plan(source, tmp_path / "a.wav") == FilePlan([(source, tmp_path / "a.wav")], None)
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
        (one, tmp_path / "a.flac", "OUTPUT: expected a .wav file name, got"),
        (one, clips, "one.wav is the same file as INPUT"),
        (clips, one, "is a file, but"),
        (clips, clips / "out", "is inside INPUT"),
        (tmp_path / "empty", tmp_path / "out", "holds no audio files$"),
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
    hint = '; ffmpeg -i "talk 1.MP4" "talk 1.wav" converts it'
    assert process(planned, lambda *_: None, None) == 0
    assert capsys.readouterr().err == f"left out: 1 file .mp4, 1 .txt{hint}\n"
    with pytest.raises(UserError, match=r"talk 1.MP4 is of an unsupported file type; ffmpeg -i"):
        plan(tmp_path / "disk" / "talk 1.MP4", tmp_path / "x.wav")
    (tmp_path / "disk" / "c.SND").unlink()
    with pytest.raises(UserError, match="holds no audio files, only 1 file .mp4; ffmpeg"):
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
