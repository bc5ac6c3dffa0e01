"""Conditioners: from features to what the flows are conditioned on. Here what they share, and the
plain one; those with codes are in mel_vq.py and wav_vq.py.

Each has ``forward(features, lengths) -> Condition``. Features are log-mels
``[batch, n_mels, frames]`` or waveforms ``[batch, samples]``, as its ``input`` says. What else one
has is listed in model_checks.py, which refuses a conditioner without it: its ``hop``, ``channels``
and ``receptive_field``; with a ``quantizer``, ``encode``, ``decode`` and what they need.

Authors
 * The waveglow-vq developers, 2026
"""

import math
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows.transforms import at_least_fp32, zero_linear
from waveglow_vq.utils.lengths import shares, whole_lengths

import torch
from torch import nn
from torch.nn import functional as F

# Log-mels of speech spread by about this much around this value: centred, every layer starts
# in its working range. Not learned and not measured per corpus, so that models are exchangeable.
LOG_MEL_MEAN = -5.0
LOG_MEL_SCALE = 2.0


class Condition(NamedTuple):
    """What a conditioner returns.

    Arguments
    ---------
    local : torch.Tensor
        Local condition of the flows, ``[batch, channels, frames]``.
    hop : int
        Samples per frame of the local condition.
    quantized : QuantizerOutput
        What the quantizer returned, or None without one.
    log_mel : torch.Tensor
        The log-mel that the envelope comes from, ``[batch, n_mels, mel frames]``, given or
        predicted; None where there is none.
    vectors : torch.Tensor
        What was quantized, ``[batch, codes, codebook_dim]``, or None.
    """

    local: torch.Tensor
    hop: int
    quantized: tuple | None
    log_mel: torch.Tensor | None
    vectors: torch.Tensor | None = None


def frame_mask(lengths, frames):
    """Marks the frames that are not padding.

    Arguments
    ---------
    lengths : torch.Tensor
        Relative lengths in (0, 1], ``[batch]``, or None where nothing is padded.
    frames : int
        Number of frames of the padded batch.

    Returns
    -------
    torch.Tensor
        Booleans ``[batch, 1, frames]``, or None.

    Example
    -------
    >>> import torch
    >>> frame_mask(torch.tensor([0.5, 1.0]), 4)[:, 0].tolist()
    [[True, True, False, False], [True, True, True, True]]
    """
    if lengths is None or bool((lengths >= 1).all()):
        return None
    valid = whole_lengths(lengths, frames)[:, None, None]
    return torch.arange(frames, device=lengths.device) < valid


def masked(x, mask):
    """x with zeros where padded; the mask may be None."""
    return x if mask is None else x * mask


