"""The pitch of a sequence of frames as rows behind a log-mel's bands, which can be cut anywhere:
F0 in Hz, voicing, and the periods that have passed before the frame."""

from waveglow_vq.lobes.mel_consistency import mel_consistent, voiced_by_pulses
from waveglow_vq.lobes.source.pulses import pulse_train
from waveglow_vq.utils.devices import exact

import torch
from torch.nn import functional as F

# Where nothing is voiced.
ANY_HZ = 120.0


class PitchRows:
    """Makes the rows of consecutive parts.

    Arguments
    ---------
    features : LogMel
        The feature contract.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> rows = PitchRows(LogMel())
    >>> rows.of(torch.full((1, 4), 100.0), torch.ones(1, 4)).shape
    torch.Size([1, 3, 4])
    """

    def __init__(self, features):
        self.hop, self.sample_rate = features.hop_length, features.sample_rate
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


def refine_voiced(wav, target, features, iterations, samples=None):
    """:func:`~waveglow_vq.lobes.mel_consistency.mel_consistent` towards a log-mel ``[batch, n_mels,
    frames]``; with the rows of a pitch behind it, ``[batch, n_mels + 3, frames]``, from pulses
    where it is voiced."""
    log_mel = target[:, : features.n_mels]
    if target.shape[1] > features.n_mels:
        hop, total = features.hop_length, wav.shape[-1]
        rows = target[:, features.n_mels :, : total // hop + 1]
        if (missing := total // hop + 1 - rows.shape[-1]) > 0:
            rows = F.pad(rows, (0, missing), mode="replicate")
        f0, voicing, phase = rows.unbind(1)
        pulses, _ = pulse_train(f0, hop, features.sample_rate, exact(phase[:, 0]))
        pulses = F.pad(pulses, (0, total - pulses.shape[-1]))
        wav = voiced_by_pulses(wav, pulses, voicing, log_mel, features, samples)
    return mel_consistent(wav, log_mel, features, iterations, samples)


def held_pitch(f0):
    """F0 ``[batch, frames]`` that is 0 where unvoiced as F0 that is positive everywhere, with that
    of a neighbour at the edges of what is voiced; and voicing."""
    voiced = f0 > 0
    beside = torch.maximum(F.pad(f0[:, 1:], (0, 1)), F.pad(f0[:, :-1], (1, 0)))
    held = torch.where(voiced, f0, beside)
    return torch.where(held > 0, held, torch.full_like(held, ANY_HZ)), voiced.float()
