"""The elementwise operations of a coupling network's layer as Triton kernels, for CUDA.

Tensors are ``[batch, time, channels]``, contiguous in the last axis; what else they are views of
does not matter. Nothing waits for the device, and every sum has one order: results are the same
each time. A kernel is compiled when it is first needed for its types and channels, which has to
be before a CUDA graph is captured.

Everything moves more bytes than it computes, so tiles are made for memory. Channels lie next to
each other in a warp, 16 bytes per thread, so that a tile of 64 half-precision channels is read in
whole lines of 128 bytes; 2,048 elements are 16 per thread of 4 warps, which is enough in flight to
hide the memory's latency, needs few registers, and leaves thousands of programs for a batch.
"""

import functools
import math
from types import SimpleNamespace

from waveglow_vq.lobes.filters.kernels import triton_works

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # nobody comes here then, but all modules can be imported
    triton, tl = None, SimpleNamespace(constexpr=None)

TILE = 2048
CHANNELS = 64
# Triton 3.9 warns where the second is not said.
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
# Steps of an interval where the condition is constant.
STEPS = 64
# Numbers that differ from call to call: one compiled kernel serves for all.
TENSORS = "frames gates rows out total hidden gradient gradients".split()
NUMBERS = "steps last per_frame blocks intervals frame_count residuals".split()
NUMBERS += [f"{tensor}_{axis}" for tensor in TENSORS for axis in ("item", "step")]


def kernel(function):
    """Compiled when it is first called; as it is without Triton."""
    return function if triton is None else triton.jit(function, do_not_specialize=NUMBERS)


