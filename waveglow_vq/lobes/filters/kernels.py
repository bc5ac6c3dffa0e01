"""Compiled forms of what the envelope does sample by sample and lag by lag, where no gradient is
needed: with numba on CPU (numba_kernels.py), with Triton on CUDA (triton_kernels.py).

The plain forms are in blockwise.py and envelope.py. They ask :func:`kernels_for` first, and
go on by themselves where there is nothing: gradients, tracing and compiling by torch, other
types and devices, no numba or Triton.
"""

import functools
import importlib.util
import logging

from waveglow_vq.lobes.filters.numba_kernels import NumbaKernels

import torch
from torch.autograd import forward_ad

logger = logging.getLogger(__name__)


def kernels_for(*tensors):
    """The compiled kernels for all tensors that they are to be given: a module with
    ``recursive_filter`` and ``levinson``, or None where the plain form has to serve.

    Example
    -------
    >>> import torch
    >>> kernels_for(torch.zeros(3, dtype=torch.float64, requires_grad=True)) is None
    True
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return None
    if any(map(_is_special, tensors)):
        return None
    devices = {tensor.device.type for tensor in tensors}
    if devices == {"cpu"} and all(tensor.dtype == torch.float64 for tensor in tensors):
        return _numba_kernels()
    if devices == {"cuda"}:
        return _triton_kernels()
    return None


def _is_special(tensor):
    """Whether somebody follows what is done to it, or it is no tensor with numbers."""
    if type(tensor) is not torch.Tensor or (tensor.requires_grad and torch.is_grad_enabled()):
        return True
    return forward_ad.unpack_dual(tensor).tangent is not None


@functools.cache
def _numba_kernels():
    """The kernels for CPU, or None without numba."""
    try:
        import numba
    except ImportError:
        return None
    try:
        kernels = NumbaKernels(numba, cache=True)
        _warm_up(kernels)
    except (OSError, RuntimeError):
        # No folder for the compiled code, or no room in it.
        kernels = NumbaKernels(numba, cache=False)
    return kernels


@functools.cache
def _triton_kernels():
    """The kernels for CUDA, or None without Triton, or where it cannot compile."""
    from waveglow_vq.lobes.filters import triton_kernels

    works = triton_works("the envelope", lambda: _warm_up(triton_kernels, "cuda"))
    return triton_kernels if works else None


def triton_works(purpose, warm_up):
    """Whether Triton is installed and ``warm_up()``, which runs kernels, succeeds. Where it does
    not, a warning says what for ``purpose`` is slower.

    Example
    -------
    >>> triton_works("nothing", lambda: 1 / 0)
    False
    """
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        warm_up()
    except Exception as error:  # compilers, drivers and linkers, each with errors of its own
        logger.warning("Triton is not used for %s, which is slower without: %s", purpose, error)
        return False
    return True


def _warm_up(kernels, device="cpu"):
    """Has both compiled."""
    ones = torch.ones(1, 2, 3, dtype=torch.float64, device=device)
    kernels.recursive_filter(ones.flatten(1), ones / 4, ones[:, 0])
    kernels.levinson(torch.tensor([[1.0, 0.5]], dtype=torch.float64, device=device))
