"""The state of an unfinished epoch and of the random numbers: what a run needs beside weights and
optimizer to resume, also within an epoch, as if it had never been interrupted.
"""

import random
from pathlib import Path

from waveglow_vq.lobes.quantizers.statistics import CodeStatistics
from waveglow_vq.training.epoch_report import EpochMeans
from waveglow_vq.utils.distributed import own_rank

import numpy as np
import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


class Progress:
    """Means, code statistics and counts of an epoch of training on this process.

    A checkpoint holds one file per process: the random states differ, and so do the recent encoder
    outputs from which codes restart. A run that resumes with more processes starts these again. The
    model's ``training_state`` is saved too.

    Example
    -------
    >>> import torch
    >>> progress = Progress(model=None)
    >>> progress.report({"nll": torch.tensor(2.0)}, weight=4)
    >>> progress.end_step()
    >>> progress.take()
    >>> progress.report({"nll": torch.tensor(float("nan"))}, weight=4)
    >>> progress.end_step()
    >>> progress.drop()
    >>> progress.means.summary(), progress.units, progress.skipped_steps
    ({'nll': 2.0}, 4, 1)
    """

    def __init__(self, model):
        self.model = model
        self.skipped_clips = {}  # sentence -> how often, in the whole run
        self._resumed = False
        self._clear()

    def _clear(self):
        self.means, self.codes = EpochMeans(), CodeStatistics()
        self.units, self.restarted, self.skipped_steps = 0, 0, 0
        self.seconds = 0.0
        # Of the batches since the latest step, and of that step.
        self._reported, self._of_step = [], []

    @property
    def inside_of_epoch(self):
        """Whether an unfinished epoch was loaded."""
        return self._resumed

    def begin(self, seed):
        """Begins an epoch, or resumes the one that was loaded."""
        if self._resumed:
            self._resumed = False
            _restore_random_state(self._random_state, torch.cuda.is_available())
            return
        self._clear()
        torch.manual_seed(seed)

    def report(self, terms, weight, statistics=None):
        """Keeps the terms of a batch until it is known whether its step is taken."""
        self._reported.append((terms, weight, statistics))

    def end_step(self):
        """Closes what was reported of a step; :meth:`take` or :meth:`drop` follows, perhaps when
        the next batch is reported already."""
        self._of_step, self._reported = self._reported, []

    def take(self):
        """Counts what was reported of the step."""
        for terms, weight, statistics in self._of_step:
            self.means.add(terms, weight)
            self.units += weight
            if statistics:
                self.codes.accumulate(statistics)
        self._of_step = []

    def drop(self):
        """Forgets what was reported of the step, and counts it as skipped."""
        self._of_step = []
        self.skipped_steps += 1

    def note_skipped_clip(self, sentence):
        """Counts an unreadable clip; True the first time."""
        self.skipped_clips[sentence] = self.skipped_clips.get(sentence, 0) + 1
        return self.skipped_clips[sentence] == 1

    @mark_as_saver
    def save(self, path):
        """Writes the file of this process; every process has to call it."""
        state = {
            "sums": self.means.sums,
            "weight": torch.as_tensor(self.means.weight),
            "codes": self.codes.totals,
            "counts": [self.units, self.restarted, self.skipped_steps],
            "seconds": self.seconds,
            "skipped_clips": self.skipped_clips,
            "model": self.model.training_state(),
            "random": _random_state(),
        }
        torch.save(state, _own_file(path))

    @mark_as_loader
    def load(self, path, end_of_epoch):
        """Reads it; at the end of an epoch, only what concerns the whole run."""
        file = _own_file(path)
        if not file.is_file():
            logger.warning(
                f"{file} is missing: the run was saved by fewer processes; the rest of this epoch "
                "draws other random numbers"
            )
            return
        device = next(self.model.parameters()).device
        state = torch.load(file, map_location=device, weights_only=True)
        # Of the whole run, also where its best checkpoint is loaded in the end.
        for sentence, count in state["skipped_clips"].items():
            self.skipped_clips[sentence] = max(count, self.skipped_clips.get(sentence, 0))
        self.model.load_training_state(state["model"])
        if end_of_epoch:
            return
        self._clear()
        self.means.sums, self.means.weight = state["sums"], float(state["weight"])
        self.codes.totals = state["codes"]
        self.units, self.restarted, self.skipped_steps = state["counts"]
        self.seconds = state["seconds"]
        self._random_state = state["random"]
        self._resumed = True


# The saver is called on every process.
register_checkpoint_hooks(Progress, save_on_main_only=False)


def _own_file(path):
    path, rank = Path(path), own_rank()
    return path if rank == 0 else path.with_suffix(f".rank{rank}")


def _random_state():
    """Of torch and, for users' code, of Python and NumPy; in plain types."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": [version, list(numbers), gauss],
        "numpy": [name, keys.tolist(), position, has_gauss, cached],
    }


def _restore_random_state(state, on_cuda):
    torch.set_rng_state(state["torch"].cpu())
    if on_cuda and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu())
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
