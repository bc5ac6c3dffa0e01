"""The conditioner with codes of the raw waveform."""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.base import WaveConditioner, predicted_log_mel, to_vectors
from waveglow_vq.lobes.layers import ResidualStack
from waveglow_vq.utils.masking import frame_mask, masked

from torch import nn
from torch.nn import functional as F


class WaveVQConditioner(WaveConditioner):
    """Quantized codes of the raw waveform as the condition: the published setting, in which two
    strides of 8 give a code every 64 samples. Kept for comparison: such codes carry phase, pitch
    and speaker.

    Arguments
    ---------
    features : LogMel
        The feature contract; its hop must be a multiple of the product of the strides.
    quantizer : torch.nn.Module
        A quantizer of vectors of ``quantizer.codebook_dim``.
    strides : list of int
        Strides of the encoder's convolutions in samples.
    channels : int
        Channels of encoder, decoder and local condition.
    layers : int
        Residual blocks behind every stride, and in the decoder.
    mel_head : bool
        Whether to predict the log-mel from the codes; ``prior: envelope`` needs it.
    normalize_vectors : bool
        As in :class:`~waveglow_vq.lobes.conditioners.mel_vq.MelVQConditioner`; not part of the
        published setting.
    speaker_channels : int
        Channels of the global condition that modulates the decoder; 0 for none, as published.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer
    >>> conditioner = WaveVQConditioner(LogMel(), SoftEMQuantizer(32, 16), channels=24)
    >>> condition = conditioner(torch.randn(2, 2048) * 0.1)
    >>> condition.quantized.indices.shape, condition.local.shape, condition.hop
    (torch.Size([2, 32]), torch.Size([2, 24, 32]), 64)
    """

    def __init__(
        self,
        features,
        quantizer,
        strides=(8, 8),
        channels=128,
        layers=2,
        mel_head=False,
        normalize_vectors=False,
        speaker_channels=0,
    ):
        hop = math.prod(strides)
        super().__init__(features, channels, hop, stride=hop)
        if features.hop_length % self.hop:
            raise UserError(
                f"strides: their product {self.hop} does not divide the hop "
                f"of {features.hop_length} samples"
            )
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
        self.stack = ResidualStack(channels, layers, speaker_channels=speaker_channels)
        self.gives_log_mel = bool(mel_head)
        self.mel_head = None
        if mel_head:
            per_frame = features.hop_length // hop
            self.mel_head = nn.Conv1d(channels, features.n_mels, per_frame, per_frame)

    @property
    def encoder_receptive_field(self):
        """Codes to either side whose samples a code depends on."""
        samples = 0
        for stack, stride in zip(reversed(self.stacks), reversed(self.strides), strict=True):
            # A convolution of two strides reaches half a stride beyond its own to either side.
            samples = (samples + stack.receptive_field) * stride + (stride + 1) // 2
        return math.ceil(samples / self.hop)

    @property
    def receptive_field(self):
        """Codes to either side that the condition of a code depends on. Those that share a frame
        of the predicted log-mel count as one with it."""
        return self.stack.receptive_field

    def encoder(self, features, lengths=None):
        """Waveforms ``[batch, samples]`` to ``[batch, samples / hop, codebook_dim]``."""
        x = masked(features[:, None], frame_mask(lengths, features.shape[-1]))
        for down, stack, stride in zip(self.down, self.stacks, self.strides, strict=True):
            steps = x.shape[-1] // stride
            x = down(F.pad(x, (0, stride)))[..., :steps]
            mask = frame_mask(lengths, steps)
            x = masked(stack(x, mask), mask)
        return to_vectors(self.to_code(F.gelu(x)), self.normalize_vectors)

    def decoder(self, quantized, steps=None, lengths=None, speaker=None):
        """Codes' vectors to the local condition and the predicted log-mel or None; the speaker
        as for ``forward``. Their number says how many steps there are."""
        mask = frame_mask(lengths, quantized.shape[1])
        x = F.gelu(
            masked(self.stack(self.from_code(quantized.transpose(1, 2)), mask, speaker), mask)
        )
        log_mel = None
        if self.mel_head is not None:
            log_mel = predicted_log_mel(self.mel_head, x)
        return x, log_mel
