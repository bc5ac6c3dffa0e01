import math

from waveglow_vq.data.corpora.preparation import Sound
from waveglow_vq.data.corpora.prepared_audio import PreparedAudio
from waveglow_vq.data.corpora.speaker_folders import Utterance, normalize_sentence
from waveglow_vq.data.corpora.splits import choose_unseen, divide, make_manifests, pool_log_f0
from waveglow_vq.errors import UserError

import numpy as np
import pytest

NAMES = ("train", "valid", "test", "unseen")


def make(**clips):
    """Speakers with so many utterances each; all texts differ."""
    return [
        Utterance(f"{speaker}_{n:03d}", speaker, "", "", f"Text {speaker} {n}.")
        for speaker, count in clips.items()
        for n in range(1, count + 1)
    ]


def sizes(division, speaker=None):
    return tuple(sum(speaker in (None, u.speaker) for u in division.parts[name]) for name in NAMES)


def where(division):
    return {u.id: name for name, members in division.parts.items() for u in members}


def test_shares_hold_within_every_speaker():
    division = divide(make(p1=100, p2=39, p3=20, p4=19, p5=1))
    assert sizes(division, "p1") == (90, 5, 5, 0)
    assert sizes(division, "p2") == (37, 1, 1, 0)
    assert sizes(division, "p3") == (18, 1, 1, 0)  # floor of exactly one
    assert sizes(division, "p4") == (19, 0, 0, 0)
    assert sizes(division, "p5") == (1, 0, 0, 0)
    assert sum(sizes(division)) == 179 and division.dropped == {}


