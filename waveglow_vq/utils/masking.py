"""Masks, lengths and padding of batches whose items differ in length.

Half precision cannot count beyond 256 (bf16) or 2048 (fp16), and fp32 cannot tell the samples of
long recordings apart: whole numbers are kept as such, and what is between is fp64
(fp32 on devices without, which is exact for four million steps).
"""

import math

from waveglow_vq.utils.devices import at_least_fp32, exact
from waveglow_vq.utils.distributed import mean_everywhere

import torch


def whole_lengths(lengths, total):
    """Relative lengths, of any shape, as counts (int64) of the ``total`` steps of a padded batch.

    Example
    -------
    >>> import torch
    >>> whole_lengths(torch.tensor([1.0, 601 / 999]), 999)
    tensor([999, 601])
    """
    return (exact(lengths) * total).round().long()


def shares(counts, total):
    """Counts as relative lengths: the inverse of :func:`whole_lengths`."""
    return exact(counts) / total


def relative_lengths(counts, total):
    """Relative lengths ``[B]``, or None where nothing is padded."""
    return None if bool((counts == total).all()) else shares(counts, total)


def none_if_whole(lengths):
    """Relative lengths on the host, or None where nothing is padded."""
    return None if bool((lengths >= 1).all()) else lengths


def relative_code_lengths(lengths, frames, stride):
    """Relative lengths of the codes of items with the given relative lengths in frames."""
    if lengths is None:
        return None
    counts = (whole_lengths(lengths, frames) + stride - 1) // stride
    return shares(counts, math.ceil(frames / stride))


def code_mask(lengths, frames, stride):
    """:func:`frame_mask` at code rate: a code counts if any of its frames does."""
    return frame_mask(relative_code_lengths(lengths, frames, stride), math.ceil(frames / stride))


def frame_mask(lengths, frames):
    """Marks the frames that are not padding, ``[batch, 1, frames]``. The lengths ``[batch]`` are
    relative, in (0, 1]; where nothing is padded they are None, and so is the mask.

    Example
    -------
    >>> import torch
    >>> frame_mask(torch.tensor([0.5, 1.0]), 4)[:, 0].tolist()
    [[True, True, False, False], [True, True, True, True]]
    """
    # On another device one would have to wait to see that nothing is padded.
    if lengths is None or (lengths.device.type == "cpu" and none_if_whole(lengths) is None):
        return None
    valid = whole_lengths(lengths, frames)[:, None, None]
    return torch.arange(frames, device=lengths.device) < valid


def masked(x, mask):
    """x with zeros where padded; the mask may be None."""
    return x if mask is None else x * mask


def fill_padding(x, counts, value):
    """Sets what lies behind the first ``counts`` steps, on the last dimension, to ``value``."""
    padding = torch.arange(x.shape[-1], device=x.device) >= counts.to(x.device)[:, None]
    return x.masked_fill(padding if x.dim() == 2 else padding[:, None], value)


def crop_frames(x, frames, starts=None, lengths=None):
    """Takes ``frames`` frames of every item of ``x`` ``[batch, channels, all frames]``; behind its
    end an item's last frame is held.

    ``starts`` ``[batch]`` are the first frames, 0 where None; ``lengths`` ``[batch]`` are relative,
    in (0, 1], or None where nothing is padded.

    Example
    -------
    >>> import torch
    >>> x = torch.arange(5.0).expand(2, 1, 5)
    >>> crop_frames(x, 3, torch.tensor([0, 3])).tolist()
    [[[0.0, 1.0, 2.0]], [[3.0, 4.0, 4.0]]]
    """
    total = x.shape[-1]
    if starts is None and lengths is None and frames <= total:
        return x[..., :frames]
    index = torch.arange(frames, device=x.device).expand(x.shape[0], -1)
    if starts is not None:
        index = index + starts[:, None]
    last = torch.full_like(index[:, :1], total - 1)
    if lengths is not None:
        last = whole_lengths(lengths, total)[:, None] - 1
    index = torch.minimum(index, last)
    return x.gather(-1, index[:, None].expand(-1, x.shape[1], -1))


def masked_moments(x, mask=None):
    """Mean and variance over time of ``[batch, channels, frames]``, each ``[batch, channels, 1]``,
    over the frames that the mask (see frame_mask) leaves.

    Example
    -------
    >>> import torch
    >>> mean, variance = masked_moments(torch.tensor([[[1.0, 3.0, 9.0]]]), torch.tensor([1, 1, 0]))
    >>> float(mean), float(variance)
    (2.0, 1.0)
    """
    x = at_least_fp32(x)
    if mask is None:
        return x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    mask = mask.to(x.dtype)
    count = mask.sum(-1, keepdim=True)
    mean = (x * mask).sum(-1, keepdim=True) / count
    return mean, ((x - mean).square() * mask).sum(-1, keepdim=True) / count


def masked_l1(estimate, target, lengths=None, together=False):
    """Mean absolute difference of ``[batch, channels, frames]`` over frames that are not padding;
    with ``together``, over those of all processes (see
    :func:`~waveglow_vq.utils.distributed.mean_everywhere`).

    Example
    -------
    >>> import torch
    >>> masked_l1(torch.ones(1, 2, 4), torch.zeros(1, 2, 4), torch.tensor([0.5]))
    tensor(1.)
    """
    difference = (estimate - target).abs().mean(dim=1)
    count = torch.full((), difference.numel(), device=difference.device)
    if lengths is not None:
        frames = whole_lengths(lengths, difference.shape[-1])[:, None]
        mask = torch.arange(difference.shape[-1], device=lengths.device) < frames
        difference, count = difference * mask, mask.sum()
    return mean_everywhere(difference.sum(), count, together)
