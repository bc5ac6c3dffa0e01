import logging

from waveglow_vq.data.corpora.vctk import clean_text, find_vctk, read_speaker_info, scan_vctk
from waveglow_vq.errors import UserError

import pytest

from tests.data.corpora.vctk_tree import sound_path, write_info, write_sound, write_text

LAYOUTS = ("0.80", "0.92")


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


def small(root, layout, ids=("p225_001", "p225_003", "p226_002", "p226_010")):
    """Empty recordings with texts: a scan opens none of them."""
    for utterance_id in ids:
        write_sound(root, layout, utterance_id)
        write_text(root, utterance_id, f"Text of {utterance_id}.")
    write_info(root, layout, [("p225", "23  F    English    Southern  England"), ("p226", "22  M")])
    return root


@pytest.mark.parametrize("depth", ["", "VCTK-Corpus", "any name"])
def test_found_in_the_folder_or_one_below(tmp_path, layout, depth):
    root = small(tmp_path / "data" / depth, layout)
    (tmp_path / "data" / "another").mkdir()
    assert find_vctk(tmp_path / "data") == (root, layout)
    assert [u.id for u in scan_vctk(tmp_path / "data").utterances] == [
        "p225_001",
        "p225_003",
        "p226_002",
        "p226_010",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "no data folder was given"),
        (" ", "no data folder was given"),
        ("nowhere", "nowhere does not exist"),
        ("", r"holds no VCTK: neither wav48 nor wav48_silence_trimmed"),
        ("two", r"more than one copy of VCTK .*a/wav48 and .*b/wav48_silence_trimmed"),
    ],
)
def test_no_single_corpus(tmp_path, given, message):
    (tmp_path / "two" / "a" / "wav48").mkdir(parents=True)
    (tmp_path / "two" / "b" / "wav48_silence_trimmed").mkdir(parents=True)
    folder = given if given is None or given == " " else tmp_path / given
    with pytest.raises(UserError, match=message):
        find_vctk(folder)


def test_a_corpus_two_levels_down_is_not_taken(tmp_path, layout):
    small(tmp_path / "a" / "b", layout)
    with pytest.raises(UserError, match="holds no VCTK"):
        find_vctk(tmp_path)


def test_a_text_belongs_to_the_utterance_of_its_name(tmp_path, layout):
    """Neither gaps, nor a missing text, nor one too many moves the texts of the others."""
    root = small(tmp_path, layout, [f"p225_{n:03d}" for n in (1, 2, 3, 5, 9, 10, 100)])
    (root / "txt" / "p225" / "p225_003.txt").unlink()
    write_text(root, "p225_004", "Text without a recording.")
    scan = scan_vctk(root)
    texts = {u.id: u.text for u in scan.utterances}
    assert texts.pop("p225_003") == ""
    assert len(texts) == 6
    assert all(text == f"Text of {utterance_id}." for utterance_id, text in texts.items())
    assert scan.counts["utterances"] == 7 and scan.counts["utterances_with_text"] == 6


def test_speakers_without_text_or_info_are_kept(tmp_path, layout):
    root = small(tmp_path, layout)
    write_sound(root, layout, "p315_001")
    write_sound(root, layout, "s5_001")
    write_text(root, "s5_001", "Five.")
    scan = scan_vctk(root)
    assert {u.speaker for u in scan.utterances} == {"p225", "p226", "p315", "s5"}
    assert scan.counts["speakers"] == 4
    assert scan.counts["speakers_with_text"] == 3
    assert scan.counts["speakers_without_info"] == ["p315", "s5"]
    assert scan.info["p225"] == {
        "age": 23,
        "gender": "F",
        "accent": "English",
        "region": "Southern England",
    }
    (root / "speaker-info.txt").unlink()
    assert scan_vctk(root).info == {}


