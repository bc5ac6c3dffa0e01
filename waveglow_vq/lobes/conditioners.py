"""Conditioners: from features to what the flows are conditioned on.

Each has ``forward(features, lengths) -> Condition``. Features are log-mels
``[batch, n_mels, frames]`` or waveforms ``[batch, samples]``, as its ``input`` says.

Authors
 * The waveglow-vq developers, 2026
"""

import math
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows import at_least_fp32

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
        What the quantiser returned, or None without one.
    log_mel : torch.Tensor
        The log-mel that the envelope comes from, ``[batch, n_mels, mel frames]``, given or
        predicted; None where there is none.
    """

    local: torch.Tensor
    hop: int
    quantized: tuple | None
    log_mel: torch.Tensor | None


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
    valid = (lengths * frames).round()[:, None, None]
    return torch.arange(frames, device=lengths.device) < valid


def _masked(x, mask):
    return x if mask is None else x * mask


class ResidualStack(nn.Module):
    """Residual convolutions at a constant rate: h <- h + W2 gelu(W1 * gelu(h)).

    Padded frames are held at zero, as the convolutions' own padding is.

    Arguments
    ---------
    channels : int
        Channels.
    layers : int
        Residual blocks.
    kernel_size : int
        Taps of the first convolution of each block, odd.

    Example
    -------
    >>> import torch
    >>> ResidualStack(16, 2)(torch.randn(2, 16, 10)).shape
    torch.Size([2, 16, 10])
    """

    def __init__(self, channels, layers, kernel_size=3):
        super().__init__()
        if kernel_size % 2 == 0:
            raise UserError(f"kernel_size: {kernel_size}; it has to be odd")
        self.wide = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
            for _ in range(layers)
        )
        self.narrow = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in range(layers))

    def forward(self, x, mask=None):
        """``[batch, channels, frames]`` to the same; mask as from :func:`frame_mask`."""
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            x = x + narrow(F.gelu(wide(_masked(F.gelu(x), mask))))
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
    >>> from waveglow_vq.data.features import LogMel
    >>> condition = MelConditioner(LogMel(), channels=32)(torch.randn(2, 80, 9))
    >>> condition.local.shape, condition.hop
    (torch.Size([2, 32, 9]), 256)
    """

    input = "mel"

    def __init__(self, features, channels=128, layers=2, kernel_size=3):
        super().__init__()
        self.hop = features.hop_length
        self.channels = channels if layers else features.n_mels
        self.network = None
        if layers:
            self.network = _FrameNetwork(features.n_mels, channels, channels, layers, kernel_size)

    def forward(self, features, lengths=None):
        """Log-mel ``[batch, n_mels, frames]`` to a :class:`Condition`."""
        local = features
        if self.network is not None:
            mask = frame_mask(lengths, features.shape[-1])
            local = self.network(normalise_log_mel(features), mask)
        return Condition(local, self.hop, None, features)


def normalise_log_mel(log_mel):
    """Centres and scales log-mels; see LOG_MEL_MEAN."""
    return (log_mel - LOG_MEL_MEAN) / LOG_MEL_SCALE


