"""Operations on batches whose items differ in length: noise, crops, means.

Authors
 * The waveglow-vq developers, 2026
"""

from waveglow_vq.lobes.flows.transforms import at_least_fp32
from waveglow_vq.utils.distributed import mean_everywhere
from waveglow_vq.utils.lengths import whole_lengths

import torch


def draw_noise(like, channels, groups, generator=None):
    """Standard normal noise ``[batch, channels, groups]``, drawn item by item and in the order of
    time, so that a longer draw begins with a shorter one's numbers.

    Arguments
    ---------
    like : torch.Tensor
        Gives batch size, device and, at least fp32, the type.
    channels, groups : int
        Shape.
    generator : torch.Generator, int or None
        As in :meth:`~waveglow_vq.lobes.model.WaveGlowVQ.sample`.
    """
    items = []
    for _ in range(like.shape[0]):
        source = generator
        if isinstance(generator, int):
            source = torch.Generator().manual_seed(generator)
        # Without a generator of its own, drawn where it is needed; else where it lives.
        device = like.device if source is None else source.device
        items.append(
            torch.randn(groups, channels, generator=source, device=device, dtype=torch.float32)
        )
    return torch.stack(items).transpose(1, 2).to(like.device, at_least_fp32(like).dtype)


def crop_frames(x, frames, starts=None, lengths=None):
    """Takes ``frames`` frames of every item; behind its end an item's last frame is held.

    Arguments
    ---------
    x : torch.Tensor
        ``[batch, channels, all frames]``.
    frames : int
        Frames to take.
    starts : torch.Tensor
        First frame of each item, ``[batch]``; 0 where None.
    lengths : torch.Tensor
        Relative lengths in (0, 1], ``[batch]``, or None where nothing is padded.

    Returns
    -------
    torch.Tensor
        ``[batch, channels, frames]``.

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