@pytest.mark.parametrize("ratio", [(90, 5, 5), (0.7, 0.1, 0.2), (1, 50, 49), (1, 1, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_who_is_evaluated_was_trained_on(ratio, seed):
    utterances = make(**{f"p{n}": n for n in range(1, 40)})
    division = divide(utterances, ratio, seed)
    trained = {u.speaker for u in division.parts["train"]}
    assert trained == {u.speaker for u in utterances}
    assert sorted(where(division)) == sorted(u.id for u in utterances)
    assert sum(sizes(division)) == len(utterances)  # nothing is in two splits


def test_rounding_costs_no_clip():
    """0.29 of 100 is 29, though floats make 28.999... of it."""
    assert sizes(divide(make(p1=100), (0.7, 0.29, 0.01))) == (70, 29, 1, 0)


def test_the_division_depends_on_ids_and_seed_only():
    utterances = make(p1=100, p2=60)
    assert divide(utterances[::-1]) == divide(utterances)
    assert where(divide(utterances, seed=1)) != where(divide(utterances))
    # Another speaker moves nobody.
    alone = where(divide(make(p1=100)))
    assert {i: n for i, n in where(divide(utterances)).items() if i.startswith("p1_")} == alone


def test_a_hash_chooses_and_not_the_order():
    chosen = [u.id for u in divide(make(p1=400)).parts["test"]]
    numbers = np.array([int(i[-3:]) for i in chosen])
    assert 120 < numbers.mean() < 280 and numbers.std() > 60


@pytest.mark.parametrize("seed", range(5))
def test_an_empty_split_gets_a_clip_of_the_largest_speaker(seed):
    division = divide(make(p1=1, p2=5, p3=7, p4=2), seed=seed)
    assert sizes(division) == (13, 1, 1, 0)
    assert sizes(division, "p3") == (5, 1, 1, 0)  # the largest both times
    assert sizes(divide(make(p1=3, p2=3), (100, 0, 0))) == (6, 0, 0, 0)
    with pytest.raises(UserError, match="no speaker has enough utterances for the split valid"):
        divide(make(p1=1, p2=1))


@pytest.mark.parametrize("ratio", [(90, 10), (90, 5, 5, 5), (0, 50, 50), (90, -5, 15)])
def test_wrong_shares_are_refused(ratio):
    with pytest.raises(UserError, match="split_ratio is"):
        divide(make(p1=100), ratio)


def test_unseen_speakers_by_number():
    utterances = make(**{f"p{n}": 20 for n in range(30)})
    few, more = (
        {u.speaker for u in divide(utterances, unseen_speakers=n).parts["unseen"]} for n in (3, 8)
    )
    assert len(few) == 3 and len(more) == 8 and few < more
    assert few != choose_unseen({u.speaker for u in utterances}, 3, seed=1)
    division = divide(utterances, unseen_speakers=8)
    assert sizes(division) == (22 * 18, 22, 22, 160)
    assert not more & {u.speaker for n in NAMES[:3] for u in division.parts[n]}


def test_unseen_speakers_by_label():
    utterances = make(p1=20, p2=20, p3=20) + [Utterance("7-1", "7", "", "")]
    division = divide(utterances, unseen_speakers=["p2", 7])
    assert {u.speaker for u in division.parts["unseen"]} == {"p2", "7"}
    assert {u.speaker for u in divide(utterances, unseen_speakers="p3").parts["unseen"]} == {"p3"}


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
        divide(make(p1=20, p2=20), unseen_speakers=unseen)


def shared_sentences(speakers=12, shared=40, own=60):
    """As in VCTK: some sentences are read by everybody, with their own punctuation, others once."""
    utterances = []
    for s in range(speakers):
        for n in range(shared):
            text = f"Sentence number {n}." if s % 2 else f"  SENTENCE, number {n}!"
            utterances.append(Utterance(f"p{s}_{n:03d}", f"p{s}", "", "", text))
        for n in range(shared, shared + own):
            utterances.append(Utterance(f"p{s}_{n:03d}", f"p{s}", "", "", f"Only {s} reads {n}."))
    return utterances


def sentences(members):
    return {normalize_sentence(u.text) for u in members} - {""}


def test_no_sentence_is_in_two_splits():
    utterances = shared_sentences() + [Utterance(f"p0_9{n}", "p0", "", "") for n in range(5)]
    plain = divide(utterances, (80, 10, 10), unseen_speakers=2)
    assert sentences(plain.parts["train"]) & sentences(plain.parts["test"])
    assert sentences(plain.parts["train"]) & sentences(plain.parts["unseen"])
    division = divide(utterances, (80, 10, 10), unseen_speakers=2, disjoint_sentences=True)
    parts = {name: sentences(members) for name, members in division.parts.items()}
    assert not parts["train"] & (parts["valid"] | parts["test"] | parts["unseen"])
    assert not parts["valid"] & parts["test"]
    assert all(size > 20 for size in sizes(division))
    shares = np.array(sizes(division)[:3]) / sum(sizes(division)[:3])
    assert np.allclose(shares, (0.8, 0.1, 0.1), atol=0.06)
    # What is left out is told, and nothing else is.
    dropped = division.dropped["sentence_in_train"]
    assert dropped and division.dropped["no_training_clip"] == []
    assert sorted([*where(division), *dropped]) == sorted(u.id for u in utterances)
    held_out = {u.speaker for u in division.parts["unseen"]}
    assert all(i.split("_")[0] in held_out for i in dropped)


def test_without_text_there_is_only_train():
    utterances = [u._replace(text="") if u.speaker == "p3" else u for u in shared_sentences(4)]
    division = divide(utterances, (50, 25, 25), disjoint_sentences=True)
    assert sizes(division, "p3") == (100, 0, 0, 0)
    assert sizes(division, "p2")[1] > 0


def test_a_speaker_without_a_training_clip_is_left_out():
    """His only sentence went to another split with everybody else's."""
    utterances = shared_sentences(6)
    for n in range(40):  # one of these sentences is surely not in train
        utterances.append(Utterance(f"x{n}_1", f"x{n}", "", "", f"Sentence number {n}"))
    division = divide(utterances, (60, 20, 20), disjoint_sentences=True)
    dropped = division.dropped["no_training_clip"]
    assert 0 < len(dropped) < 40 and all(i.startswith("x") for i in dropped)
    trained = {u.speaker for u in division.parts["train"]}
    assert {u.speaker for name in NAMES for u in division.parts[name]} == trained
    assert sorted([*where(division), *dropped]) == sorted(u.id for u in utterances)


def test_an_empty_split_gets_a_whole_sentence():
    utterances = shared_sentences(3, shared=4, own=0)
    division = divide(utterances, (98, 1, 1), disjoint_sentences=True)
    assert sizes(division) == (6, 3, 3, 0)
    assert not sentences(division.parts["train"]) & sentences(division.parts["valid"])


def prepared(frames, mean, std, samples=25_600):
    return PreparedAudio(Sound(samples, 0.5, -20.0), frames, mean, std)


def test_pooled_statistics_are_those_of_all_frames():
    noise = np.random.default_rng(0)
    clips = [noise.normal(mean, 0.2, count) for mean, count in ((5.0, 30), (5.4, 200), (4.9, 7))]
    pooled = pool_log_f0(prepared(len(c), c.mean(), c.std()) for c in clips)
    assert pooled == pytest.approx((np.concatenate(clips).mean(), np.concatenate(clips).std()))
    assert pool_log_f0([prepared(0, 0.0, 0.0)]) is None
    assert pool_log_f0([prepared(9, 5.0, 0.0)]) == (5.0, 0.05)


def test_manifests():
    a, b, c, d, e = (Utterance(i, i[0], "", "", "hi") for i in ("a_1", "a_2", "b_1", "a_3", "c_1"))
    info = {"a": {"age": 23, "gender": "F", "accent": "English", "region": None}, "c": {"age": 1}}
    measured = {
        "a_1": prepared(100, 5.0, 0.1, samples=44_100),
        "a_2": prepared(0, 0.0, 0.0),
        "b_1": prepared(300, 5.4, 0.3),
        "a_3": prepared(50, 9.0, 0.1),
        "c_1": prepared(50, 4.0, 0.01),
    }
    parts = {"train": [a, b, c], "valid": [], "test": [d], "unseen": [e]}
    manifests, speakers = make_manifests(parts, measured, info, 22050)
    assert manifests["train"]["a_1"] == {
        "wav": "{data_root}/a/a_1.wav",
        "num_samples": 44_100,
        "duration": 2.0,
        "text": "hi",
        "speaker": "a",
        "pitch": "{data_root}/a/a_1.pitch.npy",
        "log_f0_mean": pytest.approx(5.0),
        "log_f0_std": pytest.approx(0.1),
    }
    # Unvoiced throughout: the statistics of all of train (5.0 and 5.4, weighted 1 to 3).
    std = math.sqrt((100 * 0.01 + 300 * 0.09) / 400 + 0.25 * 0.75 * 0.16)
    unvoiced = manifests["train"]["a_2"]
    assert (unvoiced["log_f0_mean"], unvoiced["log_f0_std"]) == pytest.approx((5.3, std))
    assert manifests["unseen"]["c_1"]["log_f0_std"] == 0.05
    assert list(speakers) == ["a", "b"] and manifests["valid"] == {}
    assert speakers["a"] == {
        "train_clips": 2,
        "log_f0_mean": pytest.approx(5.0),  # the test clip does not count
        "log_f0_std": pytest.approx(0.1),
        "age": 23,
        "gender": "F",
        "accent": "English",
        "region": None,
    }
    assert speakers["b"]["gender"] is None


def test_a_corpus_in_which_nothing_is_voiced():
    u = Utterance("a_1", "a", "", "")
    parts = {"train": [u], "valid": [], "test": [], "unseen": []}
    manifests, speakers = make_manifests(parts, {"a_1": prepared(0, 0.0, 0.0)}, {}, 22050)
    assert manifests["train"]["a_1"]["log_f0_std"] > 0 and speakers["a"]["log_f0_mean"] > 4
