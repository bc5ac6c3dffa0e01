"""Voice conversion with an exported model."""

from typing import Any, NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.coding import check_code_file
from waveglow_vq.inference.conversion.analysis import recording_code_file
from waveglow_vq.inference.conversion.long_recordings import stream_codes, stream_swap
from waveglow_vq.inference.conversion.voices import (
    Voice,
    flat_pitch,
    heard_vector,
    heard_voice,
    known_voice,
    speaker_numbers,
    unknown_voice,
    utterance_pitch,
)
from waveglow_vq.inference.conversion.whole_utterances import check_mode, convert_utterances
from waveglow_vq.inference.exported_model import ExportedModel
from waveglow_vq.inference.inputs import as_generator, as_numbers, as_sound

import torch


class VoiceConverter(ExportedModel):
    """A model trained with several speakers: the same words in another voice.

    Mode ``codes`` decodes the recording's codes, and its pitch moved to the target's range, for the
    target. Mode ``latent_swap`` sends the waveform to noise as the source speaker's and back as the
    target's: the source itself as the target returns the recording.

    The target is one of :attr:`speakers` or, for models trained with ``speaker_source: encoder`` or
    ``pretrained``, the voice of a reference recording. Noise comes from ``generator``: a seed, a
    ``torch.Generator``, or None for torch's global source; a seed gives every item of a batch the
    waveform it would have alone.

    Arguments
    ---------
    *args, **kwargs
        As for ``speechbrain.inference.interfaces.Pretrained``; ``from_hparams`` gives them.

    Example
    -------
    >>> from speechbrain.dataio.encoder import CategoricalEncoder
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer
    >>> from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
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
        refine=None,
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
            recording itself by models with ``speaker_source: encoder`` or ``pretrained``.
        pitch : bool
            Whether the intonation of the recording is kept; False: it is spoken at the mean pitch
            of the target. For models with pitch beside the codes.
        sigma : float
            Standard deviation of the noise, the sampling temperature; None: the export's. Mode
            ``latent_swap`` draws no noise.
        generator : int or torch.Generator
            A seed or a source of noise.
        refine : int
            For ``codes``: iterations that bring the log-mels of the waveforms to those predicted
            from the codes, as for :meth:`SpeechCodec.decode_batch
            <waveglow_vq.inference.codec.SpeechCodec.decode_batch>`; None: the export's.

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
        wavs, counts = self._wav_batch(wavs, wav_lens)
        _check_target(speakers, reference)
        if reference is not None:
            reference = as_numbers("reference", reference)
            reference = reference[None] if reference.dim() == 1 else reference
        options = pitch, sigma, generator, refine
        call = self._call(speakers, reference, mode, source_speakers, *options, batch=len(wavs))
        if self._is_long(wavs.shape[1] / self.mods.features.hop_length):
            return self._convert_long(call, wavs, counts)
        with self.inference_ctx:
            return self._convert_at_once(call, wavs, counts)

    def stream_file(
        self,
        path,
        speaker=None,
        reference=None,
        mode="codes",
        source_speaker=None,
        pitch=True,
        sigma=None,
        generator=None,
        refine=None,
    ):
        """Converts an audio file at any rate, mono or not, of any length, block by block.

        Codes, pitch and speaker are those of the whole recording, which is read once before the
        first block; the blocks together are what :meth:`convert_batch` makes of it. What is kept
        is at frame rate, as the log-mel is; the waveform never is as a whole.

        Arguments
        ---------
        path : str or Path
            The audio file.
        speaker : str
            Label of the target. With neither it nor ``reference``, in the recording's own voice
            as far as the model knows it.
        reference : str or Path
            Instead of ``speaker``: an audio file in which the target speaks; some seconds suffice.
        mode, source_speaker, pitch, sigma, generator, refine
            As for :meth:`convert_batch`.

        Yields
        ------
        torch.Tensor
            ``[n]`` at the model's rate; together as long as the recording.
        """
        # Labels are checked before the recording is read: they are what people mistype.
        options = source_speaker, pitch, sigma, generator, refine
        call = self._file_call(speaker, reference, mode, *options)
        return self._convert(self._reader(path), call)

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
        refine=None,
    ):
        """Converts an audio file at any rate, mono or not, of any length.

        Arguments
        ---------
        path, speaker, reference, mode, source_speaker, pitch, sigma, generator, refine
            As for :meth:`stream_file`; ``speaker`` or ``reference`` is needed.
        output_path : str or Path
            Where to write the result (16-bit WAV at the model's rate); None: nowhere.

        Returns
        -------
        torch.Tensor
            ``[1, N]`` at the model's rate, as long as the recording.
        """
        _check_target(speaker, reference)
        blocks = self.stream_file(
            path, speaker, reference, mode, source_speaker, pitch, sigma, generator, refine
        )
        return self._collect(blocks, output_path)

    def to_code_file(self, path):
        """Encodes an audio file to codes, pitch and what else decoding needs, as
        :meth:`SpeechCodec.to_code_file <waveglow_vq.inference.codec.SpeechCodec.to_code_file>`."""
        check_mode(self.mods.model, "codes")
        return recording_code_file(self, self._reader(path))

    def decode_stream(
        self,
        code_file,
        speaker=None,
        reference=None,
        pitch=True,
        sigma=None,
        generator=None,
        refine=None,
    ):
        """Decodes a recording as it was, or in another voice, block by block.

        Arguments
        ---------
        code_file : CodeFile
            From :meth:`to_code_file`, or
            :func:`~waveglow_vq.inference.codes.code_file.read_code_file`.
        speaker, reference, pitch, sigma, generator, refine
            As for :meth:`stream_file`.

        Yields
        ------
        torch.Tensor
            ``[n]`` at the model's rate; ``code_file.samples`` together.
        """
        call = self._file_call(speaker, reference, "codes", None, pitch, sigma, generator, refine)
        check_code_file(self, code_file)
        return self._decode(code_file, call)

    @torch.no_grad()
    def _file_call(self, speaker, reference, mode, *options):
        """The call for one file; neither speaker nor reference is the own voice."""
        if speaker is not None or reference is not None:
            _check_target(speaker, reference)
        elif mode == "codes" and self.mods.model.quantizer is None:
            raise UserError(
                "the model has no codes to reconstruct from: VoiceConverter.convert_file converts "
                "with mode latent_swap."
            )
        wav = None if reference is None else self.load_audio(reference)[None]
        return self._call(speaker, wav, mode, *options)

    def _call(
        self,
        speakers,
        reference,
        mode,
        source_speakers,
        keep_pitch,
        sigma,
        generator,
        refine,
        batch=1,
    ):
        """What a caller asked for, checked."""
        check_mode(self.mods.model, mode)
        if reference is not None:
            if self.mods.model.speakers.source == "encoder":
                reference, _ = self._wav_batch(reference)
            if len(reference) not in (1, batch):
                raise UserError(f"reference: {len(reference)} voices for a batch of {batch}")
        if mode == "latent_swap" and sigma is not None:
            raise UserError("sigma: mode latent_swap draws no noise; leave sigma out")
        if mode == "latent_swap" and refine:
            raise UserError("refine: mode latent_swap takes no iterations; leave refine out")
        target, source = self._voice(speakers, batch), self._voice(source_speakers, batch)
        sigma, generator = self._sigma(sigma), as_generator(generator)
        iterations = self.iterations(refine) if mode == "codes" else 0
        if reference is not None:
            with self.inference_ctx:
                target = heard_voice(self.mods.model, self.mods.features, reference).expand(batch)
        return _Call(mode, target, source, keep_pitch, sigma, generator, iterations)

    def _voice(self, labels, batch):
        """The Voice of speakers of the model; None for None."""
        if labels is None:
            return None
        numbers = speaker_numbers(self.speakers, labels, batch).to(self.device)
        return known_voice(self.mods.model, numbers)

    def _reader(self, path):
        """A callable that gives the blocks ``[n]`` of an audio file from its start: what follows
        reads a recording a few times, and never holds it."""
        path = as_sound(path)
        return lambda: self._read_blocks(path)[0]

    @torch.no_grad()
    def _convert(self, read, call):
        """Waveform blocks ``[n]`` of the conversion of a recording."""
        if call.mode == "codes":
            return self._decode(recording_code_file(self, read), call)
        voices, context = (call.source, call.target), self.inference_ctx
        return stream_swap(*self._parts(), read, *voices, call.keep_pitch, context)

    @torch.no_grad()
    def _decode(self, code_file, call):
        """Waveform blocks ``[n]`` of a CodeFile."""
        options = call.sigma, call.generator, call.keep_pitch, self.inference_ctx, call.iterations
        return stream_codes(*self._parts(), code_file, call.target, *options)

    def _parts(self):
        """Model, with the fast path prepared, and features."""
        return self._prepare().mods.model, self.mods.features

    def _convert_at_once(self, call, wavs, counts):
        model, features = self._parts()
        pitch, own = None, unknown_voice(model, len(wavs))
        if model.uses_pitch:
            pitch, statistics = utterance_pitch(model, features, wavs, counts)
            own = own._replace(f0_statistics=statistics)
            pitch = pitch if call.keep_pitch else flat_pitch(pitch)
        if call.mode == "latent_swap" and call.source is None:
            if model.speakers.source == "encoder":
                own = own._replace(vector=heard_vector(model, features, wavs, counts))
            call = call._replace(source=own)
        options = call.target, call.mode, call.source, call.sigma, call.generator
        return convert_utterances(
            model, features, wavs, counts, *options, pitch=pitch, refine=call.iterations
        )[:, None]

    def _convert_long(self, call, wavs, counts):
        """What :meth:`convert_batch` gives, item by item through the stream."""
        hop = self.mods.features.hop_length

        def stream(item, generator):
            wav, source = wavs[item, : int(counts[item])], call.source
            source = None if source is None else source.item(item)
            own = call._replace(target=call.target.item(item), source=source, generator=generator)
            return self._convert(lambda: iter([wav]), own)

        # Noise is drawn for whole frames; for a swap there is none.
        drawn = (self.mods.model.conditioner.frame_count(counts) * hop).tolist()
        generator = call.generator if call.mode == "codes" else 0
        return self._stream_items(stream, drawn, max(drawn), generator)[..., : wavs.shape[1]]


class _Call(NamedTuple):
    """What a caller asked for. A target of None is the recording's own voice; a source of None is
    unknown."""

    mode: str
    target: Voice | None
    source: Voice | None
    keep_pitch: bool
    sigma: float
    generator: Any
    iterations: int


def _check_target(speaker, reference):
    if (speaker is None) == (reference is None):
        raise UserError(
            "speaker, reference: give one of them, the label of a speaker of this model or "
            "speech of another voice"
        )
