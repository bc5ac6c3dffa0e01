"""Checks a run before it begins: each error is one sentence."""

import contextlib
import errno
import importlib.util
import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.words.recognizers import require_recognizer
from waveglow_vq.export.hparams import model_hparams
from waveglow_vq.inference.streaming.refining import as_iterations, pitch_reader
from waveglow_vq.text.tokenizer import KINDS
from waveglow_vq.training.checkpointing import failed_write, free_space
from waveglow_vq.training.run.earlier_run import check_earlier_run
from waveglow_vq.training.samples.warm_start import DISCRIMINATOR_BYTES, SAMPLES, check_stage
from waveglow_vq.utils.cache_folders import use_temporary_folder
from waveglow_vq.utils.devices import PRECISIONS, checked_device, warn_of_slow_half
from waveglow_vq.utils.workers import check_processes

import torch
from hyperpyyaml import resolve_references
from speechbrain.utils.distributed import infer_device
from speechbrain.utils.run_opts import RunOptions


class Range(NamedTuple):
    """The allowed values of a number."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False  # above low, not low itself
    below: bool = False  # below high, not high itself
    null: bool = False  # or null


COUNT = Range(1, whole=True)
COUNT_OR_NULL = Range(1, whole=True, null=True)
FROM_ZERO = Range(0, whole=True)
POSITIVE = Range(0, above=True)

# Keys of the recipes and run options of SpeechBrain that are numbers. A recipe may lack any.
NUMBERS = {
    "seed": Range(0, 2**32 - 1, whole=True),
    "split_seed": FROM_ZERO,
    "min_samples": FROM_ZERO,
    "max_samples": COUNT_OR_NULL,
    "max_utterances": COUNT_OR_NULL,
    "min_loudness_dbfs": Range(null=True),
    "number_of_epochs": COUNT,
    "segments_per_epoch": COUNT,
    "batch_size": COUNT,
    "segment_frames": COUNT,
    "context_frames": FROM_ZERO,
    "vocabulary_size": Range(2, whole=True),
    "max_batch_codes": COUNT,
    "min_codes": COUNT,
    "max_codes": COUNT_OR_NULL,
    "max_characters": COUNT_OR_NULL,
    "code_workers": COUNT_OR_NULL,
    "min_segment_dbfs": Range(null=True),
    "num_workers": Range(0, whole=True, null=True),
    "learning_rate": POSITIVE,
    "warmup_steps": FROM_ZERO,
    "halve_from": Range(0, 1),
    "halvings": Range(0),
    "max_minutes": Range(0, above=True, null=True),
    "max_grad_norm": POSITIVE,
    "initial_loss_scale": POSITIVE,
    "max_skipped_clips": FROM_ZERO,
    "averaging_decay": Range(0, 1, below=True),
    "keep_checkpoints": COUNT,
    "average_checkpoints": FROM_ZERO,
    "valid_batch_size": COUNT,
    "max_valid_utterances": COUNT_OR_NULL,
    "samples_per_epoch": FROM_ZERO,
    "test_samples": FROM_ZERO,
    "free_running_utterances": FROM_ZERO,
    "test_utterances": FROM_ZERO,
    "sampling_sigma": POSITIVE,
    "refine": FROM_ZERO,
    "diagnose_utterances": COUNT_OR_NULL,
    "diagnose_targets": COUNT_OR_NULL,
    "diagnose_min_clips": FROM_ZERO,
    "diagnose_wrong": COUNT_OR_NULL,
    "ckpt_interval_minutes": Range(0),
    "ckpt_interval_steps": FROM_ZERO,
    "grad_accumulation_factor": COUNT,
    "nonfinite_patience": FROM_ZERO,
    "optimizer_step_limit": COUNT_OR_NULL,
    "nll_weight": Range(0),
    "sample_mel_weight": Range(0),
    "sample_stft_weight": Range(0),
    "sample_sigma": Range(0),
    "refine_in_training": FROM_ZERO,
    "margin_frames": FROM_ZERO,
    "adversary_after": FROM_ZERO,
    "adversarial_weight": Range(0),
    "feature_weight": Range(0),
    "discriminator_learning_rate": POSITIVE,
}
SWITCHES = (
    "skip_prep",
    "download",
    "trim_silence",
    "disjoint_sentences",
    "memory_efficient",
    "random_shift",
    "skip_nonfinite_grads",
    "use_averaging",
    "use_tensorboard",
    "use_film",
    "diagnose",
    "use_judges",
    "adversary",
)
FOLDERS = ("output_folder", "save_folder", "manifest_folder")


def check_launch(run_opts):
    """Checks how the processes were started, before they form a group."""
    local_rank, world = os.environ.get("LOCAL_RANK"), int(os.environ.get("WORLD_SIZE", 1))
    backend = run_opts["distributed_backend"]
    if run_opts["data_parallel_backend"]:
        raise UserError("--data_parallel_backend is not supported; start train.py with torchrun")
    if backend not in ("nccl", "gloo"):
        raise UserError(f"--distributed_backend: {backend} is not one of nccl, gloo")
    if local_rank is None or os.environ.get("RANK") is None:
        if world > 1:
            raise UserError(
                f"WORLD_SIZE is {world}, but RANK and LOCAL_RANK are not set; start train.py with "
                "torchrun, or unset WORLD_SIZE"
            )
        return
    if backend == "gloo":
        return
    gpus = torch.cuda.device_count()
    if gpus == 0:
        raise UserError(
            "--distributed_backend nccl needs a GPU, and there is none; to train on CPUs, add "
            "--device cpu --distributed_backend gloo"
        )
    if int(local_rank) >= gpus:
        processes = os.environ.get("LOCAL_WORLD_SIZE", int(local_rank) + 1)
        raise UserError(
            f"--nproc_per_node: {processes} processes on a machine with {gpus} GPUs; give "
            f"{gpus} or less"
        )
    # SpeechBrain gives every process a GPU of its own if, and only if, nobody names one.
    device = run_opts["device"]
    if device == "cpu":
        raise UserError("--device cpu: with torchrun, add --distributed_backend gloo")
    if device is not None and world > 1:
        raise UserError(
            f"--device {device}: all processes would share it; omit --device with torchrun"
        )


def check_configuration(hparams, run_opts, hparams_file=None, overrides=""):
    """Finds at once what would end a run hours later or make it useless. To be called before
    anything is prepared or written. Keys that are missing are not checked; that the model can be
    exported is checked if the YAML is given.

    Example
    -------
    >>> check_configuration({"batch_size": 0}, RunOptions())
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: batch_size: 0; it must be a whole number of at least 1
    """
    options = effective_options(hparams, run_opts)
    check_numbers(options)
    for name in SWITCHES:
        if not isinstance(options.get(name, False), bool):
            raise UserError(f"{name}: {options[name]!r}; it must be True or False")
    _check_device(options)
    _check_steps(options)
    check_processes(options.get("num_workers"))
    if "search" in options:
        options["search"].checked()
    if options.get("tokenizer", "char") not in KINDS:
        raise UserError(f"tokenizer: {options['tokenizer']!r} is not one of {', '.join(KINDS)}")
    _check_packages(options)
    if options.get("recognizer") and options.get("use_judges"):
        require_recognizer(options["recognizer"])
    if options.get("refine") and hasattr(options.get("model"), "conditioner"):
        as_iterations(options["model"], options["refine"])
        if "features" in options:
            pitch_reader(options["model"], options["features"])
    if hparams_file is not None:
        with open(hparams_file, encoding="utf-8") as stream:
            text = resolve_references(stream, overrides).read()
        model_hparams(text)
    _check_folders(options)
    check_earlier_run(hparams)
    check_stage(hparams)
    if "output_folder" in options:
        use_temporary_folder(options["output_folder"])


def check_numbers(options):
    """Raises a UserError for the first option that must be a number of a range and is not.

    Example
    -------
    >>> check_numbers({"learning_rate": "fast"})
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: learning_rate: 'fast'; it must be a number above 0
    """
    for name, allowed in NUMBERS.items():
        if name in options:
            _check_number(name, options[name], allowed)


def effective_options(hparams, run_opts):
    """The keys of a recipe and SpeechBrain's run options: the command line goes before the YAML,
    the YAML before the defaults.

    Example
    -------
    >>> run_opts = RunOptions.from_dictionary({"precision": "bf16"})
    >>> options = effective_options({"precision": "fp16", "max_grad_norm": 2.0}, run_opts)
    >>> options["precision"], options["max_grad_norm"], options["nonfinite_patience"]
    ('bf16', 2.0, 3)
    """
    given = {name: run_opts[name] for name in run_opts.overridden_args}
    options = {**RunOptions().as_dict(), **hparams, **given}
    limit = options["optimizer_step_limit"]
    if isinstance(limit, str) and limit.isdigit():
        # SpeechBrain passes on the text of the command line.
        options["optimizer_step_limit"] = int(limit)
    return options


def _check_number(name, value, allowed):
    if value is None and allowed.null:
        return
    fits = isinstance(value, int if allowed.whole else (int, float)) and not isinstance(value, bool)
    if fits:
        fits = value > allowed.low if allowed.above else value >= allowed.low
        fits = fits and (value < allowed.high if allowed.below else value <= allowed.high)
        fits = fits and not (allowed.high == math.inf and value == math.inf)
    if fits:
        return
    wanted = "a whole number" if allowed.whole else "a number"
    if allowed.low > -math.inf:
        wanted += f" {'above' if allowed.above else 'of at least'} {allowed.low:g}"
    if allowed.high < math.inf:
        high = allowed.high if allowed.whole else f"{allowed.high:g}"
        wanted += f" {'and below' if allowed.below else 'and at most'} {high}"
    null = ", or null" if allowed.null else ""
    hint = " (a large number such as 1e9 clips nothing)" if name == "max_grad_norm" else ""
    raise UserError(f"{name}: {value!r}; it must be {wanted}{null}{hint}")


def _check_device(options):
    device = checked_device(options["device"], "--device") or infer_device()
    kind = torch.device(device).type
    for name in ("precision", "eval_precision"):
        if options[name] not in PRECISIONS:
            raise UserError(f"{name}: {options[name]!r} is not one of {', '.join(PRECISIONS)}")
    half = "fp16" in (options["precision"], options["eval_precision"]) or options["auto_mix_prec"]
    if half and kind == "cpu":
        raise UserError("--precision fp16 needs a GPU; on a CPU, give --precision bf16")
    warn_of_slow_half(f"--precision {options['precision']}", options["precision"], kind)


def _check_steps(options):
    """An epoch has to hold at least one optimizer step."""
    if not {"segments_per_epoch", "batch_size"} <= options.keys():
        return
    segments, batch = options["segments_per_epoch"], options["batch_size"]
    world, factor = int(os.environ.get("WORLD_SIZE", 1)), options["grad_accumulation_factor"]
    if math.ceil(segments / (world * batch)) < factor:
        raise UserError(
            f"segments_per_epoch: {segments} are less than one optimizer step (batch_size {batch} "
            f"x {world} processes x grad_accumulation_factor {factor}); give more segments or a "
            "smaller batch_size"
        )


def _check_packages(options):
    if "model" in options:
        require("matplotlib", "the pictures of samples", "pip install waveglow-vq[train]")
    if options.get("use_tensorboard"):
        require("tensorboard", "use_tensorboard", "pip install waveglow-vq[train]")
    if options.get("shards_folder"):
        require("webdataset", "shards_folder", "pip install waveglow-vq[train]")


def require(module, what, remedy):
    """Checks that a package is installed.

    Example
    -------
    >>> require("no_such_package", "--fly", "walk")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: --fly: needs no_such_package, which is not installed; walk
    """
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what}: needs {module}, which is not installed; {remedy}")


def _check_folders(options):
    for name in FOLDERS:
        if options.get(name) is None:
            continue
        folder = Path(options[name]).absolute()
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not there.is_dir():
            raise UserError(f"{name}: {there} is a file; give another {name}")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"{name}: {there} cannot be written to; give another {name}")
    if options.get("save_folder") is not None and "model" in options:
        _check_space(options)


def _check_space(options):
    """Raises a UserError without room for the checkpoints that are kept and one more."""
    model, folder = options["model"], Path(options["save_folder"]).absolute()
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    # Adam has two moments.
    checkpoint = weights * (2 if options.get("use_averaging") else 1) + 2 * trained
    if options.get("stage") == SAMPLES and options["adversary"]:
        checkpoint += DISCRIMINATOR_BYTES
    kept = max(options.get("keep_checkpoints", 1), options.get("average_checkpoints", 1))
    needed = checkpoint * (kept + 1)
    # Those of a resumed run are replaced.
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    while not folder.exists():
        folder = folder.parent
    if shutil.disk_usage(folder).free + there < needed:
        raise UserError(
            f"save_folder: {folder} has {free_space(folder)}, but the checkpoints need "
            f"{needed / 2**20:,.0f} MiB; make room, or give another save_folder"
        )


@contextlib.contextmanager
def write_errors():
    """Raises a UserError when a file of the run (log, samples, export) cannot be written: the disk
    or the quota is full, it is read-only, or permission is missing.

    Example
    -------
    >>> with write_errors():
    ...     raise OSError(28, "No space left on device", "/runs/log.txt")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: /runs/log.txt: No space left on device; make room, ...
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        numbers = errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM
        if isinstance(error, OSError) and error.errno not in numbers:
            raise
        reason = failed_write(error)
        if reason is None:
            raise
        what = getattr(error, "filename", None) or "a file of the run"
        raise UserError(
            f"{what}: {reason}; make room, or give a writable folder (the same command resumes "
            "from the last checkpoint)"
        ) from error
