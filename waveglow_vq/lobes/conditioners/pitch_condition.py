"""Pitch beside the codes: normalized by speaker, quantized, placed in the target's range."""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.utils.devices import at_least_fp32
from waveglow_vq.utils.masking import frame_mask, masked

import librosa
import torch
from torch import nn
from torch.nn import functional as F

# Normalized log-F0 beyond so many standard deviations is clamped.
PITCH_LIMIT = 3.0


def normalize_pitch(log_f0, statistics):
    """Log-F0 in its speaker's own units, (log f0 - mean) / std.

    ``log_f0`` ``[batch, frames]`` is the natural logarithm of F0 in Hz, 0 where unvoiced;
    ``statistics`` ``[batch, 2]`` are the mean and standard deviation of the speaker's. Returns
    ``[batch, frames, 2]``: the normalized log-F0, 0 where unvoiced, and 1 where voiced.

    Example
    -------
    >>> import torch
    >>> normalize_pitch(torch.tensor([[5.2, 0.0]]), torch.tensor([[5.0, 0.2]])).round(decimals=4)
    tensor([[[1., 1.],
             [0., 0.]]])
    """
    voiced = log_f0 > 0
    mean, std = statistics[:, :1], statistics[:, 1:]
    normalized = ((log_f0 - mean) / std).masked_fill(~voiced, 0.0)
    return torch.stack([normalized, voiced.to(normalized.dtype)], dim=-1)


def quantize_pitch(pitch, stride, levels, mask=None):
    """Rounds pitch of :func:`normalize_pitch` to what a code can say of it: one of ``levels``
    values from -3 to 3 standard deviations, or unvoiced, for every ``stride`` frames. A block is
    voiced if at least half of its frames are; its value is their mean. Between blocks the value is
    interpolated; voicing holds for the block. Padding, by the mask of frame_mask, is unvoiced and
    part of no block.

    Example
    -------
    >>> import torch
    >>> quantize_pitch(torch.tensor([[[0.9, 1.0], [1.0, 1.0], [0.0, 0.0]]]), 2, 7)[0, :, 1]
    tensor([1., 1., 0.])
    """
    values = pitch_values(pitch, stride, levels, mask)
    voiced = (values > 0).to(pitch.dtype)
    value = _dequantize(values, levels, pitch.dtype)
    if stride > 1:
        value, voiced = _spread(value, voiced, stride)
    return torch.stack([value, voiced], dim=-1)[:, : pitch.shape[1]]


def pitch_values(pitch, stride, levels, mask=None):
    """What :func:`quantize_pitch` keeps, as whole numbers, int64
    ``[batch, ceil(frames / stride)]``: 0 where unvoiced, else 1 to ``levels``; arguments as there.

    Example
    -------
    >>> import torch
    >>> pitch = torch.tensor([[[0.9, 1.0], [1.0, 1.0], [0.0, 0.0], [-3.0, 1.0]]])
    >>> pitch_values(pitch, 1, 7)
    tensor([[5, 5, 0, 1]])
    """
    frames = pitch.shape[1]
    there = torch.ones_like(pitch[..., 0]) if mask is None else mask[:, 0].to(pitch.dtype)
    pitch = pitch * there[..., None]
    blocks = F.pad(pitch, (0, 0, 0, -frames % stride)).unflatten(1, (-1, stride))
    size = F.pad(there, (0, -frames % stride)).unflatten(1, (-1, stride)).sum(-1)
    count = blocks[..., 1].sum(-1)
    voiced = (2 * count >= size) & (count > 0)
    value = (blocks[..., 0] * blocks[..., 1]).sum(-1) / count.clamp_min(1)
    # Counted from the middle, which is a level only if their number is odd.
    step, middle = _levels(levels)
    value = value.clamp(-PITCH_LIMIT, PITCH_LIMIT) / step + middle
    return (value.round().long() + 1) * voiced


def pitch_from_values(values, stride, levels, frames):
    """A pitch ``[batch, frames, 2]`` as from :func:`normalize_pitch`, of which :func:`pitch_values`
    keeps the given values: each is held for its block.

    Example
    -------
    >>> import torch
    >>> pitch_from_values(torch.tensor([[5, 0]]), 2, 7, 3)
    tensor([[[1., 1.],
             [1., 1.],
             [0., 0.]]])
    """
    voiced = (values > 0).float()
    pitch = torch.stack([_dequantize(values, levels, voiced.dtype), voiced], dim=-1)
    return pitch.repeat_interleave(stride, dim=1)[:, :frames]


def _levels(levels):
    """The distance of two levels, and the place of 0 among them counted from the first."""
    return 2 * PITCH_LIMIT / (levels - 1), (levels - 1) / 2


def _dequantize(values, levels, dtype):
    """Whole numbers of pitch_values to standard deviations; 0 where unvoiced."""
    step, middle = _levels(levels)
    return ((values.to(dtype) - 1 - middle) * step).masked_fill(values == 0, 0.0)


