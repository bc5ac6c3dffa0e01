from waveglow_vq.data.corpora.speaker_folders import Recording, normalize_sentence
from waveglow_vq.data.corpora.splits import (
    SplitOptions,
    choose_unseen,
    split_by_id,
    split_by_speaker,
)
from waveglow_vq.errors import UserError

import numpy as np
import pytest

NAMES = ("train", "valid", "test", "unseen")
RATIO = (90, 5, 5)
IDS = [f"LJ{chapter:03d}-{clip:04d}" for chapter in range(1, 51) for clip in range(1, 263)][:13100]


def split(recordings, *options, **more):
    """Splits the recordings of many speakers."""
    return split_by_speaker(recordings, SplitOptions(*options, **more))


def make(**clips):
    """Speakers with so many utterances each; all texts differ."""
    return [
        Recording(f"{speaker}_{n:03d}", speaker, "", "", f"Text {speaker} {n}.")
        for speaker, count in clips.items()
        for n in range(1, count + 1)
    ]


def sizes(splits, speaker=None):
    return tuple(sum(speaker in (None, u.speaker) for u in splits.parts[name]) for name in NAMES)


def where(splits):
    return {u.id: name for name, members in splits.parts.items() for u in members}


def test_shares_hold_within_every_speaker():
    splits = split(make(p1=100, p2=39, p3=20, p4=19, p5=1))
    assert sizes(splits, "p1") == (90, 5, 5, 0)
    assert sizes(splits, "p2") == (37, 1, 1, 0)
    assert sizes(splits, "p3") == (18, 1, 1, 0)  # floor of exactly one
    assert sizes(splits, "p4") == (19, 0, 0, 0)
    assert sizes(splits, "p5") == (1, 0, 0, 0)
    assert sum(sizes(splits)) == 179 and splits.dropped == {}