class ResidualStack(nn.Module):
    """Residual convolutions at a constant rate: h <- h + W2 gelu(W1 * (s gelu(h) + t)), where the
    modulation s, t is linear in the global condition and, without one, 1 and 0.

    Padded frames are held at zero, as the convolutions' own padding is.

    Arguments
    ---------
    channels : int
        Channels.
    layers : int
        Residual blocks.
    kernel_size : int
        Taps of the first convolution of each block, odd.
    speaker_channels : int
        Channels of the global condition; 0 for none.

    Example
    -------
    >>> import torch
    >>> ResidualStack(16, 2)(torch.randn(2, 16, 10)).shape
    torch.Size([2, 16, 10])
    """

    def __init__(self, channels, layers, kernel_size=3, speaker_channels=0):
        super().__init__()
        if kernel_size % 2 == 0:
            raise UserError(f"kernel_size: {kernel_size}; it has to be odd")
        self.wide = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
            for _ in range(layers)
        )
        self.narrow = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in range(layers))
        self.modulation = None
        if speaker_channels and layers:
            self.modulation = zero_linear(speaker_channels, 2 * channels * layers, nn.Linear)

    @property
    def receptive_field(self):
        """Steps that a step of the result sees to either side."""
        return sum(layer.kernel_size[0] // 2 for layer in self.wide)

    def forward(self, x, mask=None, speaker=None):
        """``[batch, channels, frames]`` to the same; mask as from :func:`frame_mask`, speaker
        ``[batch, speaker_channels]``."""
        modulations = [None] * len(self.wide)
        if self.modulation is not None:
            modulations = self.modulation(speaker)[..., None].chunk(len(self.wide), dim=1)
        for wide, narrow, modulation in zip(self.wide, self.narrow, modulations, strict=True):
            hidden = F.gelu(x)
            if modulation is not None:
                scale, shift = modulation.chunk(2, dim=1)
                hidden = hidden * (1 + scale) + shift
            x = x + narrow(F.gelu(wide(masked(hidden, mask))))
        return x


class MelConditioner(nn.Module):
    """The log-mel itself, or a small convolutional network's view of it, as the condition.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    channels : int
        Channels of the network and of the local condition; with 0 layers the condition is the
        log-mel as it is, as in the published WaveGlow.
    layers : int
        Residual blocks; 0 for no network.
    kernel_size : int
        Taps of its convolutions in frames.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> condition = MelConditioner(LogMel(), channels=32)(torch.randn(2, 80, 9))
    >>> condition.local.shape, condition.hop
    (torch.Size([2, 32, 9]), 256)
    """

    input = "mel"

    def __init__(self, features, channels=128, layers=2, kernel_size=3):
        super().__init__()
        self.hop = features.hop_length
        self.n_mels = features.n_mels
        self.channels = channels if layers else features.n_mels
        self.network = None
        if layers:
            self.network = _FrameNetwork(features.n_mels, channels, channels, layers, kernel_size)

    @property
    def receptive_field(self):
        """Frames of the log-mel that a frame of the condition sees to either side."""
        return 0 if self.network is None else self.network.receptive_field

    def forward(self, features, lengths=None, speaker=None):
        """Log-mel ``[batch, n_mels, frames]`` to a :class:`Condition`; the log-mel says who
        speaks, so that no speaker is used."""
        local = features
        if self.network is not None:
            mask = frame_mask(lengths, features.shape[-1])
            local = self.network(normalize_log_mel(features), mask)
        return Condition(local, self.hop, None, features)


def normalize_log_mel(log_mel):
    """Centres and scales log-mels; see LOG_MEL_MEAN."""
    return (log_mel - LOG_MEL_MEAN) / LOG_MEL_SCALE


class _FrameNetwork(nn.Module):
    """Projection, residual stack, projection; all at frame rate."""

    def __init__(self, inputs, channels, outputs, layers, kernel_size):
        super().__init__()
        self.start = nn.Conv1d(inputs, channels, kernel_size, padding=kernel_size // 2)
        self.stack = ResidualStack(channels, layers, kernel_size)
        self.end = nn.Conv1d(channels, outputs, 1)

    @property
    def receptive_field(self):
        return self.start.kernel_size[0] // 2 + self.stack.receptive_field

    def forward(self, x, mask=None):
        x = self.stack(self.start(masked(x, mask)), mask)
        return masked(self.end(F.gelu(x)), mask)


def relative_code_lengths(lengths, frames, stride):
    """Relative lengths of the codes of items with the given relative lengths in frames."""
    if lengths is None:
        return None
    counts = (whole_lengths(lengths, frames) + stride - 1) // stride
    return shares(counts, math.ceil(frames / stride))


def code_mask(lengths, frames, stride):
    """:func:`frame_mask` at code rate: a code counts if any of its frames does."""
    return frame_mask(relative_code_lengths(lengths, frames, stride), math.ceil(frames / stride))


def predicted_log_mel(head, x, *conditions):
    """``head(x, *conditions)``, a log-mel, in natural units; fp32 whatever autocast says, since the
    envelope's exponent magnifies rounding."""
    with torch.autocast(x.device.type, enabled=False):
        conditions = [None if c is None else at_least_fp32(c) for c in conditions]
        return head(at_least_fp32(x), *conditions) * LOG_MEL_SCALE + LOG_MEL_MEAN


def to_vectors(x, normalize):
    """``[batch, codebook_dim, codes]`` to what is quantized, ``[batch, codes, codebook_dim]``."""
    x = x.transpose(1, 2)
    return F.layer_norm(at_least_fp32(x), x.shape[-1:]) if normalize else x
