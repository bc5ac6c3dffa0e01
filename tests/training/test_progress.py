"""What an epoch has gathered comes back as it was, and chance goes on where it stood."""

import random

from waveglow_vq.training.progress import Progress

import numpy as np
import pytest
import torch


class Model(torch.nn.Linear):
    """With a state of training beside its weights."""

    def __init__(self, state):
        super().__init__(1, 1)
        self.state = state

    def training_state(self):
        return {"recent": self.state}

    def load_training_state(self, state):
        self.state = state["recent"]


def numbers():
    return [float(torch.rand(())), random.random(), float(np.random.rand()), np.random.randn()]


@pytest.fixture
def progress():
    """That of an epoch in which something of everything has happened."""
    progress = Progress(Model(torch.tensor([3.0])))
    progress.begin(seed=1)
    for value, weight in ((2.0, 4), (5.0, 2)):
        progress.report({"nll": torch.tensor(value)}, weight)
        progress.end_step()
        progress.take()
    progress.report({"nll": torch.tensor(torch.nan)}, 4)
    progress.end_step()
    progress.drop()
    progress.restarted, progress.seconds = 7, 41.5
    for sentence in ("a.wav is cut off", "b.wav is missing", "a.wav is cut off"):
        progress.note_skipped_clip(sentence)
    np.random.randn()  # of which NumPy keeps a second one
    return progress


def test_an_epoch_goes_on_with_all_that_it_had(progress, tmp_path):
    progress.save(tmp_path / "progress.ckpt")
    expected = numbers()
    other = Progress(Model(torch.tensor([0.0])))
    other.begin(seed=2)
    other.report({"nll": torch.tensor(9.0)}, 3)
    other.load(tmp_path / "progress.ckpt", end_of_epoch=False)
    other.begin(seed=2)
    assert numbers() == expected
    assert other.means.summary() == progress.means.summary() == {"nll": 3.0}
    assert (other.units, other.restarted, other.skipped_steps, other.seconds) == (6, 7, 1, 41.5)
    assert other.skipped_clips == {"a.wav is cut off": 2, "b.wav is missing": 1}
    assert other.model.state.tolist() == [3.0]
    # What was reported before it was loaded is no part of it.
    other.end_step()
    other.take()
    assert other.units == 6
    # And the epoch after it begins again, but for what is told of the whole run.
    other.begin(seed=2)
    assert (other.units, other.restarted, other.skipped_steps, other.seconds) == (0, 0, 0, 0.0)
    assert other.means.summary() == {} and len(other.skipped_clips) == 2


def test_at_the_end_of_an_epoch_only_what_is_of_the_run_comes_back(progress, tmp_path):
    progress.save(tmp_path / "progress.ckpt")
    other = Progress(Model(torch.tensor([0.0])))
    other.note_skipped_clip("b.wav is missing")
    other.note_skipped_clip("b.wav is missing")
    other.seconds = 1.0
    other.load(tmp_path / "progress.ckpt", end_of_epoch=True)
    assert other.seconds == 1.0 and other.units == 0 and other.model.state.tolist() == [3.0]
    # The greater count: a best checkpoint is of some time before.
    assert other.skipped_clips == {"a.wav is cut off": 2, "b.wav is missing": 2}
    other.begin(seed=5)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.rand(3), expected)


def test_a_clip_is_new_once():
    progress = Progress(None)
    assert [progress.note_skipped_clip(name) for name in "aba"] == [True, True, False]


def test_a_run_of_fewer_processes_is_said(tmp_path, caplog):
    progress = Progress(Model(None))
    progress.units = 3
    progress.load(tmp_path / "progress.ckpt", end_of_epoch=False)
    assert "saved by fewer processes" in caplog.text and progress.units == 3
