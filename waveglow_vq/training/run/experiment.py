"""The command line of a recipe: SpeechBrain's own, with its pitfalls turned into sentences.

Authors
 * The waveglow-vq developers, 2026
"""

import contextlib
import gc
import io
import logging
import re
import signal
import time
import traceback

from waveglow_vq.errors import UserError
from waveglow_vq.signals import shield_loader_process
from waveglow_vq.training.base_brain import RunStopped
from waveglow_vq.training.model_brain import VALID_LOSS
from waveglow_vq.training.run.command_line import (
    open_keys,
    read_yaml,
    split_arguments,
    typed_overrides,
)
from waveglow_vq.training.run.console import closing_lines
from waveglow_vq.training.run.guards import check_numbers, write_errors
from waveglow_vq.training.run.recipe_help import check_known, show_help
from waveglow_vq.utils.read_tracking import being_read, known_here

import ruamel.yaml
import speechbrain as sb
import torch

# Before any group of processes begins: its functions have the group of their time as a default,
# which DistributedDataParallel would otherwise import in the middle of one, and keep it alive.
import torch.distributed.nn
from hyperpyyaml import load_hyperpyyaml, resolve_references
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

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
        For an option that is cut short, has no value or a wrong one; see
        :mod:`~waveglow_vq.training.run.command_line`.
    SystemExit
        With ``--help``, which is answered.

    Example
    -------
    >>> parse_arguments(["vq.yaml", "--data_folder"])
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: --data_folder needs a value: --data_folder VALUE
    """
    show_help(arguments)
    defaults = RunOptions().as_dict()
    options = [*HELP_TEXTS.keys() & defaults.keys(), "jit_module_keys", "compile_module_keys"]
    flags = [name for name in options if defaults[name] is False]
    valued = [name for name in options if defaults[name] is not False]
    hparams_file, run_arguments, given = split_arguments(arguments, flags, valued)
    known = read_yaml(hparams_file)
    for name in given:
        full = [f"--{option}" for option in options if option.startswith(name)]
        if full and name not in known and name not in valued:
            raise UserError(f"--{name}: write the option in full ({' or '.join(full)})")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, run_opts, _ = sb.parse_arguments([hparams_file, *run_arguments])
    except SystemExit:
        # Behind the usage of all options, it says which is wrong.
        raise UserError(said.getvalue().rsplit("error: ", 1)[-1].strip()) from None
    given = {name: text for name, text in given.items() if name in known or name not in valued}
    return hparams_file, run_opts, typed_overrides(hparams_file, given)


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
    yaml = ruamel.yaml.YAML()
    try:
        replaced = yaml.load(overrides) or {}
    except ruamel.yaml.YAMLError as error:
        raise UserError(f"the options cannot be read as YAML: {error}") from None
    left_open = open_keys(read_yaml(hparams_file), replaced)
    with open(hparams_file, encoding="utf-8") as stream:
        try:
            # As round-trip YAML, which keeps tags as they are and builds nothing.
            known = yaml.load(resolve_references(stream, left_open).read())
        except (ValueError, OSError, ruamel.yaml.YAMLError) as error:
            raise UserError(f"{hparams_file} cannot be read: {error}") from None
    if "pretrainer" in known and "output_folder" not in known:
        raise UserError(
            f"{hparams_file} belongs to an export, which from_hparams loads; the YAML that repeats "
            "a run is that of the run's own folder"
        )
    check_known(replaced, known, hparams_file)
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
        For instance from :func:`~waveglow_vq.data.loaders.make_datasets`.

    Raises
    ------
    UserError
        Whatever ends the run: what cannot be read, written or computed.
    """
    hparams = brain.hparams
    brain.know_corpus(train=train, valid=valid, test=test)
    loading = {
        "num_workers": hparams.num_workers,
        "worker_init_fn": known_here(shield_loader_process),
    }
    with worker_errors(), write_errors():
        try:
            brain.fit(
                hparams.epoch_counter,
                train,
                valid,
                train_loader_kwargs=loading,
                valid_loader_kwargs={},
            )
        except RunStopped as stopped:
            # All processes have come here; one speaks for them, and its log keeps it.
            speaks = if_main_process()
            if speaks:
                # SpeechBrain's loggers leave out what is for the file alone.
                record = logging.getLogger(f"{__name__}.stop")
                record.setLevel(logging.DEBUG)
                record.debug(str(stopped))
            leave_processes(brain)
            if speaks:
                raise
            raise SystemExit(stopped.status) from None
        try:
            # A dict of its own: SpeechBrain writes into it.
            brain.evaluate(test, min_key=VALID_LOSS, test_loader_kwargs={})
        except KeyboardInterrupt as stop:
            where = "the training is finished and saved; the same command tests and exports"
            raise RunStopped(getattr(stop, "number", signal.SIGINT), where) from None
    if if_main_process():
        left = closing_lines(hparams.output_folder, brain.interface, brain.inference_options)
        if brain.debug:
            left = ["--debug: all of the run works, from the first step to the export"]
        print(*left, sep="\n")
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
