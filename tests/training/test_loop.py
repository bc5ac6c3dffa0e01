"""The training loop itself, on a model of one weight."""

import functools
import itertools
import os
import signal
import sys
from types import SimpleNamespace

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.signals import Stopped, held_signals, noted_signal, shield_loader_process
from waveglow_vq.training.base_brain import BaseBrain, RunStopped
from waveglow_vq.training.checkpointing import KillSafeCheckpointer

import pytest
import speechbrain as sb
import torch

from tests.training.forks import fork, together, wait

pytestmark = pytest.mark.usefixtures("heeded_signals")


class Line(BaseBrain):
    """Notes which step is saved, and does something after a step of the training or a batch of the
    validation."""

    saved, after, late = (), {}, False

    def compute_forward(self, batch, stage):
        return self.modules.model(batch)

    def compute_objectives(self, predictions, batch, stage):
        return predictions.square().mean()

    def on_fit_batch_end(self, *arguments):
        super().on_fit_batch_end(*arguments)
        self.after.get(self.step, int)()

    def evaluate_batch(self, batch, stage):
        loss = super().evaluate_batch(batch, stage)
        self.after.get("valid", int)()
        return loss

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == sb.Stage.TRAIN:
            self.trained = self.step, self.avg_train_loss
        elif stage == sb.Stage.VALID:
            self.stop_if_asked()

    def may_read_late(self):
        return self.late

    def _save_intra_epoch_ckpt(self):
        self.saved += (self.step,)
        super()._save_intra_epoch_ckpt()


def fit(folder, batches=6, valid=(), after=(), late=False, **options):
    model = torch.nn.Linear(1, 1)
    checkpointer = KillSafeCheckpointer(folder, {"model": model})
    run_opts = {"device": "cpu", "noprogressbar": True, **options}
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, fused=late)
    brain = Line({"model": model}, optimizer, {}, run_opts, checkpointer)
    brain.after, brain.late = dict(after), late
    data, valid = ([torch.ones(1, 1)] * count for count in (batches, len(valid)))
    stop = None
    try:
        brain.fit(range(1, 2), _Loader(data), _Loader(valid) if valid else None)
    except RunStopped as stopped:
        stop = stopped
    return brain, stop


class _Loader(torch.utils.data.DataLoader):
    def __init__(self, data):
        super().__init__(data, batch_size=None)


def ask(number=signal.SIGTERM):
    return lambda: os.kill(os.getpid(), number)


# ---- checkpoints inside of an epoch


@pytest.mark.parametrize(
    ("minutes", "steps", "accumulated", "expected"),
    [
        (30, 4, 1, (4,)),
        (2, 0, 1, (2, 4, 6)),
        (2, 5, 1, (2, 4, 6)),
        (5, 2, 1, (2, 4, 6)),
        (0, 0, 1, ()),
        # None splits an accumulation.
        (0, 1, 3, (3, 6)),
    ],
)
def test_checkpoints_by_minutes_and_by_steps(
    monkeypatch, tmp_path, minutes, steps, accumulated, expected
):
    # A clock that is a minute later each time somebody looks: once a batch, and at a save.
    times = itertools.count(0.0, 61.0)
    clock = SimpleNamespace(time=lambda: next(times))
    for module in ("speechbrain.core", "waveglow_vq.training.base_brain"):
        monkeypatch.setattr(f"{module}.time", clock)
    intervals = {"ckpt_interval_minutes": minutes, "ckpt_interval_steps": steps}
    brain, _ = fit(tmp_path, **intervals, grad_accumulation_factor=accumulated)
    assert brain.saved == expected


# ---- asked to end


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_it_ends_after_the_step_with_a_checkpoint(tmp_path, name, status):
    brain, stop = fit(tmp_path, after={3: ask(getattr(signal, name))})
    assert (stop.status, brain.saved, brain.optimizer_step) == (status, (3,), 3)
    assert str(stop) == (
        f"stopped by {name}: step 3 is the last and saved in {tmp_path}; the same command resumes "
        "from there"
    )
    assert len(brain.checkpointer.list_checkpoints()) == 1
    assert noted_signal() == 0


