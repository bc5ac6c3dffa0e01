"""What keeps the speaker out of the codes: three operations without parameters."""

from waveglow_vq.utils.devices import at_least_fp32
from waveglow_vq.utils.masking import masked_moments, whole_lengths

import torch


def instance_norm(x, mask=None, epsilon=1e-4):
    """Instance normalization without affine (Ulyanov et al. 2016, as in Chou et al. 2019): each
    channel of each utterance, ``[batch, channels, frames]``, to zero mean and unit variance over
    time,

        (x - mean_t x) / sqrt(var_t x + epsilon)

    What is constant over an utterance, as most of a voice is, is lost; ``epsilon`` keeps a constant
    channel at zero. Padding, by the mask of frame_mask, takes no part and becomes zero. The result
    is at least fp32.

    Example
    -------
    >>> import torch
    >>> y = instance_norm(3 + 2 * torch.randn(2, 4, 100))
    >>> bool(y.mean(-1).abs().max() < 1e-5), bool((y.std(-1) - 1).abs().max() < 0.01)
    (True, True)
    """
    x = at_least_fp32(x)
    mean, variance = masked_moments(x, mask)
    x = (x - mean) * (variance + epsilon).rsqrt()
    return x if mask is None else x * mask


def time_jitter(vectors, probability, lengths=None):
    """Replaces vectors ``[batch, codes, dimension]`` by a neighbour (Chorowski et al. 2019, section
    III-C): with half of the probability by the one before, with half by the one after. Codes then
    cannot say what changes from one to the next. Padding, by the relative lengths in codes, is
    never a neighbour.

    Example
    -------
    >>> import torch
    >>> x = torch.arange(4.0).view(1, 4, 1)
    >>> time_jitter(x, 0.0).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    batch, codes = vectors.shape[:2]
    draw = torch.rand(batch, codes, device=vectors.device)
    step = (draw < probability / 2).long() - (draw > 1 - probability / 2).long()
    here = torch.arange(codes, device=vectors.device)
    last = torch.full_like(step[:, :1], codes - 1)
    if lengths is not None:
        last = whole_lengths(lengths, codes)[:, None] - 1
    # Padding stays where it is.
    neighbour = torch.minimum((here + step).clamp_min(0), torch.maximum(last, here))
    neighbour = torch.where(here <= last, torch.minimum(neighbour, last), here)
    return vectors.gather(1, neighbour[..., None].expand(-1, -1, vectors.shape[-1]))


def warp_bands(log_mel, factors):
    """Stretches log-mels ``[batch, n_mels, frames]`` along frequency: band b of the result is band
    ``b / factor`` (linear interpolation; above the last band, that one is held). A voice with a
    longer or shorter vocal tract has its formants there (vocal tract length perturbation, Jaitly
    and Hinton 2013, on the mel axis). A factor of each item, ``[batch]``, above 1 moves formants
    up.

    Example
    -------
    >>> import torch
    >>> warp_bands(torch.arange(5.0).view(1, 5, 1), torch.tensor([2.0])).flatten().tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    bands = log_mel.shape[1]
    position = torch.arange(bands, device=log_mel.device) / factors[:, None]
    position = position.clamp(0, bands - 1)
    lower = position.floor().long().clamp_max(bands - 2)
    share = (position - lower).to(log_mel.dtype)[..., None]
    lower = lower[..., None].expand_as(log_mel)
    return log_mel.gather(1, lower) * (1 - share) + log_mel.gather(1, lower + 1) * share


def random_warp(log_mel, extent):
    """:func:`warp_bands` by factors drawn from exp(-extent) to exp(extent)."""
    factors = torch.empty(len(log_mel), device=log_mel.device).uniform_(-extent, extent).exp()
    return warp_bands(log_mel, factors)
