"""The speakers of a corpus: their labels, in the order of their numbers, and their pitch."""

import json
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.speaker_condition import UNKNOWN

import torch

SPEAKERS_FILE = "speakers.json"


class Speakers(NamedTuple):
    """What a model has to know of its speakers.

    Arguments
    ---------
    labels : list of str
        In the order of their numbers.
    f0_statistics : torch.Tensor
        Mean and standard deviation of each one's log-F0, ``[speakers, 2]``.
    train_clips : list of int
        How many clips there are of each to train on.

    Example
    -------
    >>> speakers = Speakers(["p225", "p226"], torch.tensor([[5.1, 0.2], [4.7, 0.2]]), [9, 8])
    >>> speakers.number("p226"), speakers.number("p999")
    (1, -1)
    """

    labels: list
    f0_statistics: torch.Tensor
    train_clips: list

    def number(self, label):
        """The number of a speaker; -1 for one that was not trained on."""
        return self.labels.index(label) if label in self.labels else UNKNOWN


def read_speakers(manifest_folder):
    """Reads speakers.json, which the preparation of a corpus of several speakers leaves."""
    path = Path(manifest_folder) / SPEAKERS_FILE
    try:
        entries = json.loads(path.read_text("utf-8"))
        labels = sorted(entries)
        statistics = [[entries[x]["log_f0_mean"], entries[x]["log_f0_std"]] for x in labels]
        statistics = torch.tensor(statistics, dtype=torch.float32)
        clips = [int(entries[x]["train_clips"]) for x in labels]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}); prepare the corpus again") from None
    if not labels:
        raise UserError(f"{path} lists no speakers; prepare the corpus again")
    return Speakers(labels, statistics, clips)
