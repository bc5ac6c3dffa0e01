"""Vocoder: log-mels to waveforms."""

import math
from functools import partial

from waveglow_vq.audio.blocks import log_mel_blocks
from waveglow_vq.errors import UserError
from waveglow_vq.inference import denoiser
from waveglow_vq.inference.batching import batch_log_mels
from waveglow_vq.inference.exported_model import ExportedModel
from waveglow_vq.inference.inputs import as_number, as_numbers, item_counts
from waveglow_vq.inference.log_mels import (
    as_log_mel_batch,
    as_log_mels,
    refuse_other_kinds,
    warn_of_other_kinds,
)
from waveglow_vq.inference.streaming.chunks import Chunks
from waveglow_vq.inference.streaming.waveform import AfterFlows, condition_blocks
from waveglow_vq.utils.masking import fill_padding, relative_lengths
from waveglow_vq.utils.windows import cropped

import torch


class WaveGlowVocoder(ExportedModel):
    """A trained WaveGlow, with the calls of SpeechBrain's HIFIGAN: the log-mels of its Tacotron2
    and FastSpeech2 models go in as they are.

    Noise comes from ``generator``: a seed, a ``torch.Generator``, or None for torch's global
    source. A seed gives every item of a batch the waveform it would have alone. Long log-mels are
    processed in windows, so that memory does not grow with their length beyond what the result
    takes; :meth:`stream` and :meth:`stream_file` do not hold that either.

    Arguments
    ---------
    *args, **kwargs
        As for ``speechbrain.inference.interfaces.Pretrained``; ``from_hparams`` gives them.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.conditioners.mel import MelConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> features = LogMel()
    >>> flows = WaveGlow(features, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    >>> model = WaveGlowVQ(MelConditioner(features, channels=16), flows)
    >>> vocoder = WaveGlowVocoder(modules={"model": model, "features": features}, hparams={})
    >>> mel = torch.randn(2, 80, 10) - 5
    >>> vocoder.decode_batch(mel, mel_lens=torch.tensor([10, 7]), generator=0).shape
    torch.Size([2, 1, 2560])
    >>> vocoder.decode_spectrogram(mel[0], sigma=0.8).shape
    torch.Size([1, 2560])
    >>> [block.shape for block in vocoder.stream(mel[0].split(4, dim=-1), chunk_frames=6)]
    [torch.Size([1536]), torch.Size([1024])]
    """

    def check_model(self):
        """A vocoder is conditioned on log-mels, without codes."""
        if not self.mods.model.conditioner.is_vocoder:
            raise UserError(
                "the model has codes: load it with waveglow_vq.inference.SpeechCodec, "
                "not with WaveGlowVocoder."
            )

    # Spectrum that the denoiser subtracts, and the state of the weights that it belongs to.
    _bias = None
    CACHES = (*ExportedModel.CACHES, "_bias")

    @property
    def hop_length(self):
        """Samples per frame."""
        return self.mods.features.hop_length

    @torch.no_grad()
    def decode_batch(
        self,
        spectrogram,
        mel_lens=None,
        hop_len=None,
        sigma=None,
        generator=None,
        denoise=0.0,
        refine=None,
    ):
        """Log-mels to waveforms.

        Arguments
        ---------
        spectrogram : torch.Tensor
            Log-mels ``[B, 80, T]``: natural logarithm of slaney-mel magnitudes. Mels in dB or
            linear mels are an error; an unlikely range is a warning in the log.
        mel_lens : torch.Tensor
            Frames of each item, ``[B]``, as Tacotron2 returns them, or relative lengths in (0, 1];
            None where nothing is padded.
        hop_len : int
            Samples per frame. It follows from the model; a value that contradicts it is an error.
        sigma : float
            Standard deviation of the noise, the sampling temperature; None: the export's.
        generator : int or torch.Generator
            A seed or a source of noise.
        denoise : float
            Strength of the denoiser, usually 0.01 to 0.1; 0 for none. See
            :mod:`~waveglow_vq.inference.denoiser`.
        refine : int
            Iterations that bring the log-mels of the waveforms to those given (see
            :func:`~waveglow_vq.lobes.mel_consistency.mel_consistent`), 0 for the flows alone; None:
            the export's. Items of one or two frames are too short for them and stay as they are.

        Returns
        -------
        torch.Tensor
            ``[B, 1, T * hop]``, zero where padded.

        Raises
        ------
        UserError
            If the log-mels are of another shape, empty, or hold NaN.
        """
        if hop_len is not None and hop_len != self.hop_length:
            raise UserError(f"hop_len: {hop_len}, but the model's hop is {self.hop_length} samples")
        features = self.mods.features
        mel = as_log_mel_batch("spectrogram", spectrogram, features.n_mels, self.device)
        counts = item_counts("mel_lens", mel_lens, len(mel), mel.shape[-1]).to(self.device)
        mel = fill_padding(mel, counts, math.log(features.floor))
        items = [item[:, :count] for item, count in zip(mel, counts.tolist(), strict=True)]
        for item in items:
            refuse_other_kinds("spectrogram", item, features)
        # One warning is enough.
        any(warn_of_other_kinds("spectrogram", item, features) for item in items)
        if self._is_long(mel.shape[-1]):
            counts = counts.tolist()

            def stream(item, generator):
                own = [mel[item : item + 1, :, : counts[item]]]
                more = {"chunk_frames": None, "refine": refine}
                return self.stream(own, sigma, generator, denoise, **more)

            samples = [count * self.hop_length for count in counts]
            total = mel.shape[-1] * self.hop_length
            return self._stream_items(stream, samples, total, generator)
        after_flows = self._after_flows(denoise)
        with self.inference_ctx:
            condition = self.mods.model.conditioner(mel, relative_lengths(counts, mel.shape[-1]))
            return self._sample(
                condition, counts, sigma, generator, refine, after_flows and after_flows.apply
            )

    def _after_flows(self, strength):
        """The denoiser of this strength, or None."""
        strength = as_number("denoise", strength)
        if not strength:
            return None
        apply = partial(denoiser.denoise, bias_magnitude=self._bias_magnitude(), strength=strength)
        return AfterFlows(apply, denoiser.MARGIN, denoiser.HOP)

    def _bias_magnitude(self):
        """Spectrum that the denoiser subtracts; computed again if a weight was moved or changed."""
        model = self._prepare().mods.model
        state = [(x.data_ptr(), x._version) for x in model.parameters()]
        if self._bias is None or self._bias[0] != state:
            with self.inference_ctx:
                self._bias = (state, denoiser.bias_magnitude(model))
        return self._bias[1]

    def stream(
        self,
        mel_chunks,
        sigma=None,
        generator=None,
        denoise=0.0,
        overlap_frames=None,
        chunk_frames=64,
        refine=None,
    ):
        """Log-mels that come in chunks to waveforms, block by block, in memory that does not depend
        on their length.

        Together, the blocks equal what :meth:`decode_batch` gives for the whole, with a seed of the
        noise, and for one item with a ``torch.Generator`` of the CPU too.

        Arguments
        ---------
        mel_chunks : iterable of torch.Tensor
            Log-mels ``[80, t]``, or ``[B, 80, t]`` of several utterances of one length; any number
            of frames each. They are taken as they are needed.
        sigma, generator, denoise
            As for :meth:`decode_batch`.
        overlap_frames : int
            Frames that the flows see to either side of a chunk; None: as many as their layers
            reach, which is exact. Fewer are faster, give the audio earlier, and change the waveform
            near the edges of the chunks (benchmarks/streaming.py measures how much).
        chunk_frames : int
            Frames that are computed at once. They come as soon as they, and the frames that are
            seen behind them, are known. More at once are less work in total; None: 10 s.
        refine : int
            As for :meth:`decode_batch`. A block comes ``refine * n_fft`` samples later, and as much
            to either side of it is computed again: iterations of short chunks take long.

        Returns
        -------
        iterator of torch.Tensor
            ``[n]`` or ``[B, n]``; frames * hop samples together.

        Raises
        ------
        UserError
            If an option is out of range. From the iterator, if there are no frames, or a chunk is
            of another shape than the ones before, or holds NaN; what came before stays valid.
        """
        options = sigma, generator, denoise, overlap_frames, chunk_frames, refine
        return self._stream_mels(mel_chunks, self._chunk, *options)

    def _stream_mels(
        self, mel_chunks, check, sigma, generator, denoise, overlap_frames, chunk_frames, refine
    ):
        chunks = Chunks("mel_chunks", mel_chunks, (self.mods.features.n_mels,), check)
        conditioner = self.mods.model.conditioner
        conditions = condition_blocks(
            conditioner, chunks, conditioner.receptive_field, context=self.inference_ctx
        )
        blocks = self._stream(
            conditions,
            sigma,
            generator,
            refine,
            overlap_frames=overlap_frames,
            chunk_frames=chunk_frames,
            after_flows=self._after_flows(denoise),
        )
        return chunks.without_batch(blocks)

    def _chunk(self, name, mel):
        mel = as_log_mels(name, mel, self.device)
        if mel.numel():
            refuse_other_kinds(name, mel, self.mods.features)
        return mel

    def stream_file(
        self,
        path,
        sigma=None,
        generator=None,
        denoise=0.0,
        overlap_frames=None,
        chunk_frames=None,
        refine=None,
    ):
        """Copy synthesis of an audio file of any length, block by block, in the memory of some
        seconds: its log-mel, and from that a waveform.

        Arguments
        ---------
        path : str or Path
            The audio file, at any rate, mono or not.
        sigma, generator, denoise, overlap_frames, chunk_frames, refine
            As for :meth:`stream`.

        Returns
        -------
        iterator of torch.Tensor
            ``[n]`` at the model's rate; together as long as the recording.

        Raises
        ------
        UserError
            If the file is missing, damaged, too short, or holds NaN, or an option is out of range.
        """
        blocks, samples = self._read_blocks(path)
        mels = log_mel_blocks(self.mods.features, blocks)
        options = sigma, generator, denoise, overlap_frames, chunk_frames, refine
        return cropped(self._stream_mels(mels, lambda _, mel: mel, *options), samples)

    def decode_spectrogram(self, spectrogram, sigma=None, generator=None, denoise=0.0, refine=None):
        """One log-mel ``[80, T]`` to a waveform ``[1, T * hop]``; see :meth:`decode_batch`."""
        spectrogram = as_numbers("spectrogram", spectrogram)
        if spectrogram.dim() != 2:
            raise UserError(
                f"spectrogram: expected one log-mel [{self.mods.features.n_mels}, frames], "
                f"got {list(spectrogram.shape)}"
            )
        options = {"sigma": sigma, "generator": generator, "denoise": denoise, "refine": refine}
        return self.decode_batch(spectrogram[None], **options)[0]

    @torch.no_grad()
    def encode_batch(self, wavs, wav_lens=None):
        """Waveforms to the log-mels that this model decodes.

        Arguments
        ---------
        wavs : torch.Tensor
            ``[B, N]`` at the model's rate.
        wav_lens : torch.Tensor
            Relative lengths in (0, 1], or samples of each item, ``[B]``; None: nothing is padded.

        Returns
        -------
        mel : torch.Tensor
            ``[B, 80, 1 + N // hop]``.
        mel_lens : torch.Tensor
            Frames of each item, ``[B]``.
        """
        return batch_log_mels(self.mods.features, *self._wav_batch(wavs, wav_lens))

    def encode_file(self, path):
        """The log-mel ``[80, T]`` of an audio file at any rate and of any length."""
        blocks, _ = self._read_blocks(path)
        return torch.cat(list(log_mel_blocks(self.mods.features, blocks)), dim=-1)

    def forward(
        self, spectrogram, mel_lens=None, sigma=None, generator=None, denoise=0.0, refine=None
    ):
        """The same as :meth:`decode_batch`."""
        options = {"sigma": sigma, "generator": generator, "denoise": denoise, "refine": refine}
        return self.decode_batch(spectrogram, mel_lens, **options)