def available(device):
    """Whether the kernels can be used on a device: CUDA, of compute capability 7.0 or later, with
    Triton, which compiles there. It is tried once per device, before the first graph is captured.

    Example
    -------
    >>> available("cpu")
    False
    """
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    return _available(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _available(index):
    device = torch.device("cuda", index)
    if torch.cuda.get_device_capability(device) < (7, 0):
        return False
    return triton_works("the coupling networks", lambda: _warm_up(device))


def _warm_up(device):
    """Each operation once, in the smallest size."""
    gates, frames = torch.zeros(2, 1, 3, 16, device=device).unbind()
    acts, kept = gate(gates, frames, 2, keep=True)
    gates, _, acts = gate_backward(acts, kept, 2, frames.shape[1])
    residual_skip(gates, acts, torch.zeros_like(acts))
    add_residual(gates, acts)


def gate(gates, frames, per_frame, rows=None, keep=False):
    """See :func:`~waveglow_vq.lobes.flows.network.gates.gate`: a program for a part of an
    interval between two frames, which reads these once. What it keeps, in the place of
    ``gates``, are ``(sigmoid(a) - 1/2, sigmoid(b))``, from which the backward pass has the
    activations again."""
    gates, rows = _rows(gates), None if rows is None else _rows(rows)
    batch, steps, size = gates.shape[0], gates.shape[1], gates.shape[2] // 2
    acts = gates.new_empty(batch, steps, size)
    per_frame = per_frame or STEPS
    count, channels = _tile(size, per_frame)
    blocks = triton.cdiv(per_frame, count)
    align, strides = _strides(size, gates, rows)
    grid = (triton.cdiv(steps, per_frame) * blocks, triton.cdiv(size, channels), batch)
    frames = _rows(frames)
    frames_item = frames.stride(0) if len(frames) > 1 else 0
    with torch.cuda.device_of(gates):
        _gate_kernel[grid](
            gates, acts, rows, frames, steps, frames.shape[1] - 1, per_frame, blocks,
            frames_item, frames.stride(1), *strides, SIZE=size, STEPS=count, CHANNELS=channels,
            ALIGN=align, KIND=_kind(gates), KEEP=keep, **OPTIONS,
        )  # fmt: skip
    return (acts, (gates,)) if keep else acts


def gate_backward(gradient, kept, per_frame, frames):
    """See :func:`~waveglow_vq.lobes.flows.network.gates.gate_backward`: a program for an
    interval between two frames, which sums what goes to each of these."""
    gradient, (gates,) = _rows(gradient), kept
    batch, steps, size = gradient.shape
    acts = gates.new_empty(batch, steps, size)
    per_frame = per_frame or STEPS
    intervals, (count, channels) = triton.cdiv(steps, per_frame), _tile(size, per_frame)
    wide = torch.promote_types(gates.dtype, torch.float32)
    parts = gates.new_empty(batch, intervals, 2, 2 * size, dtype=wide)
    align, strides = _strides(size, gradient, gates)
    with torch.cuda.device_of(gates):
        _gate_backward_kernel[(intervals, triton.cdiv(size, channels), batch)](
            gradient, gates, acts, parts, steps, per_frame, triton.cdiv(per_frame, count),
            *strides, SIZE=size, STEPS=count, CHANNELS=channels, ALIGN=align, KIND=_kind(gates),
            **OPTIONS,
        )  # fmt: skip
        if frames == 1:
            return gates, parts.sum((1, 2)).unsqueeze(1), acts
        sums = parts.new_empty(batch, frames, 2 * size)
        block = min(triton.next_power_of_2(2 * size), 256)
        _frames_kernel[(frames, triton.cdiv(2 * size, block), batch)](
            parts, sums, intervals, frames, SIZE=2 * size, CHANNELS=block, **OPTIONS,
        )  # fmt: skip
    return gates, sums, acts


def residual_skip(out, hidden, total, bias=None, lengths=None):
    """See :func:`~waveglow_vq.lobes.flows.network.gates.residual_skip`. The skips
    are few where they are folded into the last projection: they have a width of their own, and
    programs of their own."""
    out, hidden = _rows(out), None if hidden is None else _rows(hidden)
    (batch, steps), skips = out.shape[:2], total.shape[2]
    size = out.shape[2] - skips
    following = None if hidden is None else hidden.new_empty(batch, steps, size)
    align, strides = _strides(math.gcd(size, skips), out, total, hidden)
    channels = min(triton.next_power_of_2(size or skips), CHANNELS)
    width = min(triton.next_power_of_2(skips), channels)
    count, residuals = TILE // channels, triton.cdiv(size, channels)
    grid = (triton.cdiv(steps, count), residuals + triton.cdiv(skips, width), batch)
    with torch.cuda.device_of(out):
        _residual_skip_kernel[grid](
            out, total, hidden, following, bias, lengths, steps, residuals, *strides,
            SIZE=size, SKIPS=skips, STEPS=count,
            CHANNELS=channels, WIDTH=width, ALIGN=align, KIND=_kind(total), **OPTIONS,
        )  # fmt: skip
    return following


def add_residual(gradients, gradient, lengths=None):
    """See :func:`~waveglow_vq.lobes.flows.network.gates.add_residual`."""
    gradient = _rows(gradient)
    batch, steps, size = gradient.shape
    align, strides = _strides(size, gradients, gradient)
    channels = min(triton.next_power_of_2(size), CHANNELS)
    count = TILE // channels
    grid = (triton.cdiv(steps, count), triton.cdiv(size, channels), batch)
    with torch.cuda.device_of(gradients):
        _add_residual_kernel[grid](
            gradients, gradient, lengths, steps, *strides, SIZE=size, STEPS=count,
            CHANNELS=channels, ALIGN=align, KIND=_kind(gradients), **OPTIONS,
        )  # fmt: skip


def _tile(size, per_frame):
    """Steps and channels of a tile within an interval: up to 32 steps, so that frames are read
    once for many steps, and as many channels as the tile has room for."""
    count = min(triton.next_power_of_2(per_frame), TILE // CHANNELS)
    return count, min(triton.next_power_of_2(size), TILE // count)


def _strides(size, *tensors):
    """Strides of items and steps, one tensor's after the other's, in units of ``align`` elements:
    Triton knows of numbers that they are multiples of 16 or nothing, and reads element by element
    where rows of 264 channels start anywhere."""
    strides = [s for x in tensors for s in ((0, 0) if x is None else x.stride()[:2])]
    align = math.gcd(16, size, *strides)
    return align, [stride // align for stride in strides]


def _rows(tensor):
    """Whatever layout a convolution has chosen, with channels next to each other."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _kind(tensor):
    """What is computed in."""
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32


@kernel
def _sigmoid(x):
    """1 / (1 + exp(-x)) without exponents that overflow."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@kernel
def _preactivation(gates, rows, frame, following, weight, inside, known, KIND: tl.constexpr):
    """One half of the gates with the condition, which lies between two frames."""
    x = tl.load(gates, mask=inside, other=0.0).to(KIND)
    early = tl.load(frame, mask=known, other=0.0).to(KIND)
    late = tl.load(following, mask=known, other=0.0).to(KIND)
    x += early[None, :] + weight[:, None] * (late - early)[None, :]
    if rows is not None:
        x += tl.load(rows, mask=inside, other=0.0).to(KIND)
    return x


@kernel
def _gate_kernel(
    gates, acts, rows, frames, steps, last, per_frame, blocks, frames_item, frames_step,
    gates_item, gates_step, rows_item, rows_step, SIZE: tl.constexpr,
    STEPS: tl.constexpr, CHANNELS: tl.constexpr, ALIGN: tl.constexpr, KIND: tl.constexpr,
    KEEP: tl.constexpr,
):  # fmt: skip
    """A part of an interval, so that it lies between the same two frames."""
    item = tl.program_id(2).to(tl.int64)
    interval = tl.program_id(0) // blocks
    begin = tl.program_id(0) % blocks * STEPS
    start = interval.to(tl.int64) * per_frame + begin
    n = tl.arange(0, STEPS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = c < SIZE
    inside = ((begin + n < per_frame) & (start + n < steps))[:, None] & known[None, :]
    frame = frames + item * frames_item + tl.minimum(interval, last).to(tl.int64) * frames_step + c
    following = frame + tl.where(interval < last, 1, 0).to(tl.int64) * frames_step
    weight = ((begin + n).to(KIND) + 0.5) / per_frame.to(KIND)
    gates += (item * gates_item + start * gates_step) * ALIGN
    gates += n[:, None] * gates_step * ALIGN + c[None, :]
    if rows is not None:
        rows += (item * rows_item + start * rows_step) * ALIGN
        rows += n[:, None] * rows_step * ALIGN + c[None, :]
        second = rows + SIZE
    else:
        second = None
    a = _sigmoid(_preactivation(gates, rows, frame, following, weight, inside, known, KIND))
    a -= 0.5
    frame += SIZE
    following += SIZE
    b = _sigmoid(
        _preactivation(gates + SIZE, second, frame, following, weight, inside, known, KIND)
    )
    if KEEP:
        tl.store(gates, a, mask=inside)
        tl.store(gates + SIZE, b, mask=inside)
    acts += (item * steps + start) * SIZE
    tl.store(acts + n[:, None] * SIZE + c[None, :], a * b, mask=inside)


@kernel
def _gate_backward_kernel(
    gradient, gates, acts, parts, steps, per_frame, blocks, gradient_item, gradient_step,
    gates_item, gates_step, SIZE: tl.constexpr, STEPS: tl.constexpr, CHANNELS: tl.constexpr,
    ALIGN: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """An interval, whose gradient is summed for the frame before it and for the one after it."""
    item = tl.program_id(2).to(tl.int64)
    interval = tl.program_id(0).to(tl.int64)
    start = interval * per_frame
    n = tl.arange(0, STEPS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = c < SIZE
    gradient += (item * gradient_item + start * gradient_step) * ALIGN
    gates += (item * gates_item + start * gates_step) * ALIGN
    acts += (item * steps + start) * SIZE
    all_a = tl.zeros((CHANNELS,), dtype=KIND)
    all_b = tl.zeros((CHANNELS,), dtype=KIND)
    late_a = tl.zeros((CHANNELS,), dtype=KIND)
    late_b = tl.zeros((CHANNELS,), dtype=KIND)
    for block in range(blocks):
        place = block * STEPS + n
        inside = ((place < per_frame) & (start + place < steps))[:, None] & known[None, :]
        weight = ((place.to(KIND) + 0.5) / per_frame.to(KIND))[:, None]
        here = gates + place[:, None] * gates_step * ALIGN + c[None, :]
        g = tl.load(
            gradient + place[:, None] * gradient_step * ALIGN + c[None, :], mask=inside, other=0.0
        ).to(KIND)
        a = tl.load(here, mask=inside, other=0.0).to(KIND)
        b = tl.load(here + SIZE, mask=inside, other=0.0).to(KIND)
        tl.store(acts + place[:, None] * SIZE + c[None, :], a * b, mask=inside)
        g *= b
        b = a * (1.0 - b) * g
        a = (0.25 - a * a) * g
        tl.store(here, a, mask=inside)
        tl.store(here + SIZE, b, mask=inside)
        all_a += tl.sum(a, axis=0)
        all_b += tl.sum(b, axis=0)
        late_a += tl.sum(a * weight, axis=0)
        late_b += tl.sum(b * weight, axis=0)
    parts += (item * tl.num_programs(0) + interval) * 4 * SIZE + c
    tl.store(parts, all_a - late_a, mask=known)
    tl.store(parts + SIZE, all_b - late_b, mask=known)
    tl.store(parts + 2 * SIZE, late_a, mask=known)
    tl.store(parts + 3 * SIZE, late_b, mask=known)


@kernel
def _frames_kernel(parts, sums, intervals, frame_count, SIZE: tl.constexpr, CHANNELS: tl.constexpr):
    """A frame: it is before its own interval and after the one before; the last frame is both for
    all that follow."""
    item = tl.program_id(2).to(tl.int64)
    frame = tl.program_id(0)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    first = tl.maximum(frame - 1, 0)
    parts += (item * intervals + first) * 2 * SIZE + c
    until = tl.where(frame == frame_count - 1, intervals, frame)
    total = tl.zeros((CHANNELS,), dtype=sums.dtype.element_ty)
    for i in range(first, tl.minimum(tl.maximum(until, frame + 1), intervals)):
        total += tl.load(parts, mask=c < tl.where(i >= frame, SIZE, 0), other=0.0)
        total += tl.load(parts + SIZE, mask=c < tl.where(i < until, SIZE, 0), other=0.0)
        parts += 2 * SIZE
    tl.store(sums + (item * frame_count + frame) * SIZE + c, total, mask=c < SIZE)


@kernel
def _residual_skip_kernel(
    out, total, hidden, following, bias, lengths, steps, residuals, out_item, out_step, total_item,
    total_step, hidden_item, hidden_step, SIZE: tl.constexpr, SKIPS: tl.constexpr,
    STEPS: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, ALIGN: tl.constexpr,
    KIND: tl.constexpr,
):  # fmt: skip
    """Channels of the residual, or of the skip."""
    item = tl.program_id(2).to(tl.int64)
    block = tl.program_id(1)
    start = tl.program_id(0).to(tl.int64) * STEPS
    n = tl.arange(0, STEPS)
    out += (item * out_item + start * out_step) * ALIGN
    rows = n[:, None] * out_step * ALIGN
    if block >= residuals:
        # Names of their own: those of both branches would have to have one shape.
        k = (block - residuals) * WIDTH + tl.arange(0, WIDTH)
        present = (start + n < steps)[:, None] & (k < SKIPS)[None, :]
        skip = tl.load(out + SIZE + rows + k[None, :], mask=present, other=0.0).to(KIND)
        if bias is not None:
            skip += tl.load(bias + SIZE + k, mask=k < SKIPS, other=0.0).to(KIND)[None, :]
        sums = total + (item * total_item + start * total_step) * ALIGN
        sums += n[:, None] * total_step * ALIGN + k[None, :]
        skip += tl.load(sums, mask=present, other=0.0).to(KIND)
        tl.store(sums, skip, mask=present)
    elif hidden is not None:
        c = block * CHANNELS + tl.arange(0, CHANNELS)
        inside = (start + n < steps)[:, None] & (c < SIZE)[None, :]
        x = tl.load(out + rows + c[None, :], mask=inside, other=0.0).to(KIND)
        here = hidden + (item * hidden_item + start * hidden_step) * ALIGN
        here += n[:, None] * hidden_step * ALIGN + c[None, :]
        x += tl.load(here, mask=inside, other=0.0).to(KIND)
        if bias is not None:
            x += tl.load(bias + c, mask=c < SIZE, other=0.0).to(KIND)[None, :]
        if lengths is not None:
            x = tl.where((start + n < tl.load(lengths + item))[:, None], x, 0.0)
        here = following + (item * steps + start) * SIZE
        tl.store(here + n[:, None] * SIZE + c[None, :], x, mask=inside)


@kernel
def _add_residual_kernel(
    gradients, gradient, lengths, steps, gradients_item, gradients_step, gradient_item,
    gradient_step, SIZE: tl.constexpr, STEPS: tl.constexpr, CHANNELS: tl.constexpr,
    ALIGN: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    item = tl.program_id(2).to(tl.int64)
    start = tl.program_id(0).to(tl.int64) * STEPS
    n = tl.arange(0, STEPS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (start + n < steps)[:, None] & (c < SIZE)[None, :]
    gradients += (item * gradients_item + start * gradients_step) * ALIGN
    gradients += n[:, None] * gradients_step * ALIGN + c[None, :]
    gradient += (item * gradient_item + start * gradient_step) * ALIGN
    gradient += n[:, None] * gradient_step * ALIGN + c[None, :]
    x = tl.load(gradients, mask=inside, other=0.0).to(KIND)
    x += tl.load(gradient, mask=inside, other=0.0).to(KIND)
    if lengths is not None:
        x = tl.where((start + n < tl.load(lengths + item))[:, None], x, 0.0)
    tl.store(gradients, x, mask=inside)
