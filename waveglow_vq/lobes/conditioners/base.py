"""The contract of conditioners: from features to what the flows are conditioned on.

A subclass of :class:`Conditioner` is all that training, inference, export and ``waveglow-vq info``
need; mel.py, mel_vq.py and wav_vq.py are such.
"""

import math
from typing import NamedTuple

from waveglow_vq.audio.blocks import log_mel_blocks
from waveglow_vq.utils.devices import at_least_fp32
from waveglow_vq.utils.masking import crop_frames, relative_code_lengths, shares

import torch
from torch import nn
from torch.nn import functional as F

# Log-mels of speech spread by about this much around this value: centred, every layer starts
# in its working range. Not learned and not measured per corpus, so that models are exchangeable.
LOG_MEL_MEAN = -5.0
LOG_MEL_SCALE = 2.0


class Condition(NamedTuple):
    """Output of a conditioner.

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
    f0 : torch.Tensor
        The fundamental frequency in Hz that was given beside the codes, as they say it, ``[batch,
        mel frames]``, 0 where unvoiced; or None.
    """

    local: torch.Tensor
    hop: int
    quantized: tuple | None
    log_mel: torch.Tensor | None
    vectors: torch.Tensor | None = None
    f0: torch.Tensor | None = None

    def cropped(self, frames=None, starts=None, lengths=None):
        """The part that belongs to a stretch of every item: ``frames`` of it (None: all) from its
        ``starts`` on, ``[batch]`` (None: 0).

        Behind an item's end, by the relative lengths in (0, 1], its last frame is held.
        """

        def crop(x):
            return None if x is None else crop_frames(x, frames or x.shape[-1], starts, lengths)

        f0 = None if self.f0 is None else crop(self.f0[:, None])[:, 0]
        return self._replace(local=crop(self.local), log_mel=crop(self.log_mel), f0=f0)


class Inputs(NamedTuple):
    """What a conditioner reads of a batch, and where in it the waveforms lie.

    Arguments
    ---------
    features : torch.Tensor
        What its ``forward`` takes.
    lengths : torch.Tensor
        Their relative lengths in (0, 1], ``[batch]``, or None where nothing is padded.
    log_mel : torch.Tensor
        The log-mel of the same stretch of time, with which a predicted one is compared.
    starts : torch.Tensor
        First frame of the condition that belongs to each waveform, ``[batch]``; 0 where None.
    frames : int
        Frames of the condition that belong to a waveform; None: all.
    """

    features: torch.Tensor
    lengths: torch.Tensor | None
    log_mel: torch.Tensor | None
    starts: torch.Tensor | None = None
    frames: int | None = None


