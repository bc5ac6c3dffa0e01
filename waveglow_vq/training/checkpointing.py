"""Checkpoints that survive a kill while they are written.

Authors
 * The waveglow-vq developers, 2026
"""

import itertools
import logging
import shutil
import time

from speechbrain.utils.checkpoints import CKPT_PREFIX, Checkpointer
from speechbrain.utils.distributed import if_main_process

INCOMPLETE = "INCOMPLETE"


class KillSafeCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, which does not count a checkpoint before all of it is there.

    SpeechBrain writes the description of a checkpoint first and the weights after it, so that a run
    that is killed in between would resume from half a checkpoint, and fail, forever. Here a mark
    lies in the folder as long as it is written; marked ones are overlooked, and removed by the
    next save. Arguments as for SpeechBrain's.

    Example
    -------
    >>> import tempfile, torch
    >>> checkpointer = KillSafeCheckpointer(tempfile.mkdtemp(), {"model": torch.nn.Linear(1, 1)})
    >>> _ = checkpointer.save_checkpoint()
    >>> len(checkpointer.list_checkpoints())
    1
    """

    def save_checkpoint(self, meta=None, end_of_epoch=True, name=None, verbosity=logging.INFO):
        """As SpeechBrain's; every process has to call it."""
        mark = None
        if if_main_process():
            for stale in self.checkpoints_dir.glob(f"{CKPT_PREFIX}+*/{INCOMPLETE}"):
                shutil.rmtree(stale.parent)
            name = name or self._free_name()
            mark = self._folder(name) / INCOMPLETE
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        saved = super().save_checkpoint(meta or {}, end_of_epoch, name, verbosity)
        if mark is not None:
            mark.unlink()
        return saved

    def list_checkpoints(self):
        """Those that are complete."""
        found = super().list_checkpoints()
        return [checkpoint for checkpoint in found if not (checkpoint.path / INCOMPLETE).exists()]

    def _folder(self, name):
        return self.checkpoints_dir / f"{CKPT_PREFIX}+{name}"

    def _free_name(self):
        stamp = time.strftime("%Y-%m-%d+%H-%M-%S")
        names = (f"{stamp}+{number:02d}" for number in itertools.count())
        return next(name for name in names if not self._folder(name).exists())
