import os

from waveglow_vq.data.corpora.speaker_folders import normalize_sentence, scan_speaker_folder
from waveglow_vq.errors import UserError

import pytest


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(folder):
    return [(u.speaker, u.id, u.source) for u in scan_speaker_folder(folder)]


def test_sound_at_any_depth(tmp_path):
    touch(tmp_path, "LICENSE.TXT", "SPEAKERS.TXT", "empty/notes.txt", ".cache/x.wav")
    touch(tmp_path, "1688/142285/1688-142285-0003.flac", "1688/1688.trans.txt")
    touch(tmp_path, "anna/a/1.wav", "anna/b/1.WAV", "anna/._1.wav", "anna/my voice {2}.wav")
    assert listed(tmp_path) == [
        ("1688", "1688-142285-0003", "1688/142285/1688-142285-0003.flac"),
        ("anna", "anna_a_1", "anna/a/1.wav"),
        ("anna", "anna_b_1", "anna/b/1.WAV"),
        ("anna", "anna_my_voice__2_", "anna/my voice {2}.wav"),
    ]
    assert all(u.text == "" and u.path.endswith(u.source) for u in scan_speaker_folder(tmp_path))


def test_librispeech_files_side_by_side(tmp_path):
    touch(tmp_path, "125-121124-0000.flac", "84-1-0001.flac", "125-121124-0002.flac", "README")
    assert [(u.speaker, u.id) for u in scan_speaker_folder(tmp_path)] == [
        ("125", "125-121124-0000"),
        ("125", "125-121124-0002"),
        ("84", "84-1-0001"),
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hello.wav"], r"hello\.wav names no speaker"),
        (["a b/x.wav"], r"'a b' cannot be the label of a speaker"),
        (["anna/1.wav", "anna/1.flac"], r"1\.flac and .*1\.wav have the same id anna_1"),
        (["anna/anna_1.wav", "anna/x/anna_1.wav"], "have the same id anna_1"),
        (["LICENSE.TXT"], "holds no audio files"),
    ],
)
def test_what_is_refused(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        scan_speaker_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        scan_speaker_folder(tmp_path / "nowhere")


def test_links_are_followed(tmp_path):
    touch(tmp_path, "disk/x.wav", "kept/anna/1.wav")
    (tmp_path / "kept" / "anna" / "2.wav").symlink_to(tmp_path / "disk" / "x.wav")
    (tmp_path / "kept" / "berta").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "kept" / "berta")
    (tmp_path / "more").symlink_to(tmp_path / "kept")
    assert listed(tmp_path / "more") == [
        ("anna", "anna_1", "anna/1.wav"),
        ("anna", "anna_2", "anna/2.wav"),
        ("berta", "berta_x", "berta/x.wav"),
    ]


def test_ids_of_names_that_are_long_or_no_utf8(tmp_path):
    names = [os.fsdecode(b"anna/caf\xe9.wav"), os.fsdecode(b"anna/caf\xe8.wav")]
    names += [f"anna/{'z' * 240}{end}.wav" for end in "ab"] + ["anna/" + "y" * 195 + ".wav"]
    touch(tmp_path, *names)
    found = {source: key for _, key, source in listed(tmp_path)}
    assert set(found) == set(names) and len(set(found.values())) == 5
    assert all(key.isprintable() and len(key) <= 200 for key in found.values())
    assert found["anna/" + "y" * 195 + ".wav"] == "anna_" + "y" * 195


def test_any_kind_of_sound_and_what_is_left_out(tmp_path, caplog):
    touch(tmp_path, "anna/1.Oga", "anna/2.mp3", "anna/3.wma", "notes.md")
    with caplog.at_level("INFO"):
        assert [source for _, _, source in listed(tmp_path)] == ["anna/1.Oga", "anna/2.mp3"]
    assert "left out: 1 file .wma, 1 .md; ffmpeg -i 3.wma 3.wav" in caplog.text


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ask her, to bring!", '"ask her to  bring."', True),
        ("It’s mine", "it's mine", True),
        ("well-known", "well known", True),
        ("Ask her", "Ask him", False),
        ("...", "", True),
    ],
)
def test_normalize_sentence(one, other, same):
    assert (normalize_sentence(one) == normalize_sentence(other)) is same
