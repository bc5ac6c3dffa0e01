from waveglow_vq.data.speaker_folders import normalise_sentence, scan_speaker_folder
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
        (["hello.wav"], r"hello\.wav tells no speaker"),
        (["a b/x.wav"], r"'a b' cannot be the label of a speaker"),
        (["anna/1.wav", "anna/1.flac"], r"1\.flac and .*1\.wav make the same utterance anna_1"),
        (["anna/anna_1.wav", "anna/x/anna_1.wav"], "make the same utterance anna_1"),
        (["LICENSE.TXT"], "holds no sound"),
    ],
)
def test_what_is_refused(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        scan_speaker_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        scan_speaker_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_stay_inside(tmp_path, what):
    touch(tmp_path, "outside/x.wav", "more/anna/1.wav")
    link = tmp_path / "more" / ("anna/2.wav" if what == "file" else "berta")
    link.symlink_to(tmp_path / "outside" / ("x.wav" if what == "file" else ""))
    with pytest.raises(UserError, match=r"is a link that leads out of"):
        scan_speaker_folder(tmp_path / "more")


def test_a_link_to_the_whole_folder_is_followed(tmp_path):
    touch(tmp_path, "disk/anna/1.wav")
    (tmp_path / "more").symlink_to(tmp_path / "disk")
    assert listed(tmp_path / "more") == [("anna", "anna_1", "anna/1.wav")]


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
def test_normalise_sentence(one, other, same):
    assert (normalise_sentence(one) == normalise_sentence(other)) is same
