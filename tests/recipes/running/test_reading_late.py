"""What a step gives is read when the next one is under way, as on a GPU: the run is the same, and
nobody waits for the device in between."""

import sys
from collections import Counter

import waveglow_vq  # noqa: F401  (before speechbrain)

import torch
import train
from torch.utils._python_dispatch import TorchDispatchMode

from tests.recipes.command_line import log_lines
from tests.recipes.ljspeech_runs import SMALL, SMALL_CODES, assert_same_weights, run, weights
from tests.recipes.running.test_precision import spoil_loss

# Where numbers are read that are on the host anyway, also if the model is on a GPU; the kernels are
# those for CPUs.
ON_THE_HOST = ("masking.none_if_whole", "averaging.update_parameters", "numba_kernels.")
READING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero"}


class Reads(TorchDispatchMode):
    """Counts what would wait for a device, by the function of this package that does."""

    def __init__(self, patch):
        super().__init__()
        self.counts = Counter()
        for name in ("tolist", "numpy", "cpu"):
            patch.setattr(torch.Tensor, name, self._counting(getattr(torch.Tensor, name)))

    def _counting(self, method):
        def counted(*arguments, **options):
            self._note()
            return method(*arguments, **options)

        return counted

    def _note(self):
        frame = sys._getframe(2)
        while "/waveglow_vq/" not in frame.f_code.co_filename:
            frame = frame.f_back
            if frame is None:
                return
        module = frame.f_globals["__name__"].rsplit(".", 1)[-1]
        self.counts[f"{module}.{frame.f_code.co_name}"] += 1

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        by_mask = name.startswith("index") and any(
            part is not None and getattr(part, "dtype", None) == torch.bool
            for part in (args[1] if isinstance(args[1], list) else [])
        )
        if name in READING or by_mask:
            self._note()
        return function(*args, **(kwargs or {}))


def read_late(patch):
    """As on a GPU."""
    patch.setattr(
        train.LJSpeechBrain, "may_read_late", lambda self: not self.model.changes_in_forward
    )


def count_reads(patch):
    """The reads of each batch."""
    reads, fit_batch = [], train.LJSpeechBrain.fit_batch

    def counting(self, batch):
        with patch.context() as inner, Reads(inner) as seen:
            loss = fit_batch(self, batch)
        found = {name: n for name, n in seen.counts.items() if not name.startswith(ON_THE_HOST)}
        reads.append(found)
        return loss

    patch.setattr(train.LJSpeechBrain, "fit_batch", counting)
    return reads


def told(brain):
    """The log, without speeds."""
    parts = [line.split(", ") for line in log_lines(brain)]
    return [[part for part in line if "per_second" not in part] for line in parts]


def test_a_vocoder_trains_without_a_wait_and_as_ever(command, monkeypatch, tmp_path):
    options = ["--number_of_epochs", 2, "--segments_per_epoch", 32, "--ckpt_interval_steps", 3]
    options += ["--grad_accumulation_factor", 2, "--batch_size", 4]
    spoil_loss(monkeypatch, steps=(3,))
    at_once = run(command("mel", *options, preset=SMALL, output=tmp_path / "once"))
    read_late(monkeypatch)
    reads = count_reads(monkeypatch)
    late = run(command("mel", *options, preset=SMALL, output=tmp_path / "late"))
    assert late.reads_late and not at_once.reads_late
    # But for what the batch before has sent, which is on the host meanwhile, and which is read
    # before a checkpoint is written (after the fourth batch) and at the end of an epoch.
    assert reads == [{}, *[{"base_brain.read": 1}] * 3] * 4
    assert_same_weights(weights(at_once), weights(late))
    assert_same_weights(at_once.averaged.state_dict(), late.averaged.state_dict())
    assert late.hparams.schedule.steps == at_once.hparams.schedule.steps == 6
    assert told(at_once) == told(late)


def test_a_codec_asks_only_whether_its_step_was_taken(command, monkeypatch):
    read_late(monkeypatch)
    reads = count_reads(monkeypatch)
    options = ["--number_of_epochs", 1, "--segments_per_epoch", 64, "--batch_size", 4]
    brain = run(command("vq", *options, preset=f"{SMALL_CODES}, restart_after: 100"))
    assert not brain.reads_late
    assert reads[-1] == {"base_brain.read": 1, "base_brain.optimizers_step": 1}
