"""The layers of a coupling network on ``[batch, time, channels]``, the layout of the convolution
kernels that come near to the arithmetic peak: oneDNN's for channels_last on CPU, those of tensor
cores on GPU.

cuDNN has no fast kernel for dilated convolutions in this layout. But one of dilation d along time
is one of dilation 1 along the rows of the image ``[time / d, d]``, whose columns are the phases:
a view, without a copy. Time has to be a multiple of d then.
"""

from waveglow_vq.lobes.flows.network import gates as plain_operations
from waveglow_vq.lobes.flows.network.folded_weights import FoldedWeights

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, linear, pad

# Types of devices on which dilated convolutions are those of phases. oneDNN computes dilated ones
# as fast, or faster.
PHASED = {"cuda"}


def layer_inputs(x, context, weights, condition, dilations, dtype):
    """Arguments of :func:`run_layers` for the input and the context of a network: with steps of
    time, for phases, up to a multiple of all dilations.

    Arguments
    ---------
    x : torch.Tensor
        ``[batch, inputs, groups]``.
    context : FlowContext
        The conditions.
    weights : FoldedWeights
        The weights of the layers.
    condition : ConditionWeights
        Those of the condition; what is at frame rate is computed in their precision.
    dilations : list
        Those of the layers.
    dtype : torch.dtype
        Precision of the layers.
    """
    batch, inputs, groups = x.shape
    missing = -groups % dilations[-1] if x.device.type in PHASED else 0
    lengths, ones = None, torch.ones_like(x[:, :1])
    if context.mask is not None:
        ones, lengths = context.mask.to(x.dtype), context.mask.bool().sum(-1)[:, 0]
        x = x * ones
    elif missing:
        lengths = torch.full((batch,), groups, device=x.device)
    own = torch.cat([x, ones], dim=1).transpose(1, 2).to(dtype)
    own = pad(own, (0, weights.start.shape[2] - inputs - 1, 0, missing)).contiguous()
    kind, local, rows, kernels, per_frame = condition.bias.dtype, context.local, None, None, 0
    frames = condition.bias[:, None]
    if condition.speaker is not None and context.speaker is not None:
        terms = linear(context.speaker.to(kind), condition.speaker.flatten(0, 1))
        terms = terms.view(batch, *condition.bias.shape) + condition.speaker_bias
        frames = frames + terms.transpose(0, 1)
    frames = frames[:, :, None]
    if condition.local is not None and context.groups_per_frame > 1:
        # Projected at frame rate, where it costs a few hundredths, and interpolated after.
        terms = linear(local.transpose(1, 2).to(kind), condition.local.flatten(0, 1))
        frames = terms.unflatten(-1, (len(dilations), -1)).permute(2, 0, 1, 3) + frames
        per_frame = context.groups_per_frame
    elif condition.local is not None:
        rows = local[..., :groups].transpose(1, 2).to(dtype)
        rows = pad(rows, (0, 0, 0, missing)).contiguous()
        kernels = condition.local[:, :, None].to(dtype)
    return own, weights.to(dtype), frames, per_frame, dilations, rows, kernels, lengths


def convolve(rows, kernel, dilation=1, bias=None):
    """A convolution along time with zeros at both ends, of ``rows [batch, time, inputs]`` with
    ``kernel [outputs, taps, inputs]``, odd in its taps: ``[batch, time, outputs]``."""
    if _is_product(kernel, rows):
        return linear(rows, kernel[:, 0], bias)
    image, weight, options = _as_images(rows, kernel, dilation)
    return _as_rows(conv2d(image, weight, bias, **options), rows)


def convolve_chunk(rows, kernel, dilation=1, bias=None):
    """As :func:`convolve` on CPU, without the zeros: shorter by what the kernel reaches."""
    image, weight, options = _as_images(rows, kernel, dilation)
    out = conv2d(image, weight, bias, dilation=options["dilation"])
    return out.permute(0, 2, 3, 1)[:, 0]


