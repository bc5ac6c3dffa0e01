import json
import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.utterances import (
    RecordedUtterance,
    by_speaker,
    choose,
    choose_sources,
    log_f0_of,
    read_manifests,
    read_source,
)

import numpy as np
import pytest

from tests.evaluation.tiny_corpus import LABELS, SECONDS


def test_manifests_are_read(corpus):
    audio, manifests = corpus
    found = read_manifests(manifests, audio, LABELS)
    assert {name: len(utterances) for name, utterances in found.items()} == {
        "train": 9, "valid": 3, "test": 6, "unseen": 2,
    }  # fmt: skip
    first = found["train"][0]
    assert first.speaker == "high" and first.seen and first.text == "one two three"
    assert first.path == str(audio / "high" / f"{first.name}.wav")
    assert [u.name for u in found["train"]] == sorted(u.name for u in found["train"])
    assert not any(u.seen for u in found["unseen"])
    # A speaker whom the model does not know is unseen, wherever it stands.
    found = read_manifests(manifests, audio, ["low", "near"])
    assert {u.speaker for u in found["train"] if not u.seen} == {"high"}


def test_bad_manifests(corpus, tmp_path):
    audio, manifests = corpus
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.json").write_text((manifests / f"{name}.json").read_text())
    # Without unseen speakers there may be no file.
    assert read_manifests(tmp_path, audio, LABELS)["unseen"] == []
    (tmp_path / "valid.json").write_text("{")
    with pytest.raises(UserError, match=r"valid.json cannot be read .*prepare the corpus again"):
        read_manifests(tmp_path, audio, LABELS)
    (tmp_path / "valid.json").write_text(json.dumps({"x": {"wav": "{data_root}/x.wav"}}))
    with pytest.raises(UserError, match="valid.json: x has no wav or no speaker"):
        read_manifests(tmp_path, audio, LABELS)
    for key in ("wav", "pitch"):
        entry = {"wav": "{data_root}/x.wav", "speaker": "low", key: "{data_root}/../secret"}
        (tmp_path / "valid.json").write_text(json.dumps({"x": entry}))
        with pytest.raises(UserError, match="x names a file outside of"):
            read_manifests(tmp_path, audio, LABELS)
    (tmp_path / "test.json").unlink()
    (tmp_path / "valid.json").write_text("{}")
    with pytest.raises(UserError, match="test.json cannot be read"):
        read_manifests(tmp_path, audio, LABELS)


def utterances(counts, text="", seen=True):
    return [
        RecordedUtterance(f"{speaker}{number}", speaker, "", text, None, seen)
        for speaker, count in counts.items()
        for number in range(count)
    ]


def test_choice_is_of_the_seed():
    items = list(range(100))
    drawn = choose(items, 10, "a")
    assert len(set(drawn)) == 10 and drawn == sorted(drawn) == choose(items, 10, "a")
    assert drawn != choose(items, 10, "b")
    assert choose(items, None, 0) == choose(items, 100, 0) == items
    assert choose(items, 0, 0) == [] == choose([], 3, 0)


def test_sources_are_spread_over_kinds_and_speakers():
    seen = utterances({"a": 10, "b": 3, "c": 3})
    unseen = utterances({"x": 4, "y": 1}, seen=False)
    chosen = choose_sources(unseen + seen, None, 12, seed=0)
    counts = {speaker: len(of_speaker) for speaker, of_speaker in by_speaker(chosen).items()}
    # Five of unseen speakers are all there are; the other seven: each speaker in turn.
    assert counts in ({"a": 3, "b": 2, "c": 2, "x": 4, "y": 1},)
    assert [u.seen for u in chosen] == [True] * 7 + [False] * 5
    assert chosen == choose_sources(unseen + seen, None, 12, seed=0)
    assert chosen != choose_sources(unseen + seen, None, 12, seed=1)
    assert len(choose_sources(unseen + seen, None, None, seed=0)) == 21
    assert len(by_speaker(choose_sources(unseen + seen, 1, None, seed=0))) == 2
    assert len(choose_sources(seen, None, 4, seed=0)) == 4


def test_sources_with_a_text_come_first():
    silent, spoken = utterances({"a": 5}), utterances({"b": 1, "a_": 1}, text="words")
    spoken = [u._replace(speaker="a") for u in spoken]
    for seed in range(10):
        chosen = choose_sources(silent + spoken, None, 3, seed)
        assert sum(bool(u.text) for u in chosen) == 2


def test_pitch_is_read_or_tracked(corpus, tmp_path):
    audio, manifests = corpus
    utterance = read_manifests(manifests, audio, LABELS)["train"][0]
    features = LogMel()
    # What the preparation says is constant; what is tracked is not.
    assert set(log_f0_of(utterance, features).tolist()) == {float(np.float32(math.log(230)))}
    for pitch in (None, str(tmp_path / "gone.npy")):
        tracked = log_f0_of(utterance._replace(pitch=pitch), features)
        assert tracked.std() > 0.01 and abs(float(tracked.median()) - math.log(230)) < 0.2
    (tmp_path / "bad.npy").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="bad.npy cannot be read"):
        log_f0_of(utterance._replace(pitch=str(tmp_path / "bad.npy")), features)


def test_sound_is_read_at_the_rate_of_the_features(corpus):
    audio, manifests = corpus
    utterance = read_manifests(manifests, audio, LABELS)["train"][0]
    assert read_source(utterance, LogMel()).shape == (int(SECONDS * 22050),)
    with pytest.raises(UserError, match="22050 Hz where 16000 Hz"):
        read_source(utterance, LogMel(sample_rate=16000))
