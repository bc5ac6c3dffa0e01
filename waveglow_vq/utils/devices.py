"""Devices: which are available, and what they support."""

import contextlib
import functools
import logging
import time

from waveglow_vq.errors import UserError

import torch

logger = logging.getLogger(__name__)

PRECISIONS = ("fp32", "fp16", "bf16")
KINDS = "cpu, cuda, cuda:1 or mps"
# A product whose time tells whether half precision is fast: a millisecond where it is slow.
PRODUCT_SIZE, PRODUCTS = 128, 5
# Times that differ by less are not worth a word.
SLOWER = 1.5


def checked_device(device, option="device"):
    """Checks that a device is available, and returns its name. ``option`` is what errors call it; a
    device of None leaves the choice to SpeechBrain.

    Example
    -------
    >>> checked_device(torch.device("cpu"))
    'cpu'
    >>> checked_device("gpu")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: device: 'gpu' is not a device; give cpu, cuda, cuda:1 or mps
    """
    if device is None:
        return None
    try:
        found = torch.device(device) if isinstance(device, (str, torch.device)) else None
    except RuntimeError:
        found = None
    if found is None or found.type == "meta":
        raise UserError(f"{option}: {str(device)!r} is not a device; give {KINDS}")
    name, number = str(found), found.index or 0
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"{option}: {name}: torch finds no CUDA device here; give cpu")
        if number >= torch.cuda.device_count():
            raise UserError(f"{option}: {name}: there are {torch.cuda.device_count()} GPUs here")
    elif found.type == "mps":
        if not torch.backends.mps.is_available():
            why = "macOS is too old, or there is no such GPU"
            if not torch.backends.mps.is_built():
                why = "this torch is built without it"
            raise UserError(f"{option}: {name}: torch cannot use mps here ({why}); give cpu")
        if number:
            raise UserError(f"{option}: {name}: there is one mps device; give mps")
    elif found.type != "cpu":
        try:
            torch.zeros(1, device=found).cpu()
        except Exception as error:  # each kind of device has errors of its own where it is missing
            sentence = f"{option}: {found}: torch cannot use it here; give {KINDS}"
            raise UserError(sentence) from error
    return name


def supports_float64(device):
    """Whether a device computes in fp64; Apple's GPUs do not.

    Example
    -------
    >>> supports_float64(torch.device("cpu")), supports_float64(torch.device("mps"))
    (True, False)
    """
    return torch.device(device).type != "mps"


def at_least_fp32(x):
    """fp16 and bf16 become fp32; fp32 and fp64 stay."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def exact(x):
    """A tensor in fp64, or in fp32 where its device has none: for lengths and sums."""
    return x.to(torch.float64 if supports_float64(x.device) else torch.float32)


def in_float64(x):
    """A tensor in fp64, on the CPU where its device has no fp64; :func:`returned` brings the result
    back.
    """
    return (x if supports_float64(x.device) else x.cpu()).double()


def returned(result, like):
    """A result in the type and on the device of ``like``: in this order, since a device without
    fp64 cannot hold it.
    """
    return result.to(like.dtype).to(like.device)


@contextlib.contextmanager
def without_tf32():
    """Products of fp32 matrices in fp32 on a GPU too: SpeechBrain allows TF32, of 10 bits, there.

    Example
    -------
    >>> with without_tf32():
    ...     torch.backends.cuda.matmul.allow_tf32
    False
    """
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def warn_of_slow_half(option, precision, device_type):
    """Warns, once for each precision, if an option asks for half precision on a CPU where it is
    slower than fp32, or for bf16 on a GPU that has none and emulates it.
    """
    if device_type == "cuda" and precision == "bf16":
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            _warn_of_emulation(option)
    if device_type != "cpu" or precision not in ("bf16", "fp16"):
        return
    times = slowdown(precision)
    if times > SLOWER:
        _warn_once(option, precision, round(times))


@functools.cache
def slowdown(precision):
    """How much longer a matrix product takes in bf16 or fp16 than in fp32 on this CPU; measured
    once, in milliseconds.
    """
    half = torch.bfloat16 if precision == "bf16" else torch.float16
    return _seconds(half) / _seconds(torch.float32)


def _seconds(dtype):
    matrix = torch.ones(PRODUCT_SIZE, PRODUCT_SIZE, dtype=dtype)
    best = float("inf")
    for _ in range(PRODUCTS):
        begin = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - begin)
    return best


@functools.cache
def _warn_once(option, precision, times):
    logger.warning(
        "%s: this processor has no fast %s, its products take %d times as long as in fp32; fp32 "
        "is faster here",
        option,
        precision,
        times,
    )


@functools.cache
def _warn_of_emulation(option):
    logger.warning("%s: this GPU has no bf16 and emulates it, slowly; give fp16", option)
