"""A run of a recipe: from its command line to the export."""

import contextlib
import gc
import inspect
import logging
import re
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.signals import shield_loader_process
from waveglow_vq.training.base_brain import RunStopped
from waveglow_vq.training.model_brain import VALID_LOSS
from waveglow_vq.training.run.console import closing_lines
from waveglow_vq.training.run.debugging import use_debug_folder
from waveglow_vq.training.run.guards import check_configuration, check_launch, write_errors
from waveglow_vq.training.run.hyperparameters import choose_batch, load_hparams, parse_arguments
from waveglow_vq.training.samples.warm_start import SAMPLES
from waveglow_vq.utils.read_tracking import being_read, known_here
from waveglow_vq.utils.workers import loader_processes

import speechbrain as sb
import torch

# Before any group of processes begins: its functions have the group of their time as a default,
# which DistributedDataParallel would otherwise import in the middle of one, and keep it alive.
import torch.distributed.nn
from speechbrain.utils.distributed import ddp_init_group, if_main_process

# SpeechBrain warns, whenever its train loggers are imported, that it cannot save figures without
# torchvision; nothing here saves figures with it.
logging.getLogger("speechbrain.utils.train_logger").addFilter(
    lambda record: "torchvision" not in record.getMessage()
)


# What torch says when a data loader's process dies: its id and the cause, if that is known.
DEATH = r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)"
# Seconds to wait for it.
PATIENCE = 5.0


class Experiment:
    """A run of a recipe before its training: what its command line says, and ``hparams``, what its
    YAML describes.

    Arguments
    ---------
    script : str
        Path of the recipe's Python file, of which the run keeps a copy.
    hparams_file, run_opts, overrides
        See :func:`~waveglow_vq.training.run.hyperparameters.parse_arguments`.
    """

    def __init__(self, script, hparams_file, run_opts, overrides):
        self.script, self.hparams_file = script, hparams_file
        self.run_opts = run_opts
        self.overrides = choose_batch(hparams_file, overrides, run_opts)
        self.hparams = load_hparams(hparams_file, self.overrides)

    def begin(self):
        """Makes the folder of the run, with ``hyperparams.yaml`` and a log. Every process has to
        call it."""
        folder = Path(self.hparams["output_folder"])
        sb.create_experiment_directory(str(folder), self.hparams_file, self.overrides)
        if if_main_process():
            # SpeechBrain keeps a copy of its caller, which is this file.
            (folder / Path(__file__).name).unlink(missing_ok=True)
            shutil.copy(self.script, folder)


@cli_errors()
def run(Brain, prepare, arguments=None):
    """The command line of a recipe.

    Arguments
    ---------
    Brain : type
        A subclass of :class:`~waveglow_vq.training.model_brain.ModelBrain`.
    prepare : callable
        ``prepare(experiment)`` checks that there is a corpus, begins the :class:`Experiment`,
        prepares the corpus and returns the datasets of training, validation and test. Every
        process calls it.
    arguments : list of str
        In place of those of the command line.

    Returns
    -------
    ModelBrain
        Trained and tested.

    Raises
    ------
    SystemExit
        See :func:`~waveglow_vq.errors.cli_errors`.
    """
    hparams_file, run_opts, overrides = parse_arguments(
        sys.argv[1:] if arguments is None else arguments
    )
    check_launch(run_opts)
    ddp_init_group(run_opts)
    experiment = Experiment(inspect.getfile(prepare), hparams_file, run_opts, overrides)
    use_debug_folder(experiment)
    check_configuration(experiment.hparams, experiment.run_opts, hparams_file, experiment.overrides)
    datasets = prepare(experiment)
    hparams = experiment.hparams
    if hparams.get("stage") == SAMPLES:
        # Whose import takes long.
        from waveglow_vq.training.samples.samples_brain import SamplesBrain

        Brain = type(f"{Brain.__name__}OnSamples", (SamplesBrain, Brain), {})
    elif "flows_from" in hparams and hparams["adversary"]:
        from waveglow_vq.training.adversarial.log_mel_brain import LogMelBrain

        Brain = type(f"{Brain.__name__}OnLogMels", (LogMelBrain, Brain), {})
    brain = Brain(
        hparams["modules"],
        hparams["opt_class"],
        hparams,
        experiment.run_opts,
        hparams["checkpointer"],
    )
    train_and_test(brain, *datasets)
    return brain


@contextlib.contextmanager
def worker_errors():
    """Recovers the sentence of a `UserError` from a data loader's process, which torch wraps into a
    traceback, and reports the death of such a process with the file that it was reading.

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
            f"a data loader's process {reason} while or just after reading "
            f"{' or '.join(being_read(processes)) or 'an unknown file'}; if memory ran out, lower "
            "--num_workers; the same command resumes from the last checkpoint"
        ) from error


def _death(error):
    """Which processes died according to an error (None: unknown), and why; (None, None) if none."""
    reason = None
    # The news of a death, a signal, may arrive at any moment.
    try:
        frames = traceback.walk_tb(error.__traceback__)
        modules = [frame.f_globals.get("__name__", "") for frame, _ in frames]
        if not isinstance(error, RuntimeError) and any("multiprocessing" in m for m in modules):
            # The pipe from a process that dies may break before torch hears of the death, which
            # then interrupts the sleep.
            reason = f"is gone ({str(error) or 'its pipe has closed'})"
            time.sleep(PATIENCE)
    except RuntimeError as news:
        error = news
    if found := re.match(DEATH, str(error), re.DOTALL):
        processes = {int(number) for number in found[1].split(",")}
        return processes, found[2].strip(" .").replace(". ", ", ")
    return None, reason


def train_and_test(brain, train, valid, test):
    """Trains, or resumes training, and tests the best checkpoint."""
    hparams = brain.hparams
    brain.know_corpus(train=train, valid=valid, test=test)
    loading = {
        "num_workers": loader_processes(hparams.num_workers, brain.device_type),
        # From where batches are copied to a GPU while it computes.
        "pin_memory": brain.device_type == "cuda",
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
            # All processes get here; one speaks for them, and its log keeps it.
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
            where = "training is finished and saved; the same command tests and exports"
            raise RunStopped(getattr(stop, "number", signal.SIGINT), where) from None
    if if_main_process():
        left = closing_lines(hparams.output_folder, brain.interface, brain.inference_options)
        if brain.debug:
            left = ["--debug: the whole run works, from the first step to the export"]
        print(*left, sep="\n")
    leave_processes(brain)


def leave_processes(brain):
    """Takes this process out of its group, if it has one, when all others have got here.

    Threads of gloo drop what the last collectives held; if that is a Python object and the
    interpreter is shutting down, the process is aborted, with all its work done. The threads end
    with the group, and the group with the last reference to it: the wrapped modules go first.
    """
    if not torch.distributed.is_initialized():
        return
    torch.distributed.barrier()
    parallel = torch.nn.parallel.DistributedDataParallel
    brain.modules.update({n: m.module for n, m in brain.modules.items() if isinstance(m, parallel)})
    torch.distributed.destroy_process_group()
    gc.collect()
