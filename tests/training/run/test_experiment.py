import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import types

from waveglow_vq.errors import UserError
from waveglow_vq.signals import Stopped
from waveglow_vq.training.base_brain import RunStopped
from waveglow_vq.training.run import experiment
from waveglow_vq.training.run.experiment import worker_errors
from waveglow_vq.training.run.guards import write_errors
from waveglow_vq.utils.read_tracking import note_reading

import pytest
import torch


class BrokenDataset(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UserError("a.wav: is truncated")


def test_errors_of_data_loader_processes_become_sentences_again():
    loader = torch.utils.data.DataLoader(BrokenDataset(), num_workers=1)
    with pytest.raises(UserError) as caught, worker_errors():
        list(loader)
    assert str(caught.value) == "a.wav: is truncated"


class DeadlyDataset(torch.utils.data.Dataset):
    """Reading one of its files kills the process that reads."""

    def __init__(self, folder, way_to_die):
        self.folder, self.way_to_die = folder, way_to_die

    def __len__(self):
        return 8

    def __getitem__(self, index):
        note_reading(str(self.folder / f"clip{index}.wav"))
        if index == 5:
            self.way_to_die()
        return index


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    os._exit(3)


# As a crash of a decoder; a core dump is of no use to anybody.
def crash():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


# Where the news of the death arrives in a destructor, torch finds out for itself later.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way_to_die", [be_killed, leave, crash])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_death_of_a_data_loaders_process_names_its_file(tmp_path, way_to_die, num_workers):
    note_reading("main.wav")
    loader = torch.utils.data.DataLoader(
        DeadlyDataset(tmp_path, way_to_die), num_workers=num_workers
    )
    # As in training: the second layer takes what a signal raises while the first one is left.
    with pytest.raises(UserError) as caught, worker_errors(), write_errors():
        list(loader)
    sentence = str(caught.value)
    # Where torch does not say who died, whatever the others were reading is named too.
    assert "clip5.wav" in sentence and "main.wav" not in sentence
    assert "--num_workers" in sentence and "the last checkpoint" in sentence


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pipe_that_breaks_first_is_reported_as_the_death(tmp_path, monkeypatch):
    """The process dies only once the pipe has broken."""
    monkeypatch.setattr(experiment, "PATIENCE", 600)

    def wait_and_die():
        while not (tmp_path / "broken").exists():
            time.sleep(0.01)
        time.sleep(0.3)
        be_killed()

    loader = iter(torch.utils.data.DataLoader(DeadlyDataset(tmp_path, wait_and_die), num_workers=1))
    for _ in range(5):
        next(loader)
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with pytest.raises(UserError, match="clip5.wav"), worker_errors():
        (tmp_path / "broken").touch()
        ours.recv()


def test_a_pipe_that_breaks_without_further_news_is_reported_too(monkeypatch):
    monkeypatch.setattr(experiment, "PATIENCE", 0.01)
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with pytest.raises(UserError, match=r"is gone \(its pipe has closed\)"), worker_errors():
        ours.recv()


def test_other_errors_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(experiment, "PATIENCE", 1e9)
    for error in (RuntimeError("CUDA out of memory"), ConnectionResetError("elsewhere")):
        with pytest.raises(type(error)) as caught, worker_errors():
            raise error
        assert caught.value is error


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Stopped(signal.SIGTERM)])
def test_a_run_that_is_stopped_in_its_test_says_that_it_is_trained(stop):
    def interrupted(*arguments, **options):
        raise stop

    brain = types.SimpleNamespace(
        device_type="cpu",
        hparams=types.SimpleNamespace(epoch_counter=[], num_workers=0),
        know_corpus=lambda **splits: None,
        fit=lambda *arguments, **options: None,
        evaluate=interrupted,
    )
    with pytest.raises(RunStopped, match="training is finished and saved") as stopped:
        experiment.train_and_test(brain, None, None, None)
    assert stopped.value.status == (143 if isinstance(stop, Stopped) else 130)


# In a process of its own: the order of imports matters too.
LEAVING = """
from waveglow_vq.training.run.experiment import leave_processes
import types, weakref
import torch
torch.distributed.init_process_group(
    "gloo", init_method="file://{folder}/rendezvous", rank=0, world_size=1
)
model = torch.nn.Linear(1, 1)
modules = torch.nn.ModuleDict({{"model": torch.nn.parallel.DistributedDataParallel(model)}})
modules["model"](torch.ones(1, 1)).sum().backward()
group = weakref.ref(torch.distributed.group.WORLD)
leave_processes(types.SimpleNamespace(modules=modules))
assert modules["model"] is model
assert group() is None, "the group outlives the training"
"""


def test_nothing_of_the_group_of_processes_outlives_the_training(tmp_path):
    script = LEAVING.format(folder=tmp_path)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
