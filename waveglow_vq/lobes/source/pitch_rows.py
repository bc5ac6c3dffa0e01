"""The pitch of a sequence of frames as rows, which can be cut anywhere: F0 in Hz, voicing, and the
phase of the fundamental in periods.

In synthesis the phase is F0's integral, :class:`PitchRows`; of a recording it is that of its own
fundamental, :func:`followed_phase`.
"""

import math

from waveglow_vq.lobes.source.pulses import at_samples
from waveglow_vq.utils.devices import exact

import torch
from torch.nn import functional as F

# Rows of a pitch.
ROWS = 3
# Where nothing is voiced.
ANY_HZ = 120.0
# Samples of the window through which the fundamental is seen: its main lobe ends 43 Hz away.
WINDOW = 1024


class PitchRows:
    """Makes the rows of consecutive parts.

    Arguments
    ---------
    hop_length : int
        Samples between frames.
    sample_rate : int
        Hz.

    Example
    -------
    >>> rows = PitchRows(256, 22050)
    >>> rows.of(torch.full((1, 4), 100.0), torch.ones(1, 4)).shape
    torch.Size([1, 3, 4])
    """

    def __init__(self, hop_length, sample_rate):
        self.hop, self.sample_rate = hop_length, sample_rate
        # F0 and phase of the frame before.
        self.last = None

    def of(self, f0, voicing):
        """The rows ``[batch, 3, frames]`` of the part that follows, from F0 in Hz, positive, and
        voicing, each ``[batch, frames]``."""
        known = exact(f0)
        before = known[:, :1] if self.last is None else self.last[0]
        before = torch.cat([before, known[:, :-1]], dim=1)
        # Periods from a frame to the next, as pulse_train adds them up.
        steps = (self.hop * before + (self.hop - 1) / 2 * (known - before)) / self.sample_rate
        if self.last is None:
            phase = steps.cumsum(1) - steps[:, :1]
        else:
            phase = steps.cumsum(1) + self.last[1]
        phase = phase % 1
        self.last = known[:, -1:], phase[:, -1:]
        return torch.stack([f0.float(), voicing.float(), phase.float()], dim=1)


def held_pitch(f0):
    """F0 ``[batch, frames]`` that is 0 where unvoiced as F0 that is positive everywhere, with that
    of a neighbour at the edges of what is voiced; and voicing."""
    voiced = f0 > 0
    beside = torch.maximum(F.pad(f0[:, 1:], (0, 1)), F.pad(f0[:, :-1], (1, 0)))
    held = torch.where(voiced, f0, beside)
    return torch.where(held > 0, held, torch.full_like(held, ANY_HZ)), voiced.float()


def followed_phase(wav, f0, hop_length, sample_rate):
    """The phase of the fundamental of recordings, in periods, at every frame.

        theta_n = sum_{m < n} f0(m) / sample_rate
        c_t = sum_n w_{n - t hop} x_n exp(-2 pi i theta_n)
        phi_t = theta_{t hop} + arg(c_t) / 2 pi

    with a Hann window w of 1024 samples, beyond the main lobe of which the other harmonics of
    voices above 43 Hz lie. It is whole where the fundamental has its maximum.

    Arguments
    ---------
    wav : torch.Tensor
        ``[batch, samples]``.
    f0 : torch.Tensor
        Hz, positive, ``[batch, samples / hop_length + 1]``.
    hop_length, sample_rate : int
        Samples between frames, and Hz.

    Returns
    -------
    torch.Tensor
        fp32 in [0, 1), of the shape of f0; each depends on 512 samples to either side.

    Example
    -------
    >>> time = torch.arange(256 * 20) / 22050
    >>> wav = torch.cos(2 * torch.pi * 110 * time)[None]
    >>> phase = followed_phase(wav, torch.full((1, 21), 108.0), 256, 22050)
    >>> expected = torch.arange(21) * 256 * 110 / 22050 % 1
    >>> bool(((phase - expected)[0, 2:-2].abs() < 0.01).all())
    True
    """
    steps = at_samples(exact(f0), hop_length).flatten(1) / sample_rate
    theta = F.pad(steps.cumsum(1), (1, 0))
    angle = (-2 * math.pi * (theta[:, :-1] % 1)).float()
    signal = torch.stack([wav.float() * angle.cos(), wav.float() * angle.sin()], dim=1)
    signal = F.pad(signal, (WINDOW // 2, WINDOW // 2)).unfold(-1, WINDOW, hop_length)
    real, imaginary = (signal * torch.hann_window(WINDOW, device=wav.device)).sum(-1).unbind(1)
    turned = torch.atan2(imaginary, real) / (2 * math.pi)
    return ((theta[:, ::hop_length] + turned) % 1).float()
