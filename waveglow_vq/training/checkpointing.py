"""Checkpoints that survive a kill, a full disk and a power cut."""

import contextlib
import itertools
import logging
import math
import os
import shutil
import time
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.utils.distributed import all_gather_object

import torch
import yaml
from speechbrain.utils.checkpoints import (
    CKPT_PREFIX,
    DEFAULT_LOAD_HOOKS,
    DEFAULT_SAVE_HOOKS,
    METAFNAME,
    PARAMFILE_EXT,
    Checkpoint,
    Checkpointer,
    ckpt_recency,
    get_default_hook,
)
from speechbrain.utils.distributed import (
    MainProcessContext,
    ddp_barrier,
    ddp_broadcast,
    if_main_process,
)
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# Prefixes of folders that are being written or deleted, or were when the run was killed. Nobody
# takes them for checkpoints, and the next save removes them.
UNFINISHED = ".unfinished-"
DELETED = ".deleted-"
# torch's errors of writing that are no OSError.
FAILED_WRITES = ("PytorchStreamWriter failed", "file write failed", "unexpected pos")


class KillSafeCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer with atomic checkpoints.

    SpeechBrain writes the description of a checkpoint before the weights, so that a run that is
    killed in between would forever fail to resume from half a checkpoint. Here the folder is
    written under another name, synced to the disk and then renamed; it is deleted in reverse order.
    So all visible checkpoints are complete.

    Every process has to call saving, deleting and recovering; an error in one process is raised in
    all. Savers that are called in every process (registered with ``save_on_main_only=False``)
    write files of their own and must not communicate. Arguments as for SpeechBrain's.

    Example
    -------
    >>> import tempfile, torch
    >>> checkpointer = KillSafeCheckpointer(tempfile.mkdtemp(), {"model": torch.nn.Linear(1, 1)})
    >>> _ = checkpointer.save_checkpoint()
    >>> len(checkpointer.list_checkpoints())
    1
    """

    def __init__(self, checkpoints_dir, *args, **kwargs):
        # SpeechBrain makes the folder at once, also for a run that is refused.
        super().__init__(os.curdir, *args, **kwargs)
        self.checkpoints_dir = Path(checkpoints_dir)

    # ---- saving

    def save_checkpoint(self, meta=None, end_of_epoch=True, name=None, verbosity=logging.INFO):
        """As SpeechBrain's. If the disk is full or not writable, earlier checkpoints are kept."""
        begun = self._everywhere(lambda: self._begin(meta or {}, end_of_epoch, name))
        unfinished = ddp_broadcast(begun and begun[0])
        try:
            self._everywhere(lambda: self._write(unfinished))
            saved = self._everywhere(lambda: self._finish(*begun), main_only=True)
        except Exception:
            if if_main_process():
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        kind = "end-of-epoch" if end_of_epoch else "intra-epoch"
        if saved is not None:
            logger.log(verbosity, f"Saved an {kind} checkpoint in {saved.path}")
        return saved

    def _begin(self, meta, end_of_epoch, name):
        """On the main process: the unfinished folder, the final one, and the description."""
        if not if_main_process():
            return None
        self.checkpoints_dir.mkdir(parents=True, exist_ok=True)
        for left in self.checkpoints_dir.iterdir():
            if left.name.startswith((UNFINISHED, DELETED)):
                shutil.rmtree(left, ignore_errors=True)
        folder = self._folder(name or self._free_name(time.strftime("%Y-%m-%d+%H-%M-%S")))
        unfinished = self.checkpoints_dir / f"{UNFINISHED}{folder.name}"
        unfinished.mkdir()
        # The time finds the last checkpoint, and must not go back with the clock.
        last = max((ckpt_recency(found) for found in self.list_checkpoints()), default=0.0)
        meta = {"unixtime": max(time.time(), last + 1e-3), **meta}
        # What cannot be read again would break every later listing.
        yaml.safe_dump(meta)
        meta = self._save_checkpoint_metafile(unfinished / METAFNAME, meta, end_of_epoch)
        return unfinished, folder, meta

    def _write(self, folder):
        for name, recoverable in self.recoverables.items():
            hook = self.custom_save_hooks.get(name)
            hook = hook or get_default_hook(recoverable, DEFAULT_SAVE_HOOKS)
            if hook is None:
                raise RuntimeError(f"nothing is known about how to save {type(recoverable)}")
            hook(recoverable, folder / f"{name}{PARAMFILE_EXT}")

    def _finish(self, unfinished, folder, meta):
        """On the main process, after all have written: syncs and renames the folder."""
        for path in unfinished.rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        sync_folder(unfinished)
        if folder.exists():
            # Under a free name until the earlier one is deleted: one of the two always exists.
            beside = self._folder(self._free_name(folder.name.removeprefix(f"{CKPT_PREFIX}+")))
            unfinished.rename(beside)
            self._delete(folder)
            beside.rename(folder)
        else:
            unfinished.rename(folder)
        sync_folder(self.checkpoints_dir)
        files = {name: folder / f"{name}{PARAMFILE_EXT}" for name in self.recoverables}
        return Checkpoint(folder, meta, files)

    def save_and_keep_only(self, *args, importance_keys=(), **kwargs):
        """As SpeechBrain's, which appends to the list it is given, and to its own default."""
        super().save_and_keep_only(*args, importance_keys=[*importance_keys], **kwargs)

    # ---- deleting

    def delete_checkpoints(
        self,
        *,
        num_to_keep=1,
        min_keys=None,
        max_keys=None,
        importance_keys=(ckpt_recency,),
        ckpt_predicate=None,
        verbosity=logging.INFO,
    ):
        """As SpeechBrain's."""
        if num_to_keep < 0:
            raise ValueError(f"num_to_keep: {num_to_keep}; it cannot be negative")
        orders = [{"min_key": key} for key in min_keys or ()]
        orders += [{"max_key": key} for key in max_keys or ()]
        orders += [{"importance_key": key} for key in importance_keys]

        def delete():
            found, kept = set(), set()
            for order in orders:
                ranked = self.find_checkpoints(ckpt_predicate=ckpt_predicate, **order)
                found.update(checkpoint.path for checkpoint in ranked)
                kept.update(checkpoint.path for checkpoint in ranked[:num_to_keep])
            for folder in sorted(found - kept):
                self._delete(folder)
                logger.log(verbosity, f"Deleted checkpoint in {folder}")

        # Another process may still be reading.
        ddp_barrier()
        self._everywhere(delete, main_only=True)

    def _delete(self, folder):
        """Renames, then removes; the next save removes what is left (a network disk keeps files
        that are being read)."""
        deleted = folder.with_name(f"{DELETED}{folder.name}")
        shutil.rmtree(deleted, ignore_errors=True)
        folder.rename(deleted)
        shutil.rmtree(deleted, ignore_errors=True)

    # ---- finding and loading

    def list_checkpoints(self):
        """As SpeechBrain's."""
        found = []
        for folder in self._list_checkpoint_dirs() if self.checkpoints_dir.is_dir() else ():
            try:
                found += self._construct_checkpoint_objects([folder])
                float(ckpt_recency(found[-1]))
            except FileNotFoundError:
                continue  # Another program has deleted it since.
            except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
                raise UserError(
                    f"{folder / METAFNAME} is damaged; remove the folder {folder} to go on from "
                    "the other checkpoints"
                ) from None
        return found

    def find_checkpoints(
        self,
        importance_key=None,
        max_key=None,
        min_key=None,
        ckpt_predicate=None,
        max_num_checkpoints=None,
    ):
        """As SpeechBrain's, but NaN is no value of a key."""
        key = max_key or min_key

        def predicate(checkpoint):
            if key and math.isnan(checkpoint.meta.get(key, 0.0)):
                return False
            return ckpt_predicate is None or ckpt_predicate(checkpoint)

        return super().find_checkpoints(
            importance_key, max_key, min_key, predicate, max_num_checkpoints
        )

    def recover_if_possible(
        self, importance_key=None, max_key=None, min_key=None, ckpt_predicate=None
    ):
        """As SpeechBrain's; all processes load the main process's choice."""
        # On a network disk, they might see different ones.
        chosen = self._everywhere(
            lambda: self.find_checkpoint(importance_key, max_key, min_key, ckpt_predicate),
            main_only=True,
        )
        chosen = ddp_broadcast(chosen)
        if chosen is None:
            logger.info("Would load a checkpoint here, but none found yet.")
        else:
            self.load_checkpoint(chosen)
        return chosen

    def _call_load_hooks(self, checkpoint):
        logger.info(f"Loading a checkpoint from {checkpoint.path}")
        for name, recoverable in self.recoverables.items():
            path = checkpoint.paramfiles.get(name)
            if path is None:
                if self.allow_partial_load:
                    continue
                if self.optional_recoverables.get(name) or "dataloader" in name:
                    logger.warning(f"{checkpoint.path} has no {name}{PARAMFILE_EXT}: skipped")
                    continue
                raise UserError(
                    f"{checkpoint.path} has no {name}{PARAMFILE_EXT}: it was saved by a run with "
                    "other options; give those again, or another --output_folder"
                )
            hook = self.custom_load_hooks.get(name)
            hook = hook or get_default_hook(recoverable, DEFAULT_LOAD_HOOKS)
            if hook is None:
                raise RuntimeError(f"nothing is known about how to load {type(recoverable)}")
            try:
                hook(recoverable, path, checkpoint.meta["end-of-epoch"])
            except (UserError, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # Of half a dozen kinds, as for any damaged file.
                raise UserError(self._why_not_loaded(checkpoint, path, error)) from error

    def _why_not_loaded(self, checkpoint, path, error):
        if not path.is_file():
            return (
                f"{path} is not visible to this process; all machines of a run need a shared save "
                "folder"
            )
        detail = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        # A recoverable may have a file for each process: <name>.ckpt, <name>.rank1, ...
        damaged = [file for file in path.parent.glob(f"{path.stem}.*") if not _is_whole(file)]
        if not damaged:
            return (
                f"{path} does not fit this run ({detail}); give the options of its run, or another "
                "--output_folder"
            )
        at = ckpt_recency(checkpoint)
        earlier = [found for found in self.find_checkpoints() if ckpt_recency(found) < at]
        then = f"resume from {earlier[0].path.name}" if earlier else "start again"
        return f"{damaged[0]} is damaged ({detail}); remove the folder {checkpoint.path} to {then}"

    # ---- what they share

    def _everywhere(self, work, main_only=False):
        """Runs something in every process or the main one; if one fails, all raise."""
        result, error = None, None
        try:
            # Within it, SpeechBrain's savers do not wait for each other, and one may fail.
            with MainProcessContext():
                if if_main_process() or not main_only:
                    result = work()
        except Exception as caught:
            error = caught
        failures = all_gather_object(None if error is None else (self._explain(error), repr(error)))
        explained = [sentence for sentence, _ in filter(None, failures) if sentence]
        if explained:
            raise UserError(explained[0]) from error
        if error is not None:
            raise error
        for rank, failure in enumerate(failures):
            if failure is not None:
                raise RuntimeError(f"process {rank} failed at a checkpoint: {failure[1]}")
        return result

    def _explain(self, error):
        """A sentence if the disk is at fault, else None."""
        if isinstance(error, UserError):
            return str(error)
        message = str(error)
        if "Parent directory" in message or isinstance(error, FileNotFoundError):
            return (
                f"{self.checkpoints_dir}: a process does not see what the first has written "
                f"({' '.join(message.split())}); all machines of a run need a shared save folder "
                "that nobody removes"
            )
        reason = failed_write(error)
        if reason is None:
            return None
        return (
            f"{self.checkpoints_dir}: a checkpoint could not be saved ({reason}; "
            f"{free_space(self.checkpoints_dir)}); make room, and the same command resumes from "
            "the last complete checkpoint"
        )

    def _folder(self, name):
        return self.checkpoints_dir / f"{CKPT_PREFIX}+{name}"

    def _free_name(self, stem):
        names = (f"{stem}+{number:02d}" for number in itertools.count())
        return next(name for name in names if not self._folder(name).exists())


def failed_write(error):
    """The reason if an exception means that something could not be written, else None.

    Example
    -------
    >>> failed_write(OSError(28, "No space left on device"))
    'No space left on device'
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RuntimeError) and any(text in str(error) for text in FAILED_WRITES):
        return "it could not be written to the end"
    return None


def free_space(folder):
    """The free space of a folder's disk, for a sentence.

    Example
    -------
    >>> free_space("/").endswith(" free")
    True
    """
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB free"


def sync_folder(folder):
    """Syncs the entries of a folder to the disk, if the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_whole(path):
    """Whether torch can load a file."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return False
    return True
