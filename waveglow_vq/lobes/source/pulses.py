"""Pulses at a fundamental frequency, of the rows of a pitch (see pitch_rows.py)."""

from waveglow_vq.utils.devices import exact

import torch
from torch.nn import functional as F


def pulse_train(rows, hop_length, sample_rate):
    """One pulse per period, of energy one per sample on the mean.

        phi_n = phi_{n-1} + f0(n) / sample_rate,    a pulse of sqrt(sample_rate / f0) at whole phi

    f0 is linear between frames, and the phase is that of the rows at each frame: what its integral
    lacks or has too much by the next frame, at most half a period, is spread over the frame. So a
    frame's pulses follow from its own row and the next one, and rows can be cut anywhere. A pulse
    falls between two samples, which share it linearly.

    Arguments
    ---------
    rows : torch.Tensor
        F0 in Hz, voicing, which is not used here, and phase in periods, ``[batch, 3, frames]``;
        frame t is that of sample ``t * hop_length``.
    hop_length : int
        Samples between frames.
    sample_rate : int
        Hz.

    Returns
    -------
    torch.Tensor
        ``[batch, (frames - 1) * hop_length]``.

    Example
    -------
    >>> rows = torch.zeros(1, 3, 5)
    >>> rows[:, 0] = 100.0
    >>> rows[:, 2] = torch.arange(5) * 256 / 220.5
    >>> pulses = pulse_train(rows, 256, 22050)
    >>> pulses.shape, round(float(pulses.sum() / 220.5**0.5), 3)
    (torch.Size([1, 1024]), 4.0)
    """
    f0, phase = exact(rows[:, 0]), exact(rows[:, 2])
    step = at_samples(f0, hop_length).clamp_min(1) / sample_rate
    lacking = phase[:, 1:] - phase[:, :-1] - step.sum(-1)
    lacking = lacking - lacking.round()
    # A pulse that falls on a sample's own place does so whatever is rounded.
    before = phase[:, :-1, None] + 1e-6 + F.pad(step.cumsum(-1), (1, 0))[..., :-1]
    share = torch.arange(hop_length, device=rows.device, dtype=f0.dtype) / hop_length
    before = before + lacking[..., None] * share
    rate = step + lacking[..., None] / hop_length
    after = before + rate
    passed = (after.floor() > before.floor()).to(f0.dtype) * step.rsqrt()
    late = ((after - after.floor()) / rate).clamp(0, 1)
    early = (passed * late).flatten(1)
    next_one = F.pad((passed * (1 - late)).flatten(1), (1, 0))[:, :-1]
    return (early + next_one).float()


def continued(rows, hop_length, sample_rate):
    """Rows, and one more frame that goes on as the last one does."""
    last = rows[..., -1:].clone()
    last[:, 2] = (exact(last[:, 2]) + hop_length / sample_rate * exact(last[:, 0])) % 1
    return torch.cat([rows, last], dim=-1)


def at_samples(x, hop_length):
    """What is linear between frames ``[batch, frames]``, at the samples of each frame but the last,
    ``[batch, frames - 1, hop_length]``.

    Example
    -------
    >>> at_samples(torch.tensor([[0.0, 4.0, 4.0]]), 2)
    tensor([[[0., 2.],
             [4., 4.]]])
    """
    share = torch.arange(hop_length, device=x.device, dtype=x.dtype) / hop_length
    here, following = x[:, :-1, None], x[:, 1:, None]
    return here + share * (following - here)