def _spread(value, voiced, stride):
    """Block values to frames: linear between the centres of voiced neighbours, constant where the
    neighbour is unvoiced."""
    blocks = value.shape[1]
    frame = torch.arange(blocks * stride, device=value.device)
    # The position between the centres, in whole numbers of half a frame: not rounded, and so the
    # same in a part of a sequence.
    position = (2 * frame + 1 - stride).clamp(0, 2 * stride * (blocks - 1))
    left = position // (2 * stride)
    right = (left + 1).clamp_max(blocks - 1)
    share = (position - 2 * stride * left).to(value.dtype) / (2 * stride)
    here = frame // stride
    weight_left = (1 - share) * voiced[:, left]
    weight_right = share * voiced[:, right]
    total = weight_left + weight_right
    spread = (weight_left * value[:, left] + weight_right * value[:, right]) / total.clamp_min(1e-6)
    return spread * voiced[:, here], voiced[:, here]


def place_pitch(pitch, statistics):
    """Pitch of :func:`normalize_pitch` in the range of the speaker who is to speak, by
    ``statistics`` ``[batch, 2]``: log f0 = mean + std * normalized, ``[batch, frames]``; 0 where
    unvoiced."""
    log_f0 = statistics[:, :1] + statistics[:, 1:] * pitch[..., 0]
    return log_f0.clamp(math.log(40.0), math.log(800.0)) * pitch[..., 1]


class PitchCondition(nn.Module):
    """What the decoder is told about pitch: the quantized, placed log-F0, its voicing, and where
    its harmonics lie among the mel bands,

        harmonics_b = voiced * exp(-(w_b / f0)^2) * cos(2 pi f_b / f0)

    with f_b the centre of band b and w_b its width in Hz, so that bands that hold several harmonics
    see none. The mel resolves harmonics up to about 1 kHz, and there the predicted log-mel can
    draw them where the target speaker's lie.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    channels : int
        Channels of the result.
    stride : int
        Frames per value of pitch.
    levels : int
        Values that pitch is rounded to, beside unvoiced.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> condition = PitchCondition(LogMel(), 16)
    >>> pitch = normalize_pitch(torch.full((2, 9), 5.0), torch.tensor([[5.0, 0.2]]).expand(2, 2))
    >>> hidden, harmonics = condition(pitch, torch.tensor([[4.7, 0.2]]).expand(2, 2))
    >>> hidden.shape, harmonics.shape
    (torch.Size([2, 16, 9]), torch.Size([2, 80, 9]))
    """

    def __init__(self, features, channels, stride=4, levels=31):
        super().__init__()
        if stride < 1 or levels < 2:
            raise UserError(
                f"pitch_stride, pitch_levels: {stride} and {levels}; at least 1 frame and 2 levels"
            )
        self.stride = stride
        self.levels = levels
        self.bits_per_second = (
            features.sample_rate / features.hop_length / stride * math.log2(levels + 1)
        )
        limits = {"fmin": features.f_min, "fmax": features.f_max}
        edges = torch.from_numpy(librosa.mel_frequencies(features.n_mels + 2, **limits)).float()
        self.register_buffer("centres", edges[1:-1], persistent=False)
        self.register_buffer("widths", (edges[2:] - edges[:-2]) / 2, persistent=False)
        self.project = nn.Conv1d(features.n_mels + 3, channels, 3, padding=1)

    def quantize(self, pitch, mask=None):
        """``[batch, frames, 2]``: what is left of the pitch beside the codes."""
        return quantize_pitch(pitch, self.stride, self.levels, mask)

    def f0(self, pitch, statistics, lengths=None):
        """F0 in Hz ``[batch, frames]``, 0 where unvoiced, as the decoder is told; arguments as for
        :meth:`forward`, and the relative lengths."""
        pitch = self.quantize(at_least_fp32(pitch), frame_mask(lengths, pitch.shape[1]))
        return place_pitch(pitch, statistics.to(pitch.dtype)).exp() * pitch[..., 1]

    def forward(self, pitch, statistics, mask=None):
        """Computes the condition.

        Arguments
        ---------
        pitch : torch.Tensor
            ``[batch, frames, 2]`` as from :func:`normalize_pitch`.
        statistics : torch.Tensor
            Of the log-F0 of the speaker who is to speak, ``[batch, 2]``.
        mask : torch.Tensor
            As from frame_mask.

        Returns
        -------
        hidden : torch.Tensor
            ``[batch, channels, frames]``.
        harmonics : torch.Tensor
            ``[batch, n_mels, frames]``.
        """
        with torch.autocast(pitch.device.type, enabled=False):
            pitch = self.quantize(at_least_fp32(pitch), mask)
            log_f0 = place_pitch(pitch, statistics.to(pitch.dtype))
            voiced = pitch[..., 1]
            ratio = 1 / log_f0.exp()[:, None]
            centres, widths = self.centres.to(pitch.dtype), self.widths.to(pitch.dtype)
            harmonics = torch.cos(2 * math.pi * centres[:, None] * ratio)
            harmonics = harmonics * (-(widths[:, None] * ratio).square()).exp() * voiced[:, None]
            relative = (log_f0 - 5.0) * 2 * voiced
            numbers = torch.stack([relative, pitch[..., 0], voiced], dim=1)
            inputs = masked(torch.cat([harmonics, numbers], dim=1), mask)
        return self.project(inputs), harmonics