def test_speaker_info_of_080(tmp_path):
    file = tmp_path / "speaker-info.txt"
    file.write_text(
        "ID  AGE  GENDER  ACCENTS  REGION  \n225  23  F    English    Southern  England\n"
        "362  29  F    American  \n376  22  M    Indian\n\n"
    )
    assert read_speaker_info(file) == {
        "p225": {"age": 23, "gender": "F", "accent": "English", "region": "Southern England"},
        "p362": {"age": 29, "gender": "F", "accent": "American", "region": None},
        "p376": {"age": 22, "gender": "M", "accent": "Indian", "region": None},
    }


def test_speaker_info_of_092(tmp_path):
    file = tmp_path / "speaker-info.txt"
    file.write_text(
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS \n"
        "p280  25  F    Unknown  France (mic2 files unavailable)\n"
        "p315  18  M    American  New  England (Text unavailable)\n"
        "s5  --  F\n"
    )
    assert read_speaker_info(file) == {
        "p280": {"age": 25, "gender": "F", "accent": "Unknown", "region": "France"},
        "p315": {"age": 18, "gender": "M", "accent": "American", "region": "New England"},
        "s5": {"age": None, "gender": "F", "accent": None, "region": None},
    }


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Please call Stella.  )", "Please call Stella."),
        ("Please call Stella (again).", "Please call Stella (again)."),
        ("Please call Stella (again)", "Please call Stella (again)"),
        ('"Please call Stella.  "', "Please call Stella."),
        ('"Please," she said, "call"', '"Please," she said, "call"'),
        ('He said "please"', 'He said "please"'),
        ("  Please \t call\r\nStella. ", "Please call Stella."),
        (")", ""),
        ('"', '"'),
        ("", ""),
    ],
)
def test_clean_text(text, clean):
    assert clean_text(text) == clean


def test_the_wished_microphone_or_the_other(tmp_path):
    for mic in ("mic1", "mic2"):
        write_sound(tmp_path, "0.92", "p225_001", mic=mic)
    write_sound(tmp_path, "0.92", "p225_002", mic="mic2")
    write_sound(tmp_path, "0.92", "p280_001", mic="mic1")
    write_sound(tmp_path, "0.92", "p280_002", mic="mic1")

    def chosen(mic):
        scan = scan_vctk(tmp_path, mic=mic)
        return [u.source[-9:-5] for u in scan.utterances], scan.counts["microphone_fallbacks"]

    assert chosen("mic1") == (["mic1", "mic2", "mic1", "mic1"], {"p225": 1})
    assert chosen("mic2") == (["mic2", "mic2", "mic1", "mic1"], {"p280": 2})
    assert scan_vctk(tmp_path, mic="mic2", speakers=["p225"]).counts["microphone_fallbacks"] == {}
    with pytest.raises(UserError, match="mic: 'mic3' is not one of mic1, mic2"):
        scan_vctk(tmp_path, mic="mic3")


def test_only_these_speakers(tmp_path, layout):
    root = small(tmp_path, layout)
    scan = scan_vctk(root, speakers=["p226"])
    assert [u.id for u in scan.utterances] == ["p226_002", "p226_010"]
    assert list(scan.info) == ["p226"]
    with pytest.raises(UserError, match="speakers names p999, but the speakers are p225, p226"):
        scan_vctk(root, speakers=["p226", "p999"])


def test_additional_folders(tmp_path, layout):
    root = small(tmp_path / "vctk", layout)
    (tmp_path / "more" / "1688" / "5").mkdir(parents=True)
    (tmp_path / "more" / "1688" / "5" / "1688-5-0001.flac").touch()
    scan = scan_vctk(root, additional_folders=[tmp_path / "more"], speakers=[1688, "p225"])
    assert {u.speaker: u.text for u in scan.utterances}["1688"] == ""
    assert scan.counts["speakers"] == 2 and scan.counts["speakers_of_vctk"] == 1
    assert scan.counts["speakers_without_info"] == []  # nothing was to be expected


