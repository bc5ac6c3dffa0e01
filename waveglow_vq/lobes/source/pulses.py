"""Pulses at a fundamental frequency, whole or block by block."""

from waveglow_vq.utils.devices import exact

import torch


def pulse_train(f0, hop_length, sample_rate, phase=None):
    """One pulse per period, of energy one per sample on the mean.

        phi_n = phi_{n-1} + f0(n) / sample_rate,    a pulse of sqrt(sample_rate / f0) at whole phi

    f0 is linear between frames. A pulse falls between two samples, which share it linearly. Of a
    train that is continued, the parts are what the whole would be: a part's last frame, towards
    which f0 is interpolated, is the first one of the next.

    Arguments
    ---------
    f0 : torch.Tensor
        Hz, ``[batch, frames]``, positive; frame t is that of sample ``t * hop_length``.
    hop_length : int
        Samples between frames.
    sample_rate : int
        Hz.
    phase : torch.Tensor
        Periods that have passed, fp64 ``[batch]``: what the part before returned; None at the
        beginning.

    Returns
    -------
    pulses : torch.Tensor
        ``[batch, (frames - 1) * hop_length]``.
    phase : torch.Tensor
        For the part that follows.

    Example
    -------
    >>> pulses, _ = pulse_train(torch.full((1, 5), 100.0), 256, 22050)
    >>> pulses.shape, int((pulses > 0).sum()), round(float(pulses.square().mean()), 1)
    (torch.Size([1, 1024]), 8, 0.6)
    """
    f0 = exact(f0)
    share = torch.arange(hop_length, device=f0.device, dtype=f0.dtype) / hop_length
    here, following = f0[:, :-1, None], f0[:, 1:, None]
    rate = torch.cat([(here + share * (following - here)).flatten(1), f0[:, -1:]], dim=1)
    step = rate / sample_rate
    phase = f0.new_zeros(len(f0)) if phase is None else phase
    total = phase[:, None] + step.cumsum(1)
    # Whole periods are passed between the sample before and this one, ``late`` samples ago.
    before = torch.cat([phase[:, None], total[:, :-1]], dim=1)
    passed = (total.floor() > before.floor()).to(f0.dtype) * rate.reciprocal().mul(
        sample_rate
    ).sqrt()
    late = (total - total.floor()) / step
    pulses = (passed * (1 - late))[:, :-1] + (passed * late)[:, 1:]
    return pulses.float(), total[:, -2]
