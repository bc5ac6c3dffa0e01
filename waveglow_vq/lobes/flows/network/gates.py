"""What a layer of a coupling network does between its convolutions, on ``[batch, time, channels]``.

The tanh is computed as a sigmoid, which vectorized libraries compute several times faster:

    tanh(u) sigmoid(v) = 2 (sigmoid(2 u) - 1/2) sigmoid(v)

whose factors of two go, exactly, into the weights before and behind (see folded_weights.py).

The functions here are made of torch's operations. On CUDA those in gate_triton.py, of the same
names, take their place, each of them one launch; only what they keep for the backward pass differs.
"""

import torch
from torch.nn.functional import pad


def gate(gates, frames, per_frame, rows=None, keep=False):
    """The gated activation ``(sigmoid(2 u) - 1/2) * sigmoid(v)``, ``[batch, time, channels]``.

    Arguments
    ---------
    gates : torch.Tensor
        Pre-activations ``(2 u, v)`` without bias and condition, ``[batch, time, 2 * channels]``,
        which are overwritten.
    frames : torch.Tensor
        Bias and condition ``[batch or 1, frames, 2 * channels]``, interpolated in time as
        :func:`~waveglow_vq.lobes.flows.upsampling.interpolate_frames` does it, the last one held.
    per_frame : int
        Steps of time per frame; 0 for one frame that holds for all.
    rows : torch.Tensor
        A condition that is added as it is, ``[batch, time, 2 * channels]``, or None.
    keep : bool
        Whether to return also what :func:`gate_backward` needs.
    """
    _add_frames(gates, frames, per_frame)
    if rows is not None:
        gates.add_(rows)
    if torch.compiler.is_compiling():
        filtered, gate = gates.sigmoid().chunk(2, dim=-1)
        return (filtered - 0.5) * gate
    filtered, gate = gates.sigmoid_().chunk(2, dim=-1)
    acts = filtered.sub_(0.5) * gate
    if not keep:
        return acts
    # The derivatives, (1/4 - a^2) s and a s (1 - s) with a = sigmoid(2 u) - 1/2 and s = sigmoid(v),
    # take the place of a and s.
    torch.addcmul(gate, filtered, acts, value=-4, out=filtered).mul_(0.25)
    torch.addcmul(acts, acts, gate, value=-1, out=gate)
    return acts, (gates, acts)


def gate_backward(gradient, kept, per_frame, frames):
    """From the gradient of the activations to those of the pre-activations and of ``frames``, the
    number of them: ``[batch, time, 2 * channels]`` and, at least fp32, ``[batch, frames,
    2 * channels]``; and the activations. On CUDA, what was kept is overwritten."""
    derivatives, acts = kept
    both = derivatives.unflatten(-1, (2, -1)) * gradient[:, :, None]
    derivatives = both.view(derivatives.shape)
    return derivatives, _sum_to_frames(derivatives, per_frame, frames), acts


def residual_skip(out, hidden, total, bias=None, lengths=None):
    """Adds the skip, the last channels of ``out``, to ``total``, and returns the next hidden state,
    the residual added to ``hidden [batch, time, channels]``: zero from ``lengths`` on. Without
    ``hidden``, all of ``out`` is the skip."""
    if bias is not None:
        out = out + bias
    if hidden is None:
        total.add_(out)
        return None
    channels = hidden.shape[-1]
    total.add_(out[..., channels:])
    following = hidden + out[..., :channels]
    if lengths is not None:
        following.mul_(within(lengths, following))
    return following


def add_residual(gradients, gradient, lengths=None):
    """The backward step of :func:`residual_skip`: adds a gradient of the hidden state to the first
    channels of ``gradients``, in place."""
    hidden = gradients[..., : gradient.shape[-1]]
    hidden.add_(gradient)
    if lengths is not None:
        hidden.mul_(within(lengths, hidden))


def within(lengths, rows):
    """1 where ``rows [batch, time, channels]`` belong to their item, 0 behind, ``[batch, time,
    1]``."""
    time = torch.arange(rows.shape[1], device=rows.device)
    return (time < lengths[:, None])[..., None].to(rows.dtype)


def _weights(per_frame, like):
    return (torch.arange(per_frame, device=like.device, dtype=like.dtype) + 0.5) / per_frame


def _add_frames(gates, frames, per_frame):
    if frames.shape[1] == 1 or not per_frame:
        gates.add_(frames)
        return
    steps = gates.shape[1]
    frames = _extended(frames, -(-steps // per_frame) + 1)
    differences, frames = frames.diff(dim=1).to(gates.dtype), frames.to(gates.dtype)
    weights = _weights(per_frame, gates)[:, None]
    whole = steps // per_frame
    blocks = gates[:, : whole * per_frame].unflatten(1, (whole, per_frame))
    blocks.add_(frames[:, :whole, None])
    blocks.addcmul_(differences[:, :whole, None], weights)
    if rest := steps - whole * per_frame:
        block = gates[:, -rest:]
        block.add_(frames[:, whole, None])
        block.addcmul_(differences[:, whole, None], weights[:rest])


def _extended(frames, count):
    """The first ``count`` frames; the last one is repeated where there are fewer."""
    missing = count - frames.shape[1]
    if missing <= 0:
        return frames[:, :count]
    return torch.cat([frames, frames[:, -1:].expand(-1, missing, -1)], dim=1)


def _sum_to_frames(gradient, per_frame, count):
    """The adjoint of adding ``count`` interpolated frames."""
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    if count == 1 or not per_frame:
        return gradient.sum(1, keepdim=True, dtype=dtype)
    batch, steps, channels = gradient.shape
    intervals = -(-steps // per_frame)
    if missing := intervals * per_frame - steps:
        gradient = pad(gradient, (0, 0, 0, missing))
    later = _weights(per_frame, gradient)
    weights = torch.stack([1 - later, later])
    blocks = gradient.reshape(batch * intervals, per_frame, channels)
    ends = torch.matmul(weights, blocks).view(batch, intervals, 2, channels).to(dtype)
    sums = ends.new_zeros(batch, max(count, intervals + 1), channels)
    sums[:, :intervals] = ends[:, :, 0]
    sums[:, 1 : intervals + 1] += ends[:, :, 1]
    if (more := sums.shape[1] - count) > 0:
        sums[:, count - 1] += sums[:, count:].sum(1)
        sums = sums[:, :-more]
    return sums
