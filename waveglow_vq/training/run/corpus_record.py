"""The corpus of a run: warns of splits that are too small and of a corpus that has changed since
the last checkpoint.
"""

import hashlib
import json
from pathlib import Path

from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# Results of smaller splits say little.
LEAST_CLIPS, LEAST_SECONDS = 5, 30.0
# What identifies an utterance beside its id, wherever its file lies.
_IDENTITY = ("num_samples", "samples", "text", "speaker_label")


def split_facts(dataset, seconds_of):
    """The ``clips`` and ``seconds`` of a split, and a ``fingerprint`` of its ordered utterances.

    Example
    -------
    >>> from speechbrain.dataio.dataset import DynamicItemDataset
    >>> dataset = DynamicItemDataset({"a": {"num_samples": 4000}, "b": {"num_samples": 8000}})
    >>> facts = split_facts(dataset, lambda entry: entry["num_samples"] / 8000)
    >>> facts["clips"], facts["seconds"]
    (2, 1.5)
    """
    digest, seconds = hashlib.sha256(), 0.0
    for key in dataset.data_ids:
        entry = dataset.data[key]
        known = [key, *(entry.get(name) for name in _IDENTITY)]
        digest.update(json.dumps(known).encode())
        seconds += seconds_of(entry)
    return {
        "clips": len(dataset),
        "seconds": round(float(seconds), 3),
        "fingerprint": digest.hexdigest(),
    }


def small_splits(facts):
    """A warning for each split of fewer than 5 clips or 30 s.

    Example
    -------
    >>> small_splits({"valid": {"clips": 5, "seconds": 30.0}, "test": {"clips": 4, "seconds": 99}})
    ['test: 4 clips, 99.0 s in all; results on so few say little: give a larger corpus ...']
    """
    consequences = {"train": "a model learns next to nothing from so few"}
    remedies = {"valid": ", another split_ratio or a greater max_valid_utterances"}
    return [
        f"{name}: {_amount(split)} in all; "
        f"{consequences.get(name, 'results on so few say little')}: give a larger corpus"
        f"{remedies.get(name, ' or another split_ratio')}"
        for name, split in facts.items()
        if split["clips"] < LEAST_CLIPS or split["seconds"] < LEAST_SECONDS
    ]


def _amount(split):
    return f"{split['clips']:,} clip{'s' * (split['clips'] != 1)}, {split['seconds']:.1f} s"


@register_checkpoint_hooks
class CorpusRecord:
    """Part of a checkpoint: the splits of its run. If others are in use when it is loaded, a
    warning says so, once. ``facts`` holds the :func:`split_facts` by name of the split.
    """

    def __init__(self, facts):
        self.facts = facts
        self.compared = False

    @mark_as_saver
    def save(self, path):
        """Writes the facts of the splits."""
        Path(path).write_text(json.dumps(self.facts), "utf-8")

    @mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Compares them with those in use."""
        if self.compared:
            return
        self.compared = True
        before = json.loads(Path(path).read_text("utf-8"))
        changes = [
            f"{name} had {_amount(old)} and has {_amount(new)}"
            + (", others" if _amount(old) == _amount(new) else "")
            for name, old in before.items()
            if (new := self.facts.get(name, old))["fingerprint"] != old["fingerprint"]
        ]
        if changes:
            logger.warning(
                f"the corpus has changed since this run began ({'; '.join(changes)}): training "
                "continues on the new one, clips may have moved between splits, and results from "
                "before and after cannot be compared; for a new run, give another --output_folder"
            )