@pytest.mark.parametrize("ratio", [(90, 5, 5), (0.7, 0.1, 0.2), (1, 50, 49), (1, 1, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_who_is_evaluated_was_trained_on(ratio, seed):
    utterances = make(**{f"p{n}": n for n in range(1, 40)})
    splits = split(utterances, ratio, seed)
    trained = {u.speaker for u in splits.parts["train"]}
    assert trained == {u.speaker for u in utterances}
    assert sorted(where(splits)) == sorted(u.id for u in utterances)
    assert sum(sizes(splits)) == len(utterances)  # nothing is in two splits


def test_rounding_costs_no_clip():
    """0.29 of 100 is 29, though floats make 28.999... of it."""
    assert sizes(split(make(p1=100), (0.7, 0.29, 0.01))) == (70, 29, 1, 0)


def test_the_splits_depend_on_ids_and_seed_only():
    utterances = make(p1=100, p2=60)
    assert split(utterances[::-1]) == split(utterances)
    assert where(split(utterances, seed=1)) != where(split(utterances))
    # Another speaker moves nobody.
    alone = where(split(make(p1=100)))
    assert {i: n for i, n in where(split(utterances)).items() if i.startswith("p1_")} == alone


def test_a_hash_chooses_and_not_the_order():
    chosen = [u.id for u in split(make(p1=400)).parts["test"]]
    numbers = np.array([int(i[-3:]) for i in chosen])
    assert 120 < numbers.mean() < 280 and numbers.std() > 60


@pytest.mark.parametrize("seed", range(5))
def test_an_empty_split_gets_a_clip_of_the_largest_speaker(seed):
    splits = split(make(p1=1, p2=5, p3=7, p4=2), seed=seed)
    assert sizes(splits) == (13, 1, 1, 0)
    assert sizes(splits, "p3") == (5, 1, 1, 0)  # the largest both times
    assert sizes(split(make(p1=3, p2=3), (100, 0, 0))) == (6, 0, 0, 0)
    with pytest.raises(UserError, match="no speaker has enough utterances for the split valid"):
        split(make(p1=1, p2=1))


@pytest.mark.parametrize("ratio", [(90, 10), (90, 5, 5, 5), (0, 50, 50), (90, -5, 15)])
def test_wrong_shares_are_refused(ratio):
    with pytest.raises(UserError, match="split_ratio is"):
        split(make(p1=100), ratio)


def test_unseen_speakers_by_number():
    utterances = make(**{f"p{n}": 20 for n in range(30)})
    few, more = (
        {u.speaker for u in split(utterances, unseen_speakers=n).parts["unseen"]} for n in (3, 8)
    )
    assert len(few) == 3 and len(more) == 8 and few < more
    assert few != choose_unseen({u.speaker for u in utterances}, 3, seed=1)
    splits = split(utterances, unseen_speakers=8)
    assert sizes(splits) == (22 * 18, 22, 22, 160)
    assert not more & {u.speaker for n in NAMES[:3] for u in splits.parts[n]}


def test_unseen_speakers_by_label():
    utterances = make(p1=20, p2=20, p3=20) + [Recording("7-1", "7", "", "")]
    splits = split(utterances, unseen_speakers=["p2", 7])
    assert {u.speaker for u in splits.parts["unseen"]} == {"p2", "7"}
    assert {u.speaker for u in split(utterances, unseen_speakers="p3").parts["unseen"]} == {"p3"}


@pytest.mark.parametrize(
    ("unseen", "message"),
    [
        (["p9"], "unseen_speakers names p9, but the speakers are p1, p2"),
        (["p1", "p2"], "names all speakers"),
        (2, "unseen_speakers is 2, but there are 2 speakers"),
        (-1, "unseen_speakers is -1"),
    ],
)
def test_wrong_unseen_speakers(unseen, message):
    with pytest.raises(UserError, match=message):
        split(make(p1=20, p2=20), unseen_speakers=unseen)


def shared_sentences(speakers=12, shared=40, own=60):
    """As in VCTK: some sentences are read by everybody, with their own punctuation, others once."""
    utterances = []
    for s in range(speakers):
        for n in range(shared):
            text = f"Sentence number {n}." if s % 2 else f"  SENTENCE, number {n}!"
            utterances.append(Recording(f"p{s}_{n:03d}", f"p{s}", "", "", text))
        for n in range(shared, shared + own):
            utterances.append(Recording(f"p{s}_{n:03d}", f"p{s}", "", "", f"Only {s} reads {n}."))
    return utterances


def sentences(members):
    return {normalize_sentence(u.text) for u in members} - {""}


def test_no_sentence_is_in_two_splits():
    utterances = shared_sentences() + [Recording(f"p0_9{n}", "p0", "", "") for n in range(5)]
    plain = split(utterances, (80, 10, 10), unseen_speakers=2)
    assert sentences(plain.parts["train"]) & sentences(plain.parts["test"])
    assert sentences(plain.parts["train"]) & sentences(plain.parts["unseen"])
    splits = split(utterances, (80, 10, 10), unseen_speakers=2, disjoint_sentences=True)
    parts = {name: sentences(members) for name, members in splits.parts.items()}
    assert not parts["train"] & (parts["valid"] | parts["test"] | parts["unseen"])
    assert not parts["valid"] & parts["test"]
    assert all(size > 20 for size in sizes(splits))
    shares = np.array(sizes(splits)[:3]) / sum(sizes(splits)[:3])
    assert np.allclose(shares, (0.8, 0.1, 0.1), atol=0.06)
    # What is left out is told, and nothing else is.
    dropped = splits.dropped["sentence_in_train"]
    assert dropped and splits.dropped["no_training_clip"] == []
    assert sorted([*where(splits), *dropped]) == sorted(u.id for u in utterances)
    held_out = {u.speaker for u in splits.parts["unseen"]}
    assert all(i.split("_")[0] in held_out for i in dropped)


def test_without_text_there_is_only_train():
    utterances = [u._replace(text="") if u.speaker == "p3" else u for u in shared_sentences(4)]
    splits = split(utterances, (50, 25, 25), disjoint_sentences=True)
    assert sizes(splits, "p3") == (100, 0, 0, 0)
    assert sizes(splits, "p2")[1] > 0


def test_a_speaker_without_a_training_clip_is_left_out():
    """His only sentence went to another split with everybody else's."""
    utterances = shared_sentences(6)
    for n in range(40):  # one of these sentences is surely not in train
        utterances.append(Recording(f"x{n}_1", f"x{n}", "", "", f"Sentence number {n}"))
    splits = split(utterances, (60, 20, 20), disjoint_sentences=True)
    dropped = splits.dropped["no_training_clip"]
    assert 0 < len(dropped) < 40 and all(i.startswith("x") for i in dropped)
    trained = {u.speaker for u in splits.parts["train"]}
    assert {u.speaker for name in NAMES for u in splits.parts[name]} == trained
    assert sorted([*where(splits), *dropped]) == sorted(u.id for u in utterances)


def test_an_empty_split_gets_a_whole_sentence():
    utterances = shared_sentences(3, shared=4, own=0)
    splits = split(utterances, (98, 1, 1), disjoint_sentences=True)
    assert sizes(splits) == (6, 3, 3, 0)
    assert not sentences(splits.parts["train"]) & sentences(splits.parts["valid"])


# ---- by id


def by_id(ids, names=NAMES[:3], ratio=RATIO, seed=0):
    """The ids in each split."""
    parts, _ = split_by_id([Recording(key, "", "", "") for key in ids], names, ratio, seed)
    return {name: [r.id for r in members] for name, members in parts.items()}


def split_of(parts):
    return {key: name for name, ids in parts.items() for key in ids}


def test_splits_have_their_shares_and_lose_nothing():
    parts = by_id(IDS)
    assert sorted(sum(parts.values(), [])) == sorted(IDS)
    shares = [100 * len(parts[name]) / len(IDS) for name in NAMES[:3]]
    assert np.allclose(shares, RATIO, atol=0.6)


def test_splits_do_not_depend_on_the_order_of_the_list():
    assert by_id(IDS[::-1]) == by_id(IDS)


def test_a_new_clip_moves_no_other():
    before = split_of(by_id(IDS))
    after = split_of(by_id([*IDS, "AA000-0000"]))
    assert all(after[clip_id] == name for clip_id, name in before.items())


def test_seed_changes_the_splits():
    assert by_id(IDS, seed=0) != by_id(IDS, seed=1)


@pytest.mark.parametrize("number", [3, 4, 7, 12])
@pytest.mark.parametrize("seed", range(5))
def test_no_split_of_a_tiny_corpus_is_empty(number, seed):
    parts = by_id(IDS[:number], seed=seed)
    assert all(parts.values())
    assert sorted(sum(parts.values(), [])) == sorted(IDS[:number])


def test_a_share_of_zero_stays_empty():
    parts = by_id(IDS[:500], NAMES[:3], (90, 10, 0))
    assert parts["test"] == [] and parts["valid"]


@pytest.mark.parametrize(
    ("names", "ratio"),
    [(("a", "a"), (1, 1)), (("a", "b"), (1,)), (("a", "b"), (1, -1)), (("a",), (0,)), ((), ())],
)
def test_wrong_splits_are_refused(names, ratio):
    with pytest.raises(UserError, match="splits"):
        by_id(IDS, names, ratio)


def test_more_splits_than_clips_are_refused():
    with pytest.raises(UserError, match="only 2 recordings"):
        by_id(IDS[:2])
