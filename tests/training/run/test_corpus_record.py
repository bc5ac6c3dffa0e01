import json
import re

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.training.run.corpus_record import CorpusRecord, small_splits, split_facts

import pytest
from speechbrain.dataio.dataset import DynamicItemDataset

ENTRIES = {
    "a": {"num_samples": 8000, "text": "one", "path": "/corpus/a.wav"},
    "b": {"num_samples": 4000, "text": "two", "path": "/corpus/b.wav"},
}


def facts_of(entries):
    dataset = DynamicItemDataset(entries)
    return split_facts(dataset, lambda entry: entry["num_samples"] / 8000)


@pytest.mark.parametrize(
    ("clips", "seconds", "warned"), [(5, 30.0, False), (4, 300.0, True), (50, 29.9, True)]
)
def test_few_clips_and_few_seconds_are_said(clips, seconds, warned):
    split = {"clips": clips, "seconds": seconds}
    enough = {"clips": 100, "seconds": 1000.0}
    sentences = small_splits({"train": enough, "valid": split})
    assert [sentence.split(":")[0] for sentence in sentences] == ["valid"] * warned


CHANGES = [
    ({"b": {**ENTRIES["b"], "path": "/elsewhere/b.wav"}}, None),
    ({"b": {**ENTRIES["b"], "text": "three"}}, r"train had 2 clips, 1.5 s and has .*, others"),
    ({"b": {**ENTRIES["b"], "num_samples": 12000}}, r"2 clips, 1.5 s and has 2 clips, 2.5 s\)"),
    ({"c": ENTRIES["a"]}, r"2 clips, 1.5 s and has 3 clips, 2.5 s\)"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_another_corpus_than_that_of_the_checkpoint_is_said_once(tmp_path, caplog, change, said):
    same = facts_of({"z": ENTRIES["a"]})
    CorpusRecord({"train": facts_of(ENTRIES), "test": same}).save(tmp_path / "corpus.ckpt")
    json.loads((tmp_path / "corpus.ckpt").read_text())  # plain text: it executes nothing
    record = CorpusRecord({"train": facts_of({**ENTRIES, **change}), "test": same})
    for _ in range(2):  # resumed, and in the end its best checkpoint
        record.load(tmp_path / "corpus.ckpt")
    messages = [entry.getMessage() for entry in caplog.records]
    assert len(messages) == (said is not None)
    if said:
        assert re.search(said, messages[0]) and "test had" not in messages[0]


def test_the_order_of_the_clips_matters():
    """It decides what is drawn."""
    backwards = dict(reversed(ENTRIES.items()))
    assert facts_of(ENTRIES)["fingerprint"] != facts_of(backwards)["fingerprint"]
