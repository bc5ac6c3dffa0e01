"""Several corpora of different layouts, taken together."""

from waveglow_vq.data.corpora.collection import corpus_layout, scan_corpora
from waveglow_vq.data.corpora.speaker_folders import Recording
from waveglow_vq.data.corpora.splits import SplitOptions, split_voices
from waveglow_vq.errors import UserError

import pytest

from tests.data.corpora.vctk_tree import write_info, write_sound, write_text


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def corpora(tmp_path):
    """One of each layout; both copies of VCTK have p225_001."""
    one = touch(tmp_path / "Anna", "wavs/a1_x.flac", "wavs/a2_x.flac")
    (one / "metadata.csv").write_text("a1_x|One.|One.\na2_x|Two.|Two.\n", "utf-8")
    folders = [one]
    for layout, ids in (("0.80", ["p225_001", "p226_001"]), ("0.92", ["p225_001", "p225_002"])):
        root = tmp_path / layout
        for key in ids:
            write_sound(root, layout, key)
            write_text(root, key, f"Text of {key}.")
        write_info(root, layout, [("p225", "23  F    English    Surrey")])
        folders.append(root)
    folders.append(
        touch(tmp_path / "libri", "train/103-1-0001.flac", "train/7-1-0001.flac", "LICENSE")
    )
    folders.append(touch(tmp_path / "more", "7/x.wav", "bert/a/1.wav", "p226/p226_001.wav"))
    return folders


def test_every_layout_is_known(corpora):
    layouts = ["LJSpeech", "VCTK", "VCTK", "speakers", "speakers"]
    assert [corpus_layout(folder)[0] for folder in corpora] == layouts
    corpus = scan_corpora(corpora)
    assert [(u.speaker, u.id) for u in corpus.utterances] == [
        ("103", "103-1-0001"),
        ("7", "7-1-0001"),
        ("Anna", "a1_x"),
        ("Anna", "a2_x"),
        ("bert", "bert_a_1"),
        # Another speaker of the name, and another recording.
        ("more-7", "7_x"),
        ("more-p226", "more-p226_001"),
        ("p225", "p225_001"),
        ("p225", "p225_002"),
        ("p226", "p226_001"),
    ]
    assert corpus.single_voices == ("Anna",)
    assert corpus.origins["p225_001"] == "0.80" and corpus.origins["p225_002"] == "0.92"
    assert [entry["in_another_copy"] for entry in corpus.counts["corpora"]] == [0, 0, 1, 0, 0]
    assert [entry["layout"] for entry in corpus.counts["corpora"]][3] == "LibriSpeech"
    assert {u.id: u.text for u in corpus.utterances}["a1_x"] == "One."
    assert corpus.info["p225"]["region"] == "Surrey" and "more-p226" not in corpus.info


def test_some_speakers_and_mistakes(corpora, tmp_path):
    assert [u.id for u in scan_corpora(corpora, speakers=[103, "Anna"]).utterances] == [
        "103-1-0001",
        "a1_x",
        "a2_x",
    ]
    with pytest.raises(UserError, match="twice"):
        scan_corpora([corpora[0], f"{corpora[0]}/"])
    with pytest.raises(UserError, match="nowhere does not exist"):
        scan_corpora([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="--data_folders"):
        scan_corpora([])


# ---- splits by voice


def voices(many=60, clips=5, prompts=100):
    """Many speakers, and one who says every prompt twice."""
    recordings = [
        Recording(f"s{n}_{k}", f"s{n}", "", "") for n in range(many) for k in range(clips)
    ]
    recordings += [
        Recording(f"anna_{k:03d}_{take}", "anna", "", "", f"Prompt {k}.")
        for k in range(prompts)
        for take in (1, 2)
    ]
    return recordings


def split(recordings, **options):
    options = SplitOptions(split_by="voice", **options).checked()
    return split_voices(recordings, options, ("anna",)).parts


def test_no_speaker_and_no_prompt_is_in_two_splits():
    recordings = voices()
    parts = split(recordings, split_ratio=(80, 10, 10))
    where = {}
    for name, members in parts.items():
        for r in members:
            unit = r.text if r.speaker == "anna" else r.speaker
            assert where.setdefault(unit, name) == name
    assert sum(map(len, parts.values())) == len(recordings)
    for name in ("train", "valid", "test"):
        assert {r.speaker == "anna" for r in parts[name]} == {True, False}
    # More recordings move none of those before.
    more = split(voices(many=90), split_ratio=(80, 10, 10))
    assert {r.id for r in parts["test"]} <= {r.id for r in more["test"]}


def test_what_is_held_out_by_name_is_tested():
    parts = split(
        voices(),
        split_ratio=(100, 0, 0),
        held_out_speakers=["s3"],
        held_out_clips=["anna_007", "s5_2"],
        unseen_speakers=["s9"],
    )
    # A clip brings the rest of its prompt, or of its speaker.
    assert {r.id for r in parts["test"]} == (
        {f"s{n}_{k}" for n in (3, 5) for k in range(5)} | {"anna_007_1", "anna_007_2"}
    )
    assert {r.speaker for r in parts["unseen"]} == {"s9"}
    assert not parts["valid"] and len(parts["train"]) == 500 - 12 - 5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"held_out_speakers": ["s99"]}, "held_out_speakers names s99"),
        ({"held_out_clips": ["anna_00"]}, "held_out_clips names anna_00"),
        ({"split_by": "clip", "held_out_clips": ["anna_007"]}, "need split_by: voice"),
        ({"split_by": "prompt"}, "split_by: 'prompt'"),
        ({"disjoint_sentences": True}, "disjoint_sentences"),
    ],
)
def test_mistakes_in_splits(options, named):
    with pytest.raises(UserError, match=named):
        split_voices(
            voices(), SplitOptions(**{"split_by": "voice", **options}).checked(), ("anna",)
        )