class _FrameNetwork(nn.Module):
    """Projection, residual stack, projection; all at frame rate."""

    def __init__(self, inputs, channels, outputs, layers, kernel_size):
        super().__init__()
        self.start = nn.Conv1d(inputs, channels, kernel_size, padding=kernel_size // 2)
        self.stack = ResidualStack(channels, layers, kernel_size)
        self.end = nn.Conv1d(channels, outputs, 1)

    def forward(self, x, mask=None):
        x = self.stack(self.start(_masked(x, mask)), mask)
        return _masked(self.end(F.gelu(x)), mask)


class MelVQConditioner(nn.Module):
    """Quantised codes of the log-mel as the condition, at any code rate.

    ``log-mel -> encoder -> stride -> quantiser -> codes -> decoder -> local condition``, and a
    head predicts the log-mel from the decoded codes, so that there is an envelope where only
    codes are given. Trained by its own L1 term, the head also gives the codes a direct learning
    signal without phase.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    quantizer : torch.nn.Module
        A quantiser of vectors of ``quantizer.codebook_dim``.
    stride : int
        Log-mel frames per code.
    channels : int
        Channels of encoder, decoder and local condition.
    encoder_layers : int
        Residual blocks before the stride, and as many after it.
    decoder_layers : int
        Residual blocks at code rate, and as many at frame rate.
    kernel_size : int
        Taps of the convolutions.
    normalize_vectors : bool
        Whether every vector is brought to zero mean and unit variance before it is quantised
        (layer normalisation without parameters). The codes then need not chase the encoder's
        scale, which lets encoder and flows be trained at one high learning rate.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.data.features import LogMel
    >>> from waveglow_vq.lobes.quantizers import SoftEMQuantizer
    >>> conditioner = MelVQConditioner(LogMel(), SoftEMQuantizer(32, 16), stride=3, channels=24)
    >>> condition = conditioner(torch.randn(2, 80, 10))
    >>> condition.quantized.indices.shape, condition.log_mel.shape, condition.local.shape
    (torch.Size([2, 4]), torch.Size([2, 80, 10]), torch.Size([2, 24, 10]))
    """

    input = "mel"

    def __init__(
        self,
        features,
        quantizer,
        stride=2,
        channels=128,
        encoder_layers=2,
        decoder_layers=2,
        kernel_size=3,
        normalize_vectors=True,
    ):
        super().__init__()
        if stride < 1:
            raise UserError(f"stride: {stride} frames per code; it has to be at least 1")
        self.hop = features.hop_length
        self.stride = stride
        self.channels = channels
        self.samples_per_code = stride * features.hop_length
        self.start = nn.Conv1d(features.n_mels, channels, kernel_size, padding=kernel_size // 2)
        self.before = ResidualStack(channels, encoder_layers, kernel_size)
        self.down = nn.Conv1d(channels, channels, stride, stride)
        self.after = ResidualStack(channels, encoder_layers, kernel_size)
        self.normalize_vectors = normalize_vectors
        self.to_code = nn.Conv1d(channels, quantizer.codebook_dim, 1)
        self.quantizer = quantizer
        self.from_code = nn.Conv1d(quantizer.codebook_dim, channels, 1)
        self.coarse = ResidualStack(channels, decoder_layers, kernel_size)
        self.up = nn.ConvTranspose1d(channels, channels, stride, stride)
        self.fine = ResidualStack(channels, decoder_layers, kernel_size)
        self.mel_head = nn.Conv1d(channels, features.n_mels, 1)

    def encoder(self, features, lengths=None):
        """Log-mel ``[batch, n_mels, frames]`` to vectors ``[batch, codes, codebook_dim]``, with
        ``codes = ceil(frames / stride)``."""
        frames = features.shape[-1]
        mask = frame_mask(lengths, frames)
        x = self.start(_masked(normalise_log_mel(features), mask))
        x = _masked(self.before(x, mask), mask)
        x = self.down(F.pad(x, (0, -frames % self.stride)))
        x = self.after(x, code_mask(lengths, frames, self.stride))
        return _vectors(self.to_code(F.gelu(x)), self.normalize_vectors)

    def decoder(self, quantized, frames, lengths=None):
        """Codes' vectors ``[batch, codes, codebook_dim]`` to the local condition and the predicted
        log-mel, each ``[batch, channels, frames]``."""
        x = self.from_code(quantized.transpose(1, 2))
        x = self.coarse(x, code_mask(lengths, frames, self.stride))
        x = self.up(F.gelu(x))[..., :frames]
        mask = frame_mask(lengths, frames)
        x = F.gelu(_masked(self.fine(x, mask), mask))
        return x, _predicted_log_mel(self.mel_head, x)

    def forward(self, features, lengths=None):
        """Log-mel ``[batch, n_mels, frames]`` to a :class:`Condition`; lengths are relative."""
        frames = features.shape[-1]
        vectors = self.encoder(features, lengths)
        code_lengths = relative_code_lengths(lengths, frames, self.stride)
        quantized = self.quantizer(vectors, code_lengths)
        local, log_mel = self.decoder(quantized.quantized, frames, lengths)
        return Condition(local, self.hop, quantized, log_mel)

    def encode(self, features, lengths=None):
        """Log-mel to code indices ``[batch, codes]``; -1 where padded."""
        frames = features.shape[-1]
        code_lengths = relative_code_lengths(lengths, frames, self.stride)
        return self.quantizer.encode(self.encoder(features, lengths), code_lengths)

    def decode(self, indices, frames=None, lengths=None):
        """Code indices ``[batch, codes]``, -1 where padded, to a :class:`Condition`.

        Arguments
        ---------
        indices : torch.Tensor
            Codes.
        frames : int
            Log-mel frames to decode; ``codes * stride`` where None.
        lengths : torch.Tensor
            Relative lengths in frames, ``[batch]``, as they were given to :meth:`encode`. Where
            None, all frames of the codes that are not padding count.
        """
        frames = frames or indices.shape[1] * self.stride
        if lengths is None and bool((indices < 0).any()):
            lengths = (indices >= 0).sum(1) * self.stride / frames
            lengths = lengths.clamp(max=1.0)
        local, log_mel = self.decoder(self.quantizer.decode(indices), frames, lengths)
        return Condition(local, self.hop, None, log_mel)


def relative_code_lengths(lengths, frames, stride):
    """Relative lengths of the codes of items with the given relative lengths in frames."""
    if lengths is None:
        return None
    codes = math.ceil(frames / stride)
    return ((lengths * frames).round() / stride).ceil() / codes


def code_mask(lengths, frames, stride):
    """:func:`frame_mask` at code rate: a code counts if any of its frames does."""
    return frame_mask(relative_code_lengths(lengths, frames, stride), math.ceil(frames / stride))


def _predicted_log_mel(head, x):
    """The head's log-mel in natural units; fp32 whatever autocast says, since the envelope's
    exponent magnifies rounding."""
    with torch.autocast(x.device.type, enabled=False):
        return head(at_least_fp32(x)) * LOG_MEL_SCALE + LOG_MEL_MEAN


def _vectors(x, normalize):
    """``[batch, codebook_dim, codes]`` to what is quantised, ``[batch, codes, codebook_dim]``."""
    x = x.transpose(1, 2)
    return F.layer_norm(at_least_fp32(x), x.shape[-1:]) if normalize else x


class WaveVQConditioner(nn.Module):
    """Quantised codes of the raw waveform as the condition: the published setting, in which two
    strides of 8 give a code every 64 samples. Kept for comparison: such codes carry phase, pitch
    and speaker.

    Arguments
    ---------
    features : LogMel
        The feature contract; its hop must be a multiple of the product of the strides.
    quantizer : torch.nn.Module
        A quantiser of vectors of ``quantizer.codebook_dim``.
    strides : list of int
        Strides of the encoder's convolutions in samples.
    channels : int
        Channels of encoder, decoder and local condition.
    layers : int
        Residual blocks behind every stride, and in the decoder.
    mel_head : bool
        Whether to predict the log-mel from the codes; ``prior: envelope`` needs it.
    normalize_vectors : bool
        As in :class:`MelVQConditioner`; not part of the published setting.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.data.features import LogMel
    >>> from waveglow_vq.lobes.quantizers import SoftEMQuantizer
    >>> conditioner = WaveVQConditioner(LogMel(), SoftEMQuantizer(32, 16), channels=24)
    >>> condition = conditioner(torch.randn(2, 2048) * 0.1)
    >>> condition.quantized.indices.shape, condition.local.shape, condition.hop
    (torch.Size([2, 32]), torch.Size([2, 24, 32]), 64)
    """

    input = "wav"

    def __init__(
        self,
        features,
        quantizer,
        strides=(8, 8),
        channels=128,
        layers=2,
        mel_head=False,
        normalize_vectors=False,
    ):
        super().__init__()
        self.hop = self.samples_per_code = math.prod(strides)
        if features.hop_length % self.hop:
            raise UserError(
                f"strides: their product {self.hop} does not divide the hop "
                f"of {features.hop_length} samples"
            )
        self.channels = channels
        self.codes_per_frame = features.hop_length // self.hop
        self.strides = tuple(strides)
        widths = [1] + [channels] * len(strides)
        # Two strides long, so that neighbouring outputs overlap.
        self.down = nn.ModuleList(
            nn.Conv1d(width, channels, 2 * stride, stride, padding=(stride + 1) // 2)
            for width, stride in zip(widths[:-1], strides, strict=True)
        )
        self.stacks = nn.ModuleList(ResidualStack(channels, layers) for _ in strides)
        self.normalize_vectors = normalize_vectors
        self.to_code = nn.Conv1d(channels, quantizer.codebook_dim, 1)
        self.quantizer = quantizer
        self.from_code = nn.Conv1d(quantizer.codebook_dim, channels, 1)
        self.stack = ResidualStack(channels, layers)
        self.mel_head = None
        if mel_head:
            per_frame = self.codes_per_frame
            self.mel_head = nn.Conv1d(channels, features.n_mels, per_frame, per_frame)

    def encoder(self, features, lengths=None):
        """Waveforms ``[batch, samples]`` to ``[batch, samples / hop, codebook_dim]``."""
        x = _masked(features[:, None], frame_mask(lengths, features.shape[-1]))
        for down, stack, stride in zip(self.down, self.stacks, self.strides, strict=True):
            steps = x.shape[-1] // stride
            x = down(F.pad(x, (0, stride)))[..., :steps]
            mask = frame_mask(lengths, steps)
            x = _masked(stack(x, mask), mask)
        return _vectors(self.to_code(F.gelu(x)), self.normalize_vectors)

    def decoder(self, quantized, lengths=None):
        """Codes' vectors to the local condition and the predicted log-mel or None."""
        mask = frame_mask(lengths, quantized.shape[1])
        x = F.gelu(_masked(self.stack(self.from_code(quantized.transpose(1, 2)), mask), mask))
        log_mel = None
        if self.mel_head is not None:
            log_mel = _predicted_log_mel(self.mel_head, x)
        return x, log_mel

    def forward(self, features, lengths=None):
        """Waveforms ``[batch, samples]`` to a :class:`Condition`; lengths are relative."""
        quantized = self.quantizer(self.encoder(features, lengths), lengths)
        local, log_mel = self.decoder(quantized.quantized, lengths)
        return Condition(local, self.hop, quantized, log_mel)

    def encode(self, features, lengths=None):
        """Waveforms to code indices ``[batch, codes]``; -1 where padded."""
        return self.quantizer.encode(self.encoder(features, lengths), lengths)

    def decode(self, indices, frames=None, lengths=None):
        """Code indices ``[batch, codes]`` to a :class:`Condition`; see
        :meth:`MelVQConditioner.decode`. The codes say how many frames there are."""
        if lengths is None and bool((indices < 0).any()):
            lengths = (indices >= 0).sum(1) / indices.shape[1]
        local, log_mel = self.decoder(self.quantizer.decode(indices), lengths)
        return Condition(local, self.hop, None, log_mel)
