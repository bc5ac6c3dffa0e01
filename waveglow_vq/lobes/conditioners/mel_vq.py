"""The conditioner with codes of the log-mel."""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.base import (
    Conditioner,
    normalize_log_mel,
    predicted_log_mel,
    to_vectors,
)
from waveglow_vq.lobes.conditioners.disentanglement import instance_norm, random_warp, time_jitter
from waveglow_vq.lobes.conditioners.pitch_condition import PitchCondition
from waveglow_vq.lobes.layers import ResidualStack, zero_linear
from waveglow_vq.utils.masking import code_mask, frame_mask, masked
from waveglow_vq.utils.validation import require_integer, require_number

import torch
from torch import nn
from torch.nn import functional as F


class MelVQConditioner(Conditioner):
    """Quantized codes of the log-mel as the condition, at any code rate.

    ``log-mel -> encoder -> stride -> quantizer -> codes -> decoder -> local condition``, and a
    head predicts the log-mel from the decoded codes, so that there is an envelope where only
    codes are given. Trained by its own L1 term, the head also gives the codes a direct learning
    signal without phase. Decoder and head are modulated by the speaker who is to speak, so that
    the predicted log-mel, and with it the envelope, has that speaker's formants.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    quantizer : torch.nn.Module
        A quantizer of vectors of ``quantizer.codebook_dim``.
    stride : int
        Log-mel frames per code.
    channels : int
        Channels of encoder, decoder and local condition.
    encoder_layers : int
        Residual blocks before the stride, and as many after it.
    decoder_layers : int
        Residual blocks of the decoder at code rate.
    fine_layers : int
        Those at frame rate; None: as many.
    dilation_cycle : int
        Blocks at frame rate have dilations of 1, 2, 4 and so on, of so many values in turn.
    kernel_size : int
        Taps of the convolutions.
    normalize_vectors : bool
        Whether every vector is brought to zero mean and unit variance before it is quantized
        (layer normalization without parameters). The codes then need not chase the encoder's
        scale, which lets encoder and flows be trained at one high learning rate.
    speaker_channels : int
        Channels of the global condition; 0 for none.
    use_instance_norm : bool
        Whether the log-mel and the encoder's hidden layers are normalized over each utterance,
        which takes away what is constant over it: see
        :func:`~waveglow_vq.lobes.conditioners.disentanglement.instance_norm`.
    jitter : float
        Probability, in training, that a code is replaced by a neighbour.
    warp : float
        In training the encoder sees log-mels stretched by up to exp(+-warp) along frequency, while
        those that are to be predicted stay as they are; 0: not.
    quantize_after : int
        Training steps before which the decoder is given the vectors as they are. Meanwhile the
        codes follow them. In evaluation it is always given codes: vectors would score better,
        and the best checkpoint would be one that never saw a code.
    use_pitch : bool
        Whether normalized log-F0 is given beside the codes.
    pitch_stride, pitch_levels : int
        See :class:`~waveglow_vq.lobes.conditioners.pitch_condition.PitchCondition`.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer
    >>> conditioner = MelVQConditioner(LogMel(), SoftEMQuantizer(32, 16), stride=3, channels=24)
    >>> condition = conditioner(torch.randn(2, 80, 10))
    >>> condition.quantized.indices.shape, condition.log_mel.shape, condition.local.shape
    (torch.Size([2, 4]), torch.Size([2, 80, 10]), torch.Size([2, 24, 10]))
    """

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
        speaker_channels=0,
        use_instance_norm=False,
        jitter=0.0,
        warp=0.0,
        quantize_after=0,
        use_pitch=False,
        pitch_stride=4,
        pitch_levels=31,
        fine_layers=None,
        dilation_cycle=1,
    ):
        super().__init__(features, channels, stride=stride)
        require_integer("stride", stride, 1)
        require_number("jitter", jitter, least=0, below=1)
        require_number("warp", warp, least=0, below=1)
        require_integer("quantize_after", quantize_after, 0)
        require_integer("dilation_cycle", dilation_cycle, 1)
        self.normalize_vectors = normalize_vectors
        self.use_instance_norm = use_instance_norm
        self.jitter = jitter
        self.warp = warp
        self.quantize_after = quantize_after
        self.start = nn.Conv1d(features.n_mels, channels, kernel_size, padding=kernel_size // 2)
        self.before = ResidualStack(channels, encoder_layers, kernel_size)
        self.down = nn.Conv1d(channels, channels, stride, stride)
        self.after = ResidualStack(channels, encoder_layers, kernel_size)
        self.to_code = nn.Conv1d(channels, quantizer.codebook_dim, 1)
        self.quantizer = quantizer
        self.from_code = nn.Conv1d(quantizer.codebook_dim, channels, 1)
        self.coarse = ResidualStack(channels, decoder_layers, kernel_size, speaker_channels)
        self.up = nn.ConvTranspose1d(channels, channels, stride, stride)
        self.harmonics = None
        if use_pitch:
            self.pitch = PitchCondition(features, channels, pitch_stride, pitch_levels)
            self.harmonics = zero_linear(channels, features.n_mels, nn.Conv1d, 1)
        layers = decoder_layers if fine_layers is None else fine_layers
        self.fine = ResidualStack(channels, layers, kernel_size, speaker_channels, dilation_cycle)
        self.mel_head = nn.Conv1d(channels, features.n_mels, 1)
        self.speaker_head = zero_linear(speaker_channels, features.n_mels, nn.Linear)
        if quantize_after:
            # In the checkpoint, so that a run that goes on knows whether it quantizes.
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # Training forwards since the last optimizer step.
        self._forwards = 0

    @property
    def encoder_receptive_field(self):
        """Codes to either side whose frames a code depends on; None for the whole utterance, which
        the statistics of the instance normalization are of."""
        if self.use_instance_norm:
            return None
        frames = self.start.kernel_size[0] // 2 + self.before.receptive_field
        return self.after.receptive_field + math.ceil(frames / self.stride)

    @property
    def receptive_field(self):
        """Codes to either side that the condition of a code's frames depends on; pitch beside the
        codes apart, which is interpolated between frames of its own."""
        frames = self.fine.receptive_field
        return self.coarse.receptive_field + math.ceil(frames / self.stride)

    def after_optimizer_step(self, taken=True):
        """As :meth:`~waveglow_vq.lobes.model.WaveGlowVQ.after_optimizer_step`."""
        if self.quantize_after and not taken:
            self.steps -= self._forwards
        self._forwards = 0

    def training_state(self):
        """As :meth:`~waveglow_vq.lobes.model.WaveGlowVQ.training_state`."""
        return {"forwards": self._forwards}

    def load_training_state(self, state):
        """As :meth:`~waveglow_vq.lobes.model.WaveGlowVQ.load_training_state`."""
        self._forwards = state["forwards"]

    def encoder(self, features, lengths=None):
        """Log-mel ``[batch, n_mels, frames]`` to vectors ``[batch, codes, codebook_dim]``, with
        ``codes = ceil(frames / stride)``."""
        frames = features.shape[-1]
        mask = frame_mask(lengths, frames)
        if self.training and self.warp:
            features = random_warp(features, self.warp)
        x = self._normalize(normalize_log_mel(features), mask)
        x = self.start(masked(x, mask))
        x = self._normalize(masked(self.before(x, mask), mask), mask)
        x = self.down(F.pad(x, (0, -frames % self.stride)))
        mask = code_mask(lengths, frames, self.stride)
        x = self._normalize(masked(self.after(x, mask), mask), mask)
        return to_vectors(self.to_code(F.gelu(x)), self.normalize_vectors)

    def _normalize(self, x, mask):
        return instance_norm(x, mask) if self.use_instance_norm else x

    def decoder(
        self, quantized, frames, lengths=None, speaker=None, pitch=None, f0_statistics=None
    ):
        """Codes' vectors ``[batch, codes, codebook_dim]`` to the local condition and the predicted
        log-mel, each ``[batch, channels, frames]``; the rest as for ``forward``."""
        x = self.from_code(quantized.transpose(1, 2))
        x = self.coarse(x, code_mask(lengths, frames, self.stride), speaker)
        x = self.up(F.gelu(x))[..., :frames]
        mask = frame_mask(lengths, frames)
        harmonics = None
        if self.uses_pitch:
            if pitch is None:
                raise UserError("pitch: this model was trained with pitch beside the codes")
            hidden, harmonics = self.pitch(pitch[:, :frames], f0_statistics, mask)
            x = x + hidden
        x = F.gelu(masked(self.fine(x, mask, speaker), mask))
        return x, predicted_log_mel(self._log_mel, x, harmonics, speaker)

    def _log_mel(self, x, harmonics, speaker):
        log_mel = self.mel_head(x)
        if self.speaker_head is not None:
            log_mel = log_mel + self.speaker_head(speaker)[..., None]
        if harmonics is not None:
            log_mel = log_mel + self.harmonics(x) * harmonics
        return log_mel

    def training_codes(self, codes, vectors, lengths=None):
        """The vectors as they are in the first steps, codes with jitter then."""
        if self.quantize_after:
            # Before, the codes' own losses bring them to the vectors. Without a look at the device.
            codes = torch.where(self.steps >= self.quantize_after, codes, vectors)
            self.steps += 1
            self._forwards += 1
        return time_jitter(codes, self.jitter, lengths) if self.jitter else codes
