"""The envelope's recursions as Triton kernels, for CUDA.

They compile for CUDA's compute capabilities 7.5, 8.0 and 9.0, but so far they have been run by
Triton's interpreter only, which executes one program after the other on a CPU: their results are
tested, their speed on a GPU is not known.
"""

from types import SimpleNamespace

from waveglow_vq.lobes.filters.steps import step_of_block

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # nobody comes here then, but all modules can be imported
    triton, tl = None, SimpleNamespace(constexpr=None)


def recursive_filter(driven, coefficients, history):
    """See :func:`~waveglow_vq.lobes.filters.blockwise.recursive_filter_blocks`: its steps, all
    those of an item in one program, which reads its matrices off the coefficients and the impulse
    responses."""
    (batch, samples), (blocks, order) = driven.shape, coefficients.shape[1:]
    step = step_of_block(samples // blocks)
    coefficients = coefficients.contiguous()
    impulse = coefficients.new_empty(batch, blocks, step)
    padded = torch.nn.functional.pad(history, (0, samples))
    places, lags = triton.next_power_of_2(step), triton.next_power_of_2(order)
    with torch.cuda.device_of(driven):
        _impulse_kernel[(batch * blocks,)](
            impulse, coefficients, order, step, PLACES=places, num_warps=1, enable_fp_fusion=True
        )
        _recursion_kernel[(batch,)](
            padded,
            driven.contiguous(),
            coefficients,
            impulse,
            samples,
            blocks,
            order,
            step,
            PLACES=places,
            LAGS=lags,
            num_warps=8,
            enable_fp_fusion=True,
        )
    return padded[:, order:]


def levinson(autocorrelation):
    """See :func:`~waveglow_vq.lobes.flows.envelope.levinson_durbin`; one program per row."""
    *shape, lags = autocorrelation.shape
    rows = autocorrelation.reshape(-1, lags).contiguous()
    coefficients, error = rows.new_empty(len(rows), lags - 1), rows.new_empty(len(rows))
    with torch.cuda.device_of(rows):
        _levinson_kernel[(len(rows),)](
            rows,
            coefficients,
            error,
            lags - 1,
            LAGS=triton.next_power_of_2(lags - 1),
            num_warps=1,
            enable_fp_fusion=True,
        )
    return coefficients.view(*shape, lags - 1), error.view(shape)


def _impulse_kernel(impulse, coefficients, order, step, PLACES: tl.constexpr):
    """h_0 = 1, h_n = - sum_k a_k h_{n-k}: each h, once known, goes into all later ones."""
    block = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, PLACES)
    h = tl.where(n == 0, 1.0, 0.0).to(impulse.dtype.element_ty)
    for i in range(step - 1):
        known = tl.sum(tl.where(n == i, h, 0.0), axis=0)
        lag = n - i
        a = tl.load(
            coefficients + block * order + lag - 1, mask=(lag >= 1) & (lag <= order), other=0.0
        )
        h -= a * known
    tl.store(impulse + block * step + n, h, mask=n < step)


def _recursion_kernel(
    padded,
    driven,
    coefficients,
    impulse,
    samples,
    blocks,
    order,
    step,
    PLACES: tl.constexpr,
    LAGS: tl.constexpr,
):
    """x = H (driven - C before), step after step; see ``_substitute`` of blockwise.py."""
    item = tl.program_id(0).to(tl.int64)
    padded += item * (order + samples)
    driven += item * samples
    coefficients += item * blocks * order
    impulse += item * blocks * step
    steps_per_block = samples // blocks // step
    n = tl.arange(0, PLACES)
    m = tl.arange(0, LAGS)
    # How far before sample n of a step sample m of those before the step is.
    lag = order + n[:, None] - m[None, :]
    reaches = (lag >= 1) & (lag <= order) & (m < order)[None, :] & (n < step)[:, None]
    later = n[:, None] - n[None, :]
    follows = (later >= 0) & (n < step)[:, None]
    for i in range(samples // step):
        block = i // steps_per_block
        c = tl.load(coefficients + block * order + lag - 1, mask=reaches, other=0.0)
        h = tl.load(impulse + block * step + later, mask=follows, other=0.0)
        before = tl.load(padded + i * step + m, mask=m < order, other=0.0)
        rest = tl.load(driven + i * step + n, mask=n < step, other=0.0)
        rest -= tl.sum(c * before[None, :], axis=1)
        # For the product, the samples of the step lie along the other dimension.
        along = tl.sum(tl.where(later == 0, rest[:, None], 0.0), axis=0)
        x = tl.sum(h * along[None, :], axis=1)
        tl.store(padded + order + i * step + n, x, mask=n < step)
        # The next step reads what other threads have written in this one.
        tl.debug_barrier()


def _levinson_kernel(autocorrelation, coefficients, error, order, LAGS: tl.constexpr):
    """The recursion of ``levinson_durbin`` for one row; place j holds a_{j+1}."""
    row = tl.program_id(0).to(tl.int64)
    autocorrelation += row * (order + 1)
    j = tl.arange(0, LAGS)
    energy = tl.load(autocorrelation)
    a = tl.zeros((LAGS,), dtype=autocorrelation.dtype.element_ty)
    for i in range(order):
        earlier = tl.load(autocorrelation + i - j, mask=j < i, other=0.0)
        total = tl.load(autocorrelation + i + 1) + tl.sum(a * earlier, axis=0)
        reflection = -total / energy
        mirrored = tl.gather(a, tl.where(j < i, i - 1 - j, 0), axis=0)
        a = tl.where(j < i, a + reflection * mirrored, tl.where(j == i, reflection, a))
        energy *= 1 - reflection * reflection
    tl.store(coefficients + row * order + j, a, mask=j < order)
    tl.store(error + row, energy)


if triton is not None:
    _impulse_kernel = triton.jit(_impulse_kernel)
    _recursion_kernel = triton.jit(_recursion_kernel)
    _levinson_kernel = triton.jit(_levinson_kernel)