def test_in_validation_it_saves_the_end_of_the_epochs_training(tmp_path):
    brain, stop = fit(tmp_path, batches=5, valid=range(3), after={"valid": ask()})
    assert brain.saved == (5,)
    assert "step 5 " in str(stop)


def test_the_end_of_an_accumulation_is_waited_for(tmp_path):
    brain, _ = fit(tmp_path, after={3: ask()}, grad_accumulation_factor=2)
    assert (brain.saved, brain.optimizer_step) == ((4,), 2)


@pytest.mark.parametrize(("moment", "late"), [(3, False), (3, True), ("valid", False)])
def test_where_one_process_is_asked_all_end_at_the_same_step(tmp_path, moment, late):
    def work(rank):
        # The others have more to validate.
        valid = range(4 if rank else 1)
        after = {moment: ask()} if rank == 1 else {}
        options = {"distributed_backend": "gloo", "find_unused_parameters": True}
        brain, stop = fit(tmp_path / "save", valid=valid, after=after, late=late, **options)
        assert stop.number == signal.SIGTERM
        # What is read late, all know a step later.
        assert brain.saved == (3 + late if moment == 3 else 6,)
        assert brain.optimizer_step == brain.saved[0]

    assert together(2, tmp_path, work) == [0, 0]


# ---- signals that wait


def test_what_is_sent_twice_at_once_is_one_request():
    with pytest.raises(Stopped) as stop, held_signals():
        ask(signal.SIGTERM)()
        ask(signal.SIGINT)()
        assert noted_signal() == signal.SIGTERM
    assert stop.value.number == signal.SIGTERM


def test_a_second_request_ends_at_once(monkeypatch):
    def work():
        monkeypatch.setattr("waveglow_vq.signals._SAME_REQUEST", 0.0)
        with held_signals():
            ask()()
            ask()()

    assert wait(fork(work)) == -signal.SIGTERM


def test_a_forked_process_is_not_kept_by_what_waits_in_its_parent():
    with held_signals():
        child = fork(lambda: ask()())
        assert wait(child) == -signal.SIGTERM
    assert noted_signal() == 0


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_signals():
            ask(signal.SIGHUP)()
            assert noted_signal() == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_after_a_hangup_the_terminal_is_left_alone():
    """Which would be an error, in the progress bar first of all."""

    def work():
        terminal, screen = os.openpty()
        os.dup2(screen, 2)
        os.close(screen)
        with pytest.raises(Stopped), held_signals():
            os.close(terminal)
            ask(signal.SIGHUP)()
            os.write(2, b"a bar")

    assert wait(fork(work)) == 0


@pytest.mark.parametrize("first", ["signal", "reader"])
def test_the_reader_of_a_pipe_that_the_same_signal_ends(first):
    """As Ctrl-C ends ``tee``, before or after it is noticed here."""

    def work():
        end, begin = os.pipe()
        os.dup2(begin, 1)
        sys.stdout = os.fdopen(1, "w")
        with pytest.raises(Stopped), held_signals():
            os.close(end)
            if first == "signal":
                ask(signal.SIGINT)()
            else:
                signal.signal(signal.SIGALRM, lambda *_: ask(signal.SIGINT)())
                signal.setitimer(signal.ITIMER_REAL, 0.05)
            print("a step", flush=True)
            print("another one", flush=True)
        assert not type(sys.stdout).__name__.startswith("_")

    assert wait(fork(work)) == 0


def test_a_pipe_that_nobody_reads_is_an_error_as_ever():
    def work():
        end, begin = os.pipe()
        os.dup2(begin, 1)
        os.close(end)
        sys.stdout = os.fdopen(1, "w")
        with held_signals():
            with pytest.raises(BrokenPipeError):
                print("a step", flush=True)
        os._exit(0)

    assert wait(fork(work)) == 0


def test_a_loaders_process_outlives_a_signal_to_the_whole_job_but_not_two():
    def work():
        shield_loader_process()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            ask(number)()
        left = signal.alarm(0)
        assert 0 < left <= 30
        ask()()

    assert wait(fork(work)) == -signal.SIGTERM