def test_a_label_that_is_in_use_is_refused(tmp_path, layout):
    root = small(tmp_path / "vctk", layout)
    for name in ("more", "twice"):
        (tmp_path / name / "p226").mkdir(parents=True)
        (tmp_path / name / "p226" / "a.wav").touch()
    with pytest.raises(UserError, match=r"more holds a speaker p226, and so does .*vctk"):
        scan_vctk(root, additional_folders=[tmp_path / "more"])
    (tmp_path / "more" / "p226").rename(tmp_path / "more" / "x")
    (tmp_path / "twice" / "p226").rename(tmp_path / "twice" / "x")
    with pytest.raises(UserError, match=r"twice holds a speaker x, and so does .*more"):
        scan_vctk(root, additional_folders=[tmp_path / "more", tmp_path / "twice"])


def test_an_id_that_is_in_use_is_refused(tmp_path, layout):
    root = small(tmp_path / "vctk", layout)
    (tmp_path / "more" / "p226_x").mkdir(parents=True)
    (tmp_path / "again" / "p226_x_2").mkdir(parents=True)
    (tmp_path / "more" / "p226_x" / "p226_x_2_1.wav").touch()
    (tmp_path / "again" / "p226_x_2" / "1.wav").touch()
    with pytest.raises(UserError, match=r"p226_x_2_1\.wav and .*1\.wav have the same id"):
        scan_vctk(root, additional_folders=[tmp_path / "more", tmp_path / "again"])


def test_other_files_are_ignored_and_told(tmp_path, layout, caplog):
    root = small(tmp_path, layout)
    recordings = sound_path(root, layout, "p225_001").parent
    for name in ("p226_007.wav", "p225_notes.txt", "._p225_001.wav", ".DS_Store"):
        (recordings / name).touch()
    (recordings / "p225_008.m4a").touch()
    (recordings.parent / "log.txt").touch()
    with caplog.at_level(logging.WARNING):
        scan = scan_vctk(root)
    assert len(scan.utterances) == 4 and scan.counts["ignored_files"] == 3
    for words in ("1 .wav", "1 .txt", "1 file .m4a", "; ffmpeg -i p225_008.m4a p225_008.wav"):
        assert words in caplog.text


def test_one_utterance_in_two_files_is_refused(tmp_path):
    small(tmp_path, "0.80")
    (tmp_path / "wav48" / "p225" / "p225_003.flac").touch()
    with pytest.raises(UserError, match=r"p225_003\.flac and .*p225_003\.wav are the same"):
        scan_vctk(tmp_path)


def test_no_recordings(tmp_path, layout):
    root = small(tmp_path, layout)
    for utterance_id in ("p225_001", "p225_003", "p226_002", "p226_010"):
        sound_path(root, layout, utterance_id).unlink()
    with pytest.raises(UserError, match="holds no recordings"):
        scan_vctk(root)


def test_a_text_that_is_no_text_is_named(tmp_path, layout):
    root = small(tmp_path, layout)
    (root / "txt" / "p226" / "p226_002.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"p226_002\.txt is not UTF-8"):
        scan_vctk(root)


def test_links_to_other_disks_are_followed(tmp_path, layout):
    root = small(tmp_path / "vctk", layout)
    before = scan_vctk(root)
    sounds = sound_path(root, layout, "p225_001").parents[1]
    for place in (sounds / "p225", sounds, root / "txt"):  # a link to links
        place.rename(tmp_path / f"disk of {place.name}")
        place.symlink_to(tmp_path / f"disk of {place.name}")
    assert scan_vctk(root) == before
    (tmp_path / "elsewhere.opus").touch()
    sound_path(root, layout, "p225_011").with_suffix(".opus").symlink_to(
        tmp_path / "elsewhere.opus"
    )
    found = {u.id: u.source for u in scan_vctk(root).utterances}
    assert len(found) == 5 and found["p225_011"].endswith(".opus")
