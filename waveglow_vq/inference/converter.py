"""Voice conversion with an exported model.

Authors
 * The waveglow-vq developers, 2026
"""

import difflib
import math
from typing import NamedTuple

from waveglow_vq.data.audio import write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference.conversion import check_mode, convert_utterances, utterance_pitch
from waveglow_vq.inference.interface import ExportedModel, checked_generator, relative_lengths
from waveglow_vq.inference.pieces import NoiseInTime, join_pieces, plan_pieces
from waveglow_vq.lobes.speakers import UNKNOWN

import torch

# Of a piece of a long recording, so that its margins leave something in between.
MIN_CHUNK_SECONDS = 2.0


class VoiceConverter(ExportedModel):
    """A model trained with several speakers: the same words in another voice.

    Mode ``codes`` decodes the recording's codes, and its pitch moved to the target's range, for the
    target. Mode ``latent_swap`` sends the waveform to noise as the source speaker's and back as the
    target's: the source itself as the target returns the recording.

    The target is one of :attr:`speakers` or, for models trained with ``speaker_source: encoder``,
    the voice of a reference recording. Noise comes from ``generator``: a seed, a
    ``torch.Generator``, or None for torch's global source; a seed gives every item of a batch the
    waveform it would have alone.

    Arguments
    ---------
    *args, **kwargs
        As for ``speechbrain.inference.interfaces.Pretrained``; ``from_hparams`` gives them.

    Example
    -------
    >>> from speechbrain.dataio.encoder import CategoricalEncoder
    >>> from waveglow_vq.data.features import LogMel
    >>> from waveglow_vq.lobes.mel_vq import MelVQConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.quantizers import SoftEMQuantizer
    >>> from waveglow_vq.lobes.speakers import SpeakerCondition
    >>> from waveglow_vq.lobes.waveglow import WaveGlow
    >>> features = LogMel()
    >>> conditioner = MelVQConditioner(
    ...     features, SoftEMQuantizer(32, 16), channels=16, speaker_channels=4, use_pitch=True
    ... )
    >>> flows = WaveGlow(
    ...     features, 16, flows=2, layers=2, channels=8, envelope={"order": 16}, speaker_channels=4
    ... )
    >>> model = WaveGlowVQ(conditioner, flows, speakers=SpeakerCondition(2, channels=4))
    >>> labels = CategoricalEncoder()
    >>> labels.update_from_iterable(["p225", "p226"])
    >>> converter = VoiceConverter(
    ...     modules={"model": model, "features": features}, hparams={"speakers": labels}
    ... )
    >>> converter.speakers
    ['p225', 'p226']
    >>> wavs = torch.randn(2, 5000) * 0.1
    >>> converter.convert_batch(wavs, "p226", torch.tensor([1.0, 0.5]), generator=0).shape
    torch.Size([2, 1, 5000])
    >>> converter.convert_batch(wavs, ["p226", "p223"])
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: speakers: 'p223' is not one of the 2 speakers of this model; \
the nearest is 'p226', and VoiceConverter.speakers (--list at the command line) has all of them.
    """

    def check_model(self):
        """A voice converter has speakers."""
        model = self.mods.model
        if model.speakers is None:
            name = "WaveGlowVocoder" if model.quantizer is None else "SpeechCodec"
            raise UserError(
                "the model was trained without speakers and has no voice to convert to: use "
                f"waveglow_vq.inference.{name} to reconstruct speech, or train with "
                "global_condition: speaker."
            )
        if not 0 < len(self.speakers) <= model.speakers.count:
            raise UserError(
                f"speakers: {len(self.speakers)} labels for a model with room for "
                f"{model.speakers.count} speakers; the export is damaged, export it again."
            )

    @torch.no_grad()
    def convert_batch(
        self,
        wavs,
        speakers=None,
        wav_lens=None,
        reference=None,
        mode="codes",
        source_speakers=None,
        pitch=True,
        sigma=None,
        generator=None,
    ):
        """Converts waveforms.

        Arguments
        ---------
        wavs : torch.Tensor
            ``[B, N]`` at the model's rate.
        speakers : str or list of str
            Label of the target, or one for each item.
        wav_lens : torch.Tensor
            Relative lengths in (0, 1], or samples of each item, ``[B]``; None: nothing is padded.
        reference : torch.Tensor
            Instead of ``speakers``: speech of the target at the model's rate, ``[M]`` for all
            items or ``[B, M]``.
        mode : str
            ``codes`` or ``latent_swap``.
        source_speakers : str or list of str
            Who speaks in the recordings, for ``latent_swap``; None: unknown, or told from the
            recording itself by models with ``speaker_source: encoder``.
        pitch : bool
            Whether the intonation of the recording is kept; False: it is spoken at the mean pitch
            of the target. For models with pitch beside the codes.
        sigma : float
            Standard deviation of the noise, the sampling temperature; None: the export's. Mode
            ``latent_swap`` draws no noise.
        generator : int or torch.Generator
            A seed or a source of noise.

        Returns
        -------
        torch.Tensor
            ``[B, 1, N]``, zero where padded.

        Raises
        ------
        UserError
            If a label is unknown, both or neither of ``speakers`` and ``reference`` are given, the
            mode does not exist or not for this model, or the waveforms are of another shape, too
            short, or hold NaN.
        """
        wavs, counts = self._checked_wavs(wavs, wav_lens)
        if reference is not None:
            reference = torch.as_tensor(reference)
            reference = reference[None] if reference.dim() == 1 else reference
        call = self._checked_call(speakers, reference, source_speakers, mode, sigma, len(wavs))
        generator = checked_generator(generator)
        with self.inference_ctx:
            voices = self._voices(call, wavs, counts, pitch)
            return self._convert(call, voices, wavs, counts, generator)[:, None]

    def convert_file(
        self,
        path,
        speaker=None,
        output_path=None,
        reference=None,
        mode="codes",
        source_speaker=None,
        pitch=True,
        sigma=None,
        generator=None,
        chunk_seconds=30.0,
    ):
        """Converts a sound file at any rate, mono or not, of any length.

        Arguments
        ---------
        path : str or Path
            The sound file.
        speaker : str
            Label of the target.
        output_path : str or Path
            Where to write the result (16-bit WAV at the model's rate); None: nowhere.
        reference : str or Path
            Instead of ``speaker``: a sound file in which the target speaks; some seconds suffice.
        mode, source_speaker, pitch, sigma, generator
            As for :meth:`convert_batch`.
        chunk_seconds : float
            Longer recordings are converted in overlapping pieces no longer than this, cut where
            it is quiet, so that memory does not grow with the length as a whole does.

        Returns
        -------
        torch.Tensor
            ``[1, N]`` at the model's rate, as long as the recording.

        Raises
        ------
        UserError
            As :meth:`convert_batch`, and if a file is missing, damaged, too short, or holds NaN.
        """
        if not MIN_CHUNK_SECONDS <= chunk_seconds < math.inf:
            raise UserError(
                f"chunk_seconds: {chunk_seconds}; pieces have to be at least "
                f"{MIN_CHUNK_SECONDS:g} s long"
            )
        # Labels are checked before the recording is read: they are what people mistype.
        voice = None if reference is None else self.load_audio(reference)[None]
        call = self._checked_call(speaker, voice, source_speaker, mode, sigma, 1)
        generator = checked_generator(generator)
        wav = self.load_audio(path)
        result = self._convert_long(call, wav, pitch, generator, chunk_seconds)
        if output_path is not None:
            write_wav(output_path, result, self.sample_rate)
        return result

    def _reconstruct(self, wav, sigma, generator):
        """The recording from its codes in its own voice, as far as the model knows it."""
        if self.mods.model.quantizer is None:
            raise UserError(
                "the model has no codes to reconstruct from: VoiceConverter.convert_file converts "
                "with mode latent_swap."
            )
        call = _Call("codes", None, None, None, self._checked_sigma(sigma))
        return self._convert_long(call, wav, True, checked_generator(generator), 30.0)

    def _checked_call(self, speakers, reference, source_speakers, mode, sigma, batch):
        check_mode(self.mods.model, mode)
        if (speakers is None) == (reference is None):
            raise UserError(
                "speaker, reference: give one of them, the label of a speaker of this model or "
                "speech of another voice"
            )
        if reference is not None:
            if self.mods.model.speakers.source == "encoder":
                reference, _ = self._checked_wavs(reference, None)
            if len(reference) not in (1, batch):
                raise UserError(f"reference: {len(reference)} voices for a batch of {batch}")
        if mode == "latent_swap" and sigma is not None:
            raise UserError("sigma: mode latent_swap draws no noise; leave sigma out")
        return _Call(
            mode,
            self._numbers(speakers, batch),
            reference,
            self._numbers(source_speakers, batch),
            self._checked_sigma(sigma),
        )

    def _numbers(self, labels, batch):
        """Numbers of speakers ``[B]`` from a label or one for each item."""
        if labels is None:
            return None
        labels = list(labels) if isinstance(labels, (list, tuple)) else [labels] * batch
        if len(labels) != batch:
            raise UserError(f"speakers: {len(labels)} labels for a batch of {batch}")
        known = self.speakers
        for label in labels:
            if label not in known:
                near = difflib.get_close_matches(str(label), known, n=1, cutoff=0.4)
                hint = f"the nearest is {near[0]!r}" if near else f"the first is {known[0]!r}"
                raise UserError(
                    f"speakers: {label!r} is not one of the {len(known)} speakers of this model; "
                    f"{hint}, and VoiceConverter.speakers (--list at the command line) has all of "
                    "them."
                )
        return torch.tensor([known.index(label) for label in labels], device=self.device)

    def _voices(self, call, wavs, counts, keep_pitch):
        """Who is to speak, who speaks, and the normalised pitch of what is said."""
        model = self.mods.model
        unknown = torch.full((len(wavs),), UNKNOWN, device=self.device)
        pitch, own_statistics = None, model.speakers.f0_statistics(unknown)
        if model.uses_pitch:
            pitch, own_statistics = utterance_pitch(model, self.mods.features, wavs, counts)
            if not keep_pitch:
                pitch = pitch * pitch.new_tensor([0.0, 1.0])

        def known(numbers):
            return model.speakers(numbers), model.speakers.f0_statistics(numbers)

        def own():
            if model.speakers.source == "encoder":
                return self._vectors(wavs, counts), own_statistics
            return model.speakers(unknown), own_statistics

        if call.targets is not None:
            target = known(call.targets)
        elif call.reference is not None:
            target = self._reference_voice(call.reference, len(wavs))
        else:
            target = own()
        source = (None, None)
        if call.mode == "latent_swap":
            source = own() if call.sources is None else known(call.sources)
        return _Voices(target, source, pitch)

    def _reference_voice(self, reference, batch):
        model = self.mods.model
        counts = torch.full((len(reference),), reference.shape[-1], device=self.device)
        vectors = self._vectors(reference, counts)
        statistics = model.speakers.f0_statistics(counts.new_full((len(reference),), UNKNOWN))
        if model.uses_pitch:
            _, statistics = utterance_pitch(model, self.mods.features, reference, counts)
        return vectors.expand(batch, -1), statistics.expand(batch, -1)

    def _vectors(self, wavs, counts):
        """Speaker vectors of speech; a UserError if the model has only a table."""
        log_mels, frames = self._log_mels(wavs, counts)
        lengths = relative_lengths(frames, log_mels.shape[-1])
        return self.mods.model.speakers(reference=log_mels, reference_lengths=lengths)

    def _convert(self, call, voices, wavs, counts, generator):
        return convert_utterances(
            self.mods.model,
            self.mods.features,
            wavs,
            counts,
            *voices.target,
            call.mode,
            *voices.source,
            call.sigma,
            generator,
            voices.pitch,
        )

    @torch.no_grad()
    def _convert_long(self, call, wav, keep_pitch, generator, chunk_seconds):
        """Converts ``[N]`` to ``[1, N]``, in pieces where it is long. Pitch, its statistics and
        the speaker are those of the whole recording."""
        hop = self.mods.features.hop_length
        longest = round(chunk_seconds * self.sample_rate)
        pieces = plan_pieces(wav, longest, self._unit, self.sample_rate)
        with self.inference_ctx:
            counts = torch.tensor([len(wav)], device=self.device)
            voices = self._voices(call, wav[None], counts, keep_pitch)
            if len(pieces) == 1:
                return self._convert(call, voices, wav[None], counts, generator)
            noise = NoiseInTime(generator)

            def convert(piece):
                part = wav[None, piece.start : piece.end]
                pitch = voices.pitch
                if pitch is not None:
                    begin = piece.start // hop
                    pitch = pitch[:, begin : begin + 1 + part.shape[1] // hop]
                return self._convert(
                    call,
                    voices._replace(pitch=pitch),
                    part,
                    torch.tensor([part.shape[1]], device=self.device),
                    noise.at(piece.start),
                )[0]

            return join_pieces(pieces, map(convert, pieces), self.sample_rate)[None]

    @property
    def _unit(self):
        """Samples from one place to the next where codes, pitch and noise can begin alike."""
        conditioner, hop = self.mods.model.conditioner, self.mods.features.hop_length
        unit = math.lcm(hop, getattr(conditioner, "samples_per_code", hop), NoiseInTime.BLOCK)
        if self.mods.model.uses_pitch:
            unit = math.lcm(unit, conditioner.pitch.stride * hop)
        return unit


class _Call(NamedTuple):
    """What a caller asked for, checked; targets, sources and reference may be None."""

    mode: str
    targets: torch.Tensor
    reference: torch.Tensor
    sources: torch.Tensor
    sigma: float


class _Voices(NamedTuple):
    """Vectors and F0 statistics of target and source, and the normalised pitch or None."""

    target: tuple
    source: tuple
    pitch: torch.Tensor
