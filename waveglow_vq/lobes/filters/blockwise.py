"""Filters whose coefficients change from block to block: all-zero, and all-pole in both
directions of time. Differentiable; batched; on CPU and GPU. Where no gradient is needed, the
all-pole filter is a compiled one (kernels.py).
"""

from waveglow_vq.lobes.filters.kernels import kernels_for
from waveglow_vq.lobes.filters.steps import step_of_block

import torch

# Blocks, of all items of a batch together, whose matrices are made at once: few megabytes, which
# stay in a cache. Making hundreds at once costs several times all the rest, in page faults alone.
BLOCKS_AT_ONCE = 32


def filter_blocks(spans, taps):
    """Correlates every span with its own taps by FFT: ``[..., n]`` and ``[..., m]`` give
    ``[..., n - m + 1]``."""
    size, keep = spans.shape[-1], spans.shape[-1] - taps.shape[-1] + 1
    product = torch.fft.rfft(spans) * torch.fft.rfft(taps, n=size).conj()
    return torch.fft.irfft(product, n=size)[..., :keep]


def recursive_filter_blocks(driven, coefficients, history):
    """The recursion x_n = driven_n - sum_k a_{t(n),k} x_{n-k}; differentiable once.

    ``driven`` is ``[batch, samples]``; ``coefficients`` are a_1 ... a_P of each block,
    ``[batch, blocks, order]``; and ``history`` ``[batch, order]`` the samples x before the first. A
    ValueError says that there are no samples, or that ``blocks`` does not divide them.

    Example
    -------
    >>> import torch
    >>> recursive_filter_blocks(torch.ones(1, 4), torch.full((1, 2, 1), -0.5), torch.zeros(1, 1))
    tensor([[1.0000, 1.5000, 1.7500, 1.8750]])
    """
    samples, blocks = driven.shape[-1], coefficients.shape[1]
    if not samples or not blocks or samples % blocks:
        raise ValueError(f"{samples} samples cannot be filtered in {blocks} equal blocks")
    kernels = kernels_for(driven, coefficients, history)
    if kernels is not None:
        return kernels.recursive_filter(driven, coefficients, history)
    return _Recursion.apply(driven, coefficients, history)


class _Recursion(torch.autograd.Function):
    """x = A^-1 (driven - C history), where A is the unit lower-triangular matrix of the
    recursion. Its gradient is a recursion again, backwards in time with A transposed, so that
    neither the steps nor their matrices must be kept."""

    @staticmethod
    def forward(ctx, driven, coefficients, history):
        padded = torch.cat([history, driven], dim=-1)
        _substitute(padded, coefficients)
        ctx.save_for_backward(padded, coefficients)
        return padded[:, history.shape[-1] :].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        padded, coefficients = ctx.saved_tensors
        blocks, order = coefficients.shape[1:]
        adjoint = torch.nn.functional.pad(gradient, (order, 0))
        _substitute(adjoint, coefficients, transposed=True)
        for_driven, for_history = adjoint[:, order:], adjoint[:, :order]
        # d / d a_k = - sum_n adjoint_n x_{n-k} over a block; the lags come out P ... 1.
        block = gradient.shape[-1] // blocks
        spans = padded[:, :-1].unfold(-1, order + block - 1, block)
        by_lag = -filter_blocks(spans, for_driven.unflatten(-1, (blocks, block)))
        return for_driven, by_lag.flip(-1), for_history


def _substitute(padded, coefficients, transposed=False):
    """Solves A x = b in place, step by step of at most ``STEP`` samples.

    Within a step, the predictor is constant: x = H (b - C before), with H the Toeplitz matrix of
    the impulse response and C the band of coefficients that reach to the ``order`` samples before
    the step. All H and C are made in parallel; two products of a small matrix and a vector per step
    are left to do in sequence.

    ``padded`` ``[batch, order + samples]`` has the ``order`` samples before the first, and b, which
    x replaces; ``coefficients`` are ``[batch, blocks, order]``. ``transposed`` solves A^T x = b,
    from the last step to the first; what x contributes to the samples before the first is added to
    those.
    """
    batch, blocks, order = coefficients.shape
    block = (padded.shape[-1] - order) // blocks
    step = step_of_block(block)
    vectors = padded[..., None]
    inside = vectors[:, order:].unflatten(1, (-1, step)).unbind(1)
    before = vectors.unfold(1, order, step).transpose(2, 3).unbind(1)
    scratch = torch.empty_like(inside[0])
    impulse = _impulse_response(coefficients, step)
    # The matrices of few blocks at a time, so that they stay in a cache.
    portion = max(1, BLOCKS_AT_ONCE // batch)
    portions = range(0, blocks, portion)
    for first in reversed(portions) if transposed else portions:
        part = slice(first, min(first + portion, blocks))
        # Row n of C holds a_P ... a_{n+1} from column n on; row n of H holds h_n ... h_0, 0 ...
        c = _shifted_rows(coefficients[:, part].flip(-1), step)[..., :order]
        h = _shifted_rows(impulse[:, part].flip(-1), step)[..., step - 1 :]
        steps = range(first * block // step, part.stop * block // step)
        c, h = c.unbind(1), h.unbind(1)
        for i in reversed(steps) if transposed else steps:
            k = i * step // block - first
            if transposed:
                torch.bmm(h[k].mT, inside[i], out=scratch)
                inside[i].copy_(scratch)
                before[i].baddbmm_(c[k].mT, scratch, alpha=-1)
            else:
                torch.baddbmm(inside[i], c[k], before[i], alpha=-1, out=scratch)
                torch.bmm(h[k], scratch, out=inside[i])


def _impulse_response(coefficients, length):
    """First samples of the impulse response of 1 / A, ``[..., length]``: h_0 = 1,
    h_n = - sum_k a_k h_{n-k}."""
    latest_last = coefficients.flip(-1)
    order = coefficients.shape[-1]
    response = coefficients.new_zeros(*coefficients.shape[:-1], length)
    response[..., 0] = 1
    for n in range(1, length):
        k = min(n, order)
        response[..., n] = -(latest_last[..., order - k :] * response[..., n - k : n]).sum(-1)
    return response


def _shifted_rows(row, rows):
    """``[..., n]`` to ``[..., rows, n - 1 + rows]``: row i is ``row`` moved i to the right."""
    width = row.shape[-1] + rows - 1
    padded = torch.nn.functional.pad(row, (0, rows))
    repeated = padded[..., None, :].expand(*row.shape[:-1], rows, width + 1).flatten(-2)
    return repeated[..., : rows * width].unflatten(-1, (rows, width))
