"""The command line of a recipe: SpeechBrain's own, with its pitfalls turned into sentences.

Authors
 * The waveglow-vq developers, 2026
"""

import contextlib
import difflib
import gc
import logging
import re
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from waveglow_vq.data.reading import being_read
from waveglow_vq.errors import UserError
from waveglow_vq.training.guards import check_numbers, write_errors
from waveglow_vq.training.model_brain import VALID_LOSS

import ruamel.yaml
import speechbrain as sb
import torch

# Before any group of processes begins: its functions have the group of their time as a default,
# which DistributedDataParallel would otherwise import in the middle of one, and keep it alive.
import torch.distributed.nn
from hyperpyyaml import load_hyperpyyaml, resolve_references
from speechbrain.utils.run_opts import RunOptions

# SpeechBrain warns, whenever its train loggers are imported, that it cannot save figures without
# torchvision; nothing here saves figures with it.
logging.getLogger("speechbrain.utils.train_logger").addFilter(
    lambda record: "torchvision" not in record.getMessage()
)


# How torch tells of the death of a data loader's process: its id and the cause, if that is known.
DEATH = r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)"
# Seconds that are waited for it.
PATIENCE = 5.0


def parse_arguments(arguments):
    """SpeechBrain's ``parse_arguments`` for people.

    Arguments
    ---------
    arguments : list of str
        The command line, without the program's name.

    Returns
    -------
    hparams_file : str
    run_opts : RunOptions
    overrides : str
        As from ``speechbrain.parse_arguments``.

    Raises
    ------
    UserError
        For what SpeechBrain accepts and then gets wrong: an abbreviated run option (parsed, then
        ignored), and a value with an equals sign (cut in two).

    Example
    -------
    >>> parse_arguments(["vq.yaml", "--prec", "bf16"])
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: --prec: write the option in full (--precision)
    """
    run_options = [name for name in RunOptions().as_dict() if name != "overridden_args"]
    for argument in arguments:
        name, _, value = argument.partition("=")
        if "=" in (value if argument.startswith("--") else argument):
            raise UserError(f"{argument}: a value with an equals sign cannot be given here")
        if argument.startswith("--") and name[2:] not in run_options:
            full = [f"--{option}" for option in run_options if option.startswith(name[2:])]
            if full:
                raise UserError(f"{name}: write the option in full ({' or '.join(full)})")
    return sb.parse_arguments(arguments)


def load_hparams(hparams_file, overrides):
    """Builds what a recipe's YAML describes.

    Arguments
    ---------
    hparams_file : str
        Path of the YAML file.
    overrides : str
        What the command line replaces.

    Returns
    -------
    hparams : dict

    Raises
    ------
    UserError
        If there is no such file, or an option that it does not have.
    """
    if not Path(hparams_file).is_file():
        raise UserError(f"{hparams_file}: no such hyperparameter file")
    yaml = ruamel.yaml.YAML()
    try:
        replaced = yaml.load(overrides) or {}
    except ruamel.yaml.YAMLError as error:
        raise UserError(f"the options cannot be read as YAML: {error}") from None
    with open(hparams_file, encoding="utf-8") as stream:
        # As round-trip YAML, which keeps tags as they are and builds nothing.
        known = yaml.load(resolve_references(stream).read())
    _check_options(replaced, known, hparams_file)
    # Before anything is built with them.
    check_numbers(replaced)
    with open(hparams_file, encoding="utf-8") as stream, write_errors():
        try:
            return load_hyperpyyaml(stream, overrides)
        except UserError:
            raise
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{hparams_file} describes nothing that can be built: {error}; check the options"
            ) from error


def _check_options(replaced, known, where):
    """HyperPyYAML refuses unknown options, but adds unknown ones inside of a mapping, where
    nothing would ever read them."""
    for name, value in replaced.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(known)}"
            raise UserError(f"{name} is not an option of {where}; {hint}")
        if isinstance(value, Mapping) and isinstance(known[name], Mapping):
            _check_options(value, known[name], f"{name} in {where}")


@contextlib.contextmanager
def worker_errors():
    """Gives back the sentence of a `UserError` that was raised in a data loader's process, which
    torch wraps into a traceback; and makes one of the death of such a process, which names the
    file that it was reading.

    Example
    -------
    >>> with worker_errors():
    ...     raise UserError("Caught UserError in DataLoader worker process 0.\\n  ...\\n"
    ...                     "waveglow_vq.errors.UserError: a.wav: is truncated")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: a.wav: is truncated
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        if not message.startswith("Caught UserError"):
            raise
        raise UserError(message.rsplit("UserError: ", 1)[-1].strip()) from None
    except (RuntimeError, ConnectionError, FileNotFoundError, EOFError) as error:
        processes, reason = _death(error)
        if reason is None:
            raise
        raise UserError(
            f"a process that reads data {reason}; it was reading, or had just read, "
            f"{' or '.join(being_read(processes)) or 'a file whose name is not known'}; if the "
            "memory was short, lower --num_workers; the same command goes on from the last "
            "checkpoint"
        ) from error


def _death(error):
    """Of which processes (None: some of them all) an error tells that they died, and of what; not
    of anything if the reason is None."""
    reason = None
    # The news of a death, a signal, may arrive at any moment.
    try:
        frames = traceback.walk_tb(error.__traceback__)
        modules = [frame.f_globals.get("__name__", "") for frame, _ in frames]
        if not isinstance(error, RuntimeError) and any("multiprocessing" in m for m in modules):
            # The pipe from a process that dies may break before torch hears of the death, which
            # then interrupts the sleep.
            reason = f"is gone ({str(error) or 'its pipe has ended'})"
            time.sleep(PATIENCE)
    except RuntimeError as news:
        error = news
    if found := re.match(DEATH, str(error), re.DOTALL):
        processes = {int(number) for number in found[1].split(",")}
        return processes, found[2].strip(" .").replace(". ", ", ")
    return None, reason


def train_and_test(brain, train, valid, test):
    """Trains, or goes on with training, and tests what the best checkpoint holds.

    Arguments
    ---------
    brain : ModelBrain
        Of the recipe.
    train, valid, test : Dataset
        For instance from :func:`~waveglow_vq.training.pipeline.make_datasets`.

    Raises
    ------
    UserError
        Whatever ends the run: what cannot be read, written or computed.
    """
    hparams = brain.hparams
    with worker_errors(), write_errors():
        brain.fit(
            hparams.epoch_counter,
            train,
            valid,
            train_loader_kwargs={"num_workers": hparams.num_workers},
            valid_loader_kwargs={},
        )
        # A dict of its own: SpeechBrain writes into it.
        brain.evaluate(test, min_key=VALID_LOSS, test_loader_kwargs={})
    leave_processes(brain)


def leave_processes(brain):
    """Takes this process out of its group, if it has one, when all others are as far.

    Threads of gloo drop what the last collectives held; where that is a Python object and the
    interpreter is shutting down, the process is aborted, with all its work done. They end with the
    group, and the group with the last reference to it: those of the wrapped modules go first.

    Arguments
    ---------
    brain : speechbrain.Brain
        Its modules are given back without DistributedDataParallel.
    """
    if not torch.distributed.is_initialized():
        return
    torch.distributed.barrier()
    parallel = torch.nn.parallel.DistributedDataParallel
    brain.modules.update({n: m.module for n, m in brain.modules.items() if isinstance(m, parallel)})
    torch.distributed.destroy_process_group()
    gc.collect()