def convolve_backward(gradient, rows, kernel, dilation=1, wanted=(True, True, False)):
    """Gradients of :func:`convolve` with respect to rows, kernel and bias, each if ``wanted``."""
    if _is_product(kernel, rows):
        to_rows = linear(gradient, kernel[:, 0].t()) if wanted[0] else None
        to_kernel = gradient.flatten(0, 1).t() @ rows.flatten(0, 1) if wanted[1] else None
        to_kernel = to_kernel if to_kernel is None else to_kernel[:, None]
        return to_rows, to_kernel, gradient.sum((0, 1)) if wanted[2] else None
    image, weight, options = _as_images(rows, kernel, dilation)
    padding, dilation = options["padding"], options["dilation"]
    gradient = gradient.reshape(len(rows), *image.shape[2:], -1).permute(0, 3, 1, 2)
    to_rows, to_kernel, to_bias = torch.ops.aten.convolution_backward(
        gradient, image, weight, [len(kernel)], [1, 1], padding, dilation, False, [0, 0], 1, wanted
    )
    to_rows = _as_rows(to_rows, rows) if wanted[0] else None
    if wanted[1]:
        to_kernel = to_kernel.reshape(*to_kernel.shape[:2], -1).transpose(1, 2)
    return to_rows, to_kernel, to_bias


def _is_product(kernel, rows):
    """Whether a convolution is computed as a product of matrices, which on CPU takes longer."""
    return kernel.shape[1] == 1 and rows.device.type in PHASED


def _as_images(rows, kernel, dilation):
    """Both as images in channels_last, without copies, and the options of the convolution."""
    reach = kernel.shape[1] // 2
    if dilation > 1 and rows.device.type in PHASED:
        image = rows.view(rows.shape[0], -1, dilation, rows.shape[2])
        image, weight = image.permute(0, 3, 1, 2), kernel[:, :, None].permute(0, 3, 1, 2)
        return image, weight, {"padding": (reach, 0), "dilation": (1, 1)}
    image, weight = rows[:, None].permute(0, 3, 1, 2), kernel[:, None].permute(0, 3, 1, 2)
    # A 1x1 convolution is the same with any dilation. One that is not 1 keeps torch from taking
    # another, slower library for it where there is only one thread.
    dilation = dilation if reach else 2
    return image, weight, {"padding": (0, reach * dilation), "dilation": (1, dilation)}


def _as_rows(image, rows):
    return image.permute(0, 2, 3, 1).reshape(*rows.shape[:2], -1)


def run_layers(x, weights, frames, per_frame, dilations, rows=None, local=None, lengths=None):
    """The sum of the layers' outputs, at least fp32, ``[batch, time, outputs]``.

    Arguments
    ---------
    x : torch.Tensor
        The network's input with a channel of ones behind it, and zeros up to what the weights
        want, ``[batch, time, inputs]``; zero where padded.
    weights : FoldedWeights
        In the precision of the computation, which is also that of x.
    frames : torch.Tensor
        Biases and conditions of the layers, ``[L, batch or 1, frames, 2 * channels]``.
    per_frame : int
        Steps of time per frame; 0 where there is one frame for all.
    dilations : list
        Those of the L layers.
    rows : torch.Tensor
        A local condition with a value of its own for each step of time, ``[batch, time,
        condition_channels]``, or None.
    local : torch.Tensor
        Its projections ``[L, 2 * channels, 1, condition_channels]``.
    lengths : torch.Tensor
        Steps of time of each item that are not padding, int64 ``[batch]``; None for all.
    """
    settings = per_frame, dilations, lengths
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return _run(x, weights, frames, rows, local, *settings)
    return _Layers.apply(settings, x, frames, rows, local, *weights)


def _run(x, weights, frames, rows, local, per_frame, dilations, lengths, kept=None):
    """As :func:`run_layers`; appends to the list ``kept``, if given, what each layer leaves to the
    backward pass."""
    operations, fused_bias = _operations(x)
    hidden, source = convolve(x, weights.start), x
    total = x.new_zeros(
        *x.shape[:2], len(weights.last), dtype=torch.promote_types(x.dtype, torch.float32)
    )
    for i, dilation in enumerate(dilations):
        pre = convolve(source, weights.first if i == 0 else weights.dilated[i - 1], dilation)
        added = None if rows is None else convolve(rows, local[i])
        acts = operations.gate(pre, frames[i], per_frame, added, keep=kept is not None)
        if kept is not None:
            acts, state = acts
            kept.append((None if i == 0 else source, *state))
        kernel, bias = weights.last, weights.last_bias
        if i < len(dilations) - 1:
            kernel, bias = weights.outs[i], weights.out_biases[i]
        else:
            hidden = None
        out = convolve(acts, kernel, bias=None if fused_bias else bias)
        bias = bias if fused_bias else None
        source = hidden = operations.residual_skip(out, hidden, total, bias, lengths)
    return total