class Conditioner(nn.Module):
    """From features to what the flows are conditioned on: the contract.

    This one reads log-mels ``[batch, n_mels, frames]``; :class:`WaveConditioner` reads waveforms.
    A conditioner without codes has

    - ``forward(features, lengths=None, speaker=None)``, which returns a :class:`Condition`;
    - ``receptive_field``, the steps of its input to either side that the condition of one depends
      on.

    One with codes sets ``self.quantizer`` and has, instead of ``forward``,

    - ``encoder(features, lengths=None)``: to what is quantized, ``[batch, codes, codebook_dim]``;
    - ``decoder(vectors, steps, lengths=None, speaker=None)``: from the codes' vectors to the local
      condition and the log-mel of so many steps of the input, the latter None where
      ``gives_log_mel`` is False;
    - ``receptive_field``, in codes;
    - ``encoder_receptive_field``, the codes to either side whose features a code depends on; None
      for the whole utterance.

    Lengths are relative, in (0, 1]. The speaker is the global condition ``[batch, channels]``; with
    ``self.pitch`` set, ``pitch`` and ``f0_statistics`` follow it (see
    :class:`~waveglow_vq.lobes.conditioners.pitch_condition.PitchCondition`). All else has defaults.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    channels : int
        Channels of the local condition.
    hop : int
        Samples per frame of the local condition; None: that of the features.
    stride : int
        Steps of the input per code.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> class Smoothed(Conditioner):
    ...     receptive_field = 1
    ...
    ...     def forward(self, features, lengths=None, speaker=None):
    ...         local = torch.nn.functional.avg_pool1d(normalize_log_mel(features), 3, 1, 1)
    ...         return Condition(local, self.hop, None, features)
    >>> conditioner = Smoothed(LogMel(), channels=80)
    >>> conditioner(torch.randn(2, 80, 9)).local.shape, conditioner.description
    (torch.Size([2, 80, 9]), 'log-mel')
    """

    reads = "log-mel"
    encoder_receptive_field = None
    # Whether a condition has a log-mel, for the envelope.
    gives_log_mel = True
    # Whether the local condition is of the order of one, as FiLM needs it.
    is_normalized = True

    def __init__(self, features, channels, hop=None, stride=1):
        super().__init__()
        self.frame_hop = features.hop_length
        self.n_mels = features.n_mels
        self.channels = channels
        self.hop = hop or features.hop_length
        self.stride = stride
        # In the instance: a module would not replace an attribute of the class.
        self.quantizer = self.pitch = None

    def lacks(self):
        """Names of required attributes and methods that this conditioner does not define."""
        needed = ["receptive_field"]
        if self.quantizer is not None:
            needed += ["encoder", "decoder"]
        lacking = [name for name in needed if not hasattr(self, name)]
        if self.quantizer is None and type(self).forward is Conditioner.forward:
            lacking.append("forward")
        return lacking

    # ---- what it is

    @property
    def description(self):
        """What the flows are conditioned on, in words."""
        return self.reads if self.quantizer is None else f"codes of the {self.reads}"

    @property
    def is_vocoder(self):
        """Whether it needs nothing but a log-mel, and no codes lie between."""
        return self.quantizer is None

    @property
    def uses_pitch(self):
        """Whether pitch is given beside the codes."""
        return self.pitch is not None

    @property
    def pitch_bits_per_second(self):
        """Bits per second of the pitch beside the codes, if every value costs the same."""
        return self.pitch.bits_per_second if self.uses_pitch else 0.0

    # ---- what it reads

    @property
    def input_hop(self):
        """Samples per step of its input."""
        return self.frame_hop

    def inputs(self, mel, wav, mel_lens=None, wav_lens=None, starts=None):
        """Picks what it reads of a batch.

        Arguments
        ---------
        mel : torch.Tensor
            Log-mels ``[batch, n_mels, frames]``; they may reach further than the waveforms.
        wav : torch.Tensor
            Waveforms of whole hops, ``[batch, samples]``.
        mel_lens, wav_lens : torch.Tensor
            Their relative lengths, ``[batch]``, or None where nothing is padded.
        starts : torch.Tensor
            Frame of the log-mel on which each waveform begins, ``[batch]``; 0 where None.

        Returns
        -------
        Inputs
        """
        # One frame more than the waveform covers: the envelope and the condition are
        # interpolated towards it. Where there is none, the last frame is held.
        return Inputs(mel, mel_lens, mel, starts, wav.shape[-1] // self.frame_hop + 1)

    def input_blocks(self, features, wavs):
        """What it reads of a waveform that comes in blocks ``[n]``: an iterator of
        ``[1, ..., t]``; ``features`` makes the log-mels."""
        return (mel[None] for mel in log_mel_blocks(features, wavs))

    def step_count(self, samples):
        """Steps of its input of a waveform of so many samples."""
        return 1 + samples // self.frame_hop

    def frame_count(self, samples):
        """Frames, of the features' hop, of the condition of so many samples."""
        return self.step_count(samples) * self.input_hop // self.frame_hop

    # ---- codes

    @property
    def samples_per_code(self):
        """Samples for each code or, without codes, for each step of the input."""
        return self.stride * self.input_hop

    @property
    def code_unit(self):
        """Codes that cover whole frames and whole values of pitch: where an utterance can be
        cut."""
        unit = self.frame_hop * (self.pitch.stride if self.uses_pitch else 1)
        return math.lcm(self.samples_per_code, unit) // self.samples_per_code

    @property
    def codebooks(self):
        """How many indices a code has; of several, codes are ``[batch, codes, codebooks]``."""
        return getattr(self.quantizer, "codebooks", 1)

    def code_count(self, samples):
        """Codes of a waveform of so many samples."""
        return -(-self.step_count(samples) // self.stride)

    def sample_count(self, codes):
        """Samples that belong to so many codes: with one more, another code would begin."""
        return codes * self.samples_per_code - 1

    def code_lengths(self, lengths, steps):
        """Relative lengths of the codes of items with the given ones in steps of the input."""
        return relative_code_lengths(lengths, steps, self.stride)

    def forward(self, features, lengths=None, speaker=None, pitch=None, f0_statistics=None):
        """From features through codes to the condition.

        Arguments
        ---------
        features : torch.Tensor
            Log-mels ``[batch, n_mels, frames]`` or waveforms ``[batch, samples]``.
        lengths : torch.Tensor
            Relative lengths in (0, 1], ``[batch]``, or None where nothing is padded.
        speaker : torch.Tensor
            Global condition of who is to speak, ``[batch, speaker_channels]``, or None.
        pitch : torch.Tensor
            Normalized log-F0 and voicing ``[batch, frames, 2]``, or None; see
            :func:`~waveglow_vq.lobes.conditioners.pitch_condition.normalize_pitch`.
        f0_statistics : torch.Tensor
            Mean and standard deviation of the log-F0 of who is to speak, ``[batch, 2]``, or None.

        Returns
        -------
        Condition
        """
        steps = features.shape[-1]
        vectors = self.encoder(features, lengths)
        code_lengths = self.code_lengths(lengths, steps)
        quantized = self.quantizer(vectors, code_lengths)
        codes = quantized.quantized
        if self.training:
            codes = self.training_codes(codes, vectors, code_lengths)
        condition = self._decode_vectors(codes, steps, lengths, speaker, pitch, f0_statistics)
        return condition._replace(quantized=quantized, vectors=vectors)

    def training_codes(self, codes, vectors, lengths=None):
        """What the decoder is given in training, ``[batch, codes, codebook_dim]``, from the codes'
        vectors, those of the encoder and their relative lengths."""
        return codes

    def encode(self, features, lengths=None):
        """Features to code indices ``[batch, codes]``, or ``[batch, codes, codebooks]`` of several;
        -1 where padded."""
        code_lengths = self.code_lengths(lengths, features.shape[-1])
        return self.quantizer.encode(self.encoder(features, lengths), code_lengths)

    def decode(
        self, indices, frames=None, lengths=None, speaker=None, pitch=None, f0_statistics=None
    ):
        """Code indices to a Condition.

        Arguments
        ---------
        indices : torch.Tensor
            As :meth:`encode` gives them.
        frames : int
            Frames of the features to decode; all of the codes where None.
        lengths : torch.Tensor
            Relative lengths ``[batch]`` as they were given to :meth:`encode`. Where None, all of
            the codes that are not padding counts.
        speaker, pitch, f0_statistics : torch.Tensor
            As in :meth:`forward`.
        """
        steps = indices.shape[1] * self.stride
        if frames:
            steps = frames * self.frame_hop // self.input_hop
        if lengths is None and bool((indices < 0).any()):
            present = indices.reshape(*indices.shape[:2], -1)[..., 0] >= 0
            lengths = shares(present.sum(1) * self.stride, steps).clamp(max=1.0)
        vectors = self.quantizer.decode(indices)
        return self._decode_vectors(vectors, steps, lengths, speaker, pitch, f0_statistics)

    def _decode_vectors(self, vectors, steps, lengths, speaker, pitch, f0_statistics):
        more = (pitch, f0_statistics) if self.uses_pitch else ()
        local, log_mel = self.decoder(vectors, steps, lengths, speaker, *more)
        f0 = None
        if self.uses_pitch and not self.training:
            f0 = self.pitch.f0(pitch[:, :steps], f0_statistics, lengths)
        return Condition(local, self.hop, None, log_mel, f0=f0)

    # ---- training

    def after_optimizer_step(self, taken=True):
        """As :meth:`~waveglow_vq.lobes.model.WaveGlowVQ.after_optimizer_step`, without the
        quantizer."""

    def training_state(self):
        """As :meth:`~waveglow_vq.lobes.model.WaveGlowVQ.training_state`, without the
        quantizer's."""
        return {}

    def load_training_state(self, state):
        """Takes what :meth:`training_state` gave."""


class WaveConditioner(Conditioner):
    """A :class:`Conditioner` that reads waveforms ``[batch, samples]`` of whole hops, and whose
    condition begins and ends with them."""

    reads = "waveform"
    input_hop = 1
    is_vocoder = False

    def inputs(self, mel, wav, mel_lens=None, wav_lens=None, starts=None):
        """The waveforms; see :meth:`Conditioner.inputs`."""
        frames = wav.shape[-1] // self.frame_hop
        log_mel = None if mel is None else crop_frames(mel, frames, starts, mel_lens)
        return Inputs(wav, wav_lens, log_mel)

    def input_blocks(self, features, wavs):
        """The blocks, and zeros behind the last up to a whole hop."""
        samples, wav = 0, None
        for wav in wavs:
            samples += len(wav)
            yield wav[None]
        yield wav.new_zeros(1, -samples % self.frame_hop)

    def step_count(self, samples):
        """Samples of whole hops."""
        return -(-samples // self.frame_hop) * self.frame_hop

    def sample_count(self, codes):
        """All of the codes."""
        return codes * self.samples_per_code


def normalize_log_mel(log_mel):
    """Centres and scales log-mels; see LOG_MEL_MEAN."""
    return (log_mel - LOG_MEL_MEAN) / LOG_MEL_SCALE


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
