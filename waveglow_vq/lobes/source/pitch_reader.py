"""The pitch that is read off a log-mel."""

import functools
import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.lobes.conditioners.base import normalize_log_mel
from waveglow_vq.pretrained import read_weights, save_weights, shipped

import torch
from torch import nn
from torch.nn import functional as F

# Bins of log-F0, and how far around the likeliest one the mean is taken.
LOWEST_HZ, HIGHEST_HZ, BINS, AROUND = 50.0, 550.0, 144, 4
# Of the convolutions, and the dilations of the blocks.
CHANNELS, DILATIONS = 96, (1, 2, 4, 8, 1)
# Standard deviation of the targets in cents.
BLUR_CENTS = 25.0


class PitchReader(nn.Module):
    """Reads fundamental frequency and voicing off a log-mel: of several harmonics where the bands
    resolve them, of who seems to speak where they do not.

    Frame-wise normalized residual convolutions, and for each frame a distribution over 144 bins of
    log-F0 from 50 to 550 Hz, after CREPE (Kim, Salamon, Li and Bello 2018), whose mean around its
    greatest value is the estimate.

    Arguments
    ---------
    n_mels : int
        Bands of the log-mel.
    channels : int
        Channels of the convolutions.
    dilations : list
        Those of the blocks.

    Example
    -------
    >>> f0, voicing = PitchReader()(torch.randn(2, 80, 30) - 5)
    >>> f0.shape, voicing.shape, bool((f0 > 49).all())
    (torch.Size([2, 30]), torch.Size([2, 30]), True)
    """

    def __init__(self, n_mels=80, channels=CHANNELS, dilations=DILATIONS):
        super().__init__()
        self.start = nn.Conv1d(n_mels, channels, 5, padding=2)
        self.blocks = nn.ModuleList(_Block(channels, dilation) for dilation in dilations)
        self.end = nn.Conv1d(channels, BINS + 1, 1)
        bins = torch.linspace(math.log(LOWEST_HZ), math.log(HIGHEST_HZ), BINS)
        self.register_buffer("bins", bins, persistent=False)

    @property
    def receptive_field(self):
        """Frames to either side that an estimate depends on."""
        return 2 + sum(block.wide.padding[0] for block in self.blocks)

    def logits(self, log_mel):
        """``[batch, BINS + 1, frames]``: of the bins, and of voicing. The log-mel's first and last
        frame are held, so that an end reads alike, whatever it is batched with."""
        reach = self.receptive_field
        log_mel = F.pad(log_mel, (reach, reach), mode="replicate")
        x = self.start(normalize_log_mel(log_mel))
        for block in self.blocks:
            x = block(x)
        return self.end(F.gelu(x[..., reach:-reach]))

    def forward(self, log_mel):
        """F0 in Hz, also where unvoiced, and whether it is voiced, 0 or 1: ``[batch, frames]``
        both, of a log-mel ``[batch, n_mels, frames]``."""
        logits = self.logits(log_mel)
        likely = logits[:, :BINS].softmax(dim=1)
        place = torch.arange(BINS, device=logits.device)[:, None]
        likely = likely * ((place - likely.argmax(dim=1, keepdim=True)).abs() <= AROUND)
        log_f0 = (likely * self.bins[:, None]).sum(1) / likely.sum(1)
        return log_f0.exp(), (logits[:, BINS] > 0).float()

    def loss(self, log_mel, f0):
        """Cross-entropies of bins, in voiced frames, and of voicing; f0 in Hz ``[batch, frames]``,
        0 where unvoiced."""
        logits, voiced = self.logits(log_mel), (f0 > 0).float()
        width = BLUR_CENTS / 1200 * math.log(2)
        distance = (self.bins[:, None] - f0.clamp_min(1).log()[:, None]) / width
        target = (-distance.square() / 2).softmax(dim=1)
        of_bins = -(target * logits[:, :BINS].log_softmax(dim=1)).sum(1)
        of_voicing = F.binary_cross_entropy_with_logits(logits[:, BINS], voiced)
        return (of_bins * voiced).sum() / voiced.sum().clamp_min(1) + of_voicing


class _Block(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.wide = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation)
        self.narrow = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        hidden = F.gelu(self.norm(x.transpose(1, 2)).transpose(1, 2))
        return x + self.narrow(F.gelu(self.wide(hidden)))


@functools.cache
def shipped_pitch_reader(device="cpu"):
    """The PitchReader that comes with the package, for log-mels of the feature contract, in
    evaluation mode, on a device given by its name. One for all: do not train or move it.

    Example
    -------
    >>> shipped_pitch_reader()(torch.randn(1, 80, 30) - 5)[0].shape
    torch.Size([1, 30])
    """
    return shipped("pitch_reader.safetensors", _reader_of).to(device)


def read_pitch_reader(path):
    """The PitchReader that :func:`save_pitch_reader` wrote, in evaluation mode; a UserError if the
    file does not hold one."""
    return read_weights(path, _reader_of, "a reader of pitch")


def _reader_of(weights):
    channels, n_mels, _ = weights["start.weight"].shape
    return PitchReader(n_mels, channels)


def is_readable(features):
    """Whether the reader that comes with the package is for log-mels of such features."""
    return features.contract == LogMel().contract


def save_pitch_reader(reader, path):
    """Writes the weights of a PitchReader in fp16, as safetensors."""
    save_weights(reader, path)