def _operations(x):
    """The gate and what else is between convolutions, and whether biases are left to it: a
    convolution adds them at no cost on CPU, in a launch of its own on CUDA."""
    if x.device.type == "cuda" and not torch.compiler.is_compiling():
        from waveglow_vq.lobes.flows.network import gate_triton

        if gate_triton.available(x.device):
            return gate_triton, True
    return plain_operations, False


class _Layers(torch.autograd.Function):
    """:func:`run_layers` with its backward pass. Hidden states and what the gates keep are saved,
    nothing else."""

    @staticmethod
    def forward(ctx, settings, x, frames, rows, local, *weights):
        kept = []
        total = _run(x, FoldedWeights(*weights), frames, rows, local, *settings, kept)
        ctx.is_used = False
        ctx.settings, ctx.kept = settings, [len(state) for state in kept]
        ctx.save_for_backward(x, frames, rows, local, *weights, *(t for s in kept for t in s))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        with torch.autocast(gradient.device.type, enabled=False):
            return _Layers._backward(ctx, gradient)

    @staticmethod
    def _backward(ctx, gradient):
        (x, frames, rows, local), *rest = _split(ctx.saved_tensors, 4, len(FoldedWeights._fields))
        weights, kept = FoldedWeights(*rest[0]), _split(rest[1], *ctx.kept)
        per_frame, dilations, lengths = ctx.settings
        operations, _ = _operations(x)
        if operations is not plain_operations:
            if ctx.is_used:
                raise RuntimeError("a second backward pass: what the first one kept is overwritten")
            ctx.is_used = True
        last, channels = len(dilations) - 1, len(weights.start)
        # Of residual and skip; the latter is the same in all layers.
        skip = gradient.to(x.dtype)
        both = torch.cat([skip.new_zeros(*skip.shape[:2], channels), skip], dim=-1)
        sums, to_local, to_dilated, to_outs, to_biases = [], [], [], [], []
        to_rows = None
        for i in range(last, -1, -1):
            source, *state = kept[i]
            kernel, own = (weights.last, skip) if i == last else (weights.outs[i], both)
            to_acts = convolve(own, kernel.transpose(0, 2))
            to_pre, to_frames, acts = operations.gate_backward(
                to_acts, state, per_frame, frames.shape[2]
            )
            sums.append(to_frames)
            _, to_kernel, to_bias = convolve_backward(own, acts, kernel, wanted=(False, True, True))
            to_outs.append(to_kernel)
            to_biases.append(to_bias)
            if rows is not None:
                term, to_kernel, _ = convolve_backward(
                    to_pre, rows, local[i], wanted=(ctx.needs_input_grad[3], True, False)
                )
                to_rows = term if to_rows is None else to_rows.add_(term)
                to_local.append(to_kernel)
            kernel = weights.dilated[i - 1] if i else weights.first
            to_source, to_kernel, _ = convolve_backward(
                to_pre, source if i else x, kernel, dilations[i]
            )
            to_dilated.append(to_kernel)
            if i:
                operations.add_residual(both, to_source, lengths)
        to_hidden = both[..., :channels].contiguous()
        to_x, to_start, _ = convolve_backward(to_hidden, x, weights.start)
        to_frames = torch.stack(sums[::-1])
        if frames.shape[1] < len(x):
            to_frames = to_frames.sum(1, keepdim=True)
        to_last, *to_outs = to_outs
        to_last_bias, *to_biases = to_biases
        *to_dilated, to_first = to_dilated
        return (
            None,
            to_x.add_(to_source),
            to_frames.to(frames.dtype),
            to_rows,
            None if rows is None else torch.stack(to_local[::-1]),
            to_start,
            to_first,
            _stacked(to_dilated, weights.dilated),
            _stacked(to_outs, weights.outs),
            to_last,
            _stacked(to_biases, weights.out_biases),
            to_last_bias,
        )


def _split(tensors, *sizes):
    """The first tensors, the next ones, ..., and the rest of them."""
    parts, tensors = [], list(tensors)
    for size in sizes:
        parts.append(tensors[:size])
        tensors = tensors[size:]
    return [*parts, tensors]


def _stacked(gradients, like):
    """Those of the layers, the last one first, as one tensor; nothing of a single layer."""
    return torch.stack(gradients[::-1]) if gradients else torch.zeros_like(like)
