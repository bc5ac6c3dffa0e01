"""Codec: waveforms to discrete codes and back."""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.coding import check_code_file, code_blocks, new_code_file
from waveglow_vq.inference.conversion.whole_utterances import utterance_content
from waveglow_vq.inference.exported_model import ExportedModel
from waveglow_vq.inference.inputs import as_code_batch, as_codes
from waveglow_vq.inference.streaming.chunks import Chunks
from waveglow_vq.inference.streaming.waveform import condition_blocks
from waveglow_vq.utils.masking import fill_padding
from waveglow_vq.utils.windows import cropped

import torch


class SpeechCodec(ExportedModel):
    """A trained encoder, quantizer and WaveGlow: speech to codes and codes to speech.

    Noise comes from ``generator``: a seed, a ``torch.Generator``, or None for torch's global
    source. An item's codes, and with a seed its waveform, are those it would have alone. Long
    recordings and codes are processed in windows, so that memory does not grow with their length
    beyond what is given and returned; :meth:`stream` and :meth:`stream_file` do not hold that
    either. A model with instance normalization, whose statistics are of the whole utterance, keeps
    log-mels and the encoder's layers of all of it while it codes.

    Arguments
    ---------
    *args, **kwargs
        As for ``speechbrain.inference.interfaces.Pretrained``; ``from_hparams`` gives them.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> features = LogMel()
    >>> conditioner = MelVQConditioner(features, SoftEMQuantizer(32, 16), stride=2, channels=16)
    >>> flows = WaveGlow(features, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    >>> model = WaveGlowVQ(conditioner, flows)
    >>> codec = SpeechCodec(modules={"model": model, "features": features}, hparams={})
    >>> codec.code_rate, codec.bits_per_second
    (43.06640625, 215.33203125)
    >>> codes = codec.encode_batch(torch.randn(2, 5120) * 0.1, torch.tensor([1.0, 0.5]))
    >>> codes.shape, codes[1, 6:].tolist()
    (torch.Size([2, 11]), [-1, -1, -1, -1, -1])
    >>> codec.decode_batch(codes, generator=0).shape
    torch.Size([2, 1, 5632])
    """

    def check_model(self):
        """A codec has a quantizer."""
        if self.mods.model.quantizer is None:
            raise UserError(
                "the model has no codes: load it with waveglow_vq.inference.WaveGlowVocoder, "
                "not with SpeechCodec."
            )

    @property
    def codebook_size(self):
        """Number of codes K; codes are 0 ... K - 1."""
        return self.mods.model.quantizer.codebook_size

    @property
    def codebooks(self):
        """Codebooks N of which each code has an index: codes are ``[..., T]`` of one, and
        ``[..., T, N]`` of several."""
        return self.mods.model.conditioner.codebooks

    @property
    def samples_per_code(self):
        """Samples of waveform for each code."""
        return self.mods.model.conditioner.samples_per_code

    @property
    def code_rate(self):
        """Codes per second."""
        return self.sample_rate / self.samples_per_code

    @property
    def bits_per_second(self):
        """Bit rate if every index costs log2(codebook_size) bits."""
        return self.code_rate * self.codebooks * math.log2(self.codebook_size)

    @torch.no_grad()
    def encode_batch(self, wavs, wav_lens=None):
        """Waveforms to codes.

        Arguments
        ---------
        wavs : torch.Tensor
            ``[B, N]`` at the model's rate.
        wav_lens : torch.Tensor
            Relative lengths in (0, 1], or samples of each item, ``[B]``; None: nothing is padded.

        Returns
        -------
        torch.Tensor
            int64 ``[B, T]``, or ``[B, T, N]`` of several codebooks, -1 where padded. Enough codes
            that decoding covers every sample.

        Raises
        ------
        UserError
            If the waveforms are of another shape, too short, or hold NaN.
        """
        wavs, counts = self._wav_batch(wavs, wav_lens)
        if self._is_long(wavs.shape[1] / self.mods.features.hop_length):
            items = [
                torch.cat(list(self._code_blocks([wav[:count]])), dim=1)[0]
                for wav, count in zip(wavs, counts.tolist(), strict=True)
            ]
            return torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=-1)
        with self.inference_ctx:
            return utterance_content(self.mods.model, self.mods.features, wavs, counts).codes

    def encode_file(self, path):
        """The codes, int64 ``[T]`` or ``[T, N]``, of an audio file at any rate, mono or not, of any
        length, which is read and coded in windows. With instance normalization, whose statistics
        are of the whole utterance, its log-mel and the encoder's layers are held as a whole."""
        return torch.cat(list(self._code_blocks(self._read_blocks(path)[0])), dim=1)[0]

    def _code_blocks(self, wavs):
        """The codes of a waveform in blocks ``[n]``, block by block ``[1, t, ...]``."""
        model, features = self.mods.model, self.mods.features
        return code_blocks(model.conditioner, features, wavs, self.inference_ctx)

    def to_code_file(self, path):
        """Encodes an audio file at any rate, mono or not, of any length.

        Arguments
        ---------
        path : str or Path
            The audio file.

        Returns
        -------
        CodeFile
            The codes and what else decoding needs, for
            :func:`~waveglow_vq.inference.codes.code_file.write_code_file`.

        Raises
        ------
        UserError
            If the file is missing, damaged, too short, or holds NaN.
        """
        wavs, samples = self._read_blocks(path)
        codes = torch.cat(list(self._code_blocks(wavs)), dim=1)[0]
        return new_code_file(self, codes, samples)

    def decode_stream(
        self,
        code_file,
        sigma=None,
        generator=None,
        overlap_frames=None,
        chunk_frames=None,
        refine=None,
    ):
        """Decodes a recording block by block, to what :meth:`stream_file` gives.

        Arguments
        ---------
        code_file : CodeFile
            From :meth:`to_code_file`, or
            :func:`~waveglow_vq.inference.codes.code_file.read_code_file`.
        sigma, generator, overlap_frames, chunk_frames, refine
            As for :meth:`stream`.

        Returns
        -------
        iterator of torch.Tensor
            ``[n]`` at the model's rate; ``code_file.samples`` together.

        Raises
        ------
        UserError
            If the codes are another model's, or an option is out of range.
        """
        check_code_file(self, code_file)
        options = sigma, generator, overlap_frames, chunk_frames, refine
        return cropped(self.stream([code_file.codes], *options), code_file.samples)

    @torch.no_grad()
    def decode_batch(self, codes, sigma=None, generator=None, refine=None):
        """Codes to waveforms.

        Arguments
        ---------
        codes : torch.Tensor
            int64 ``[B, T]`` or ``[B, T, N]``, -1 where padded; padding is at the end only.
        sigma : float
            Standard deviation of the noise, the sampling temperature; None: the export's.
        generator : int or torch.Generator
            A seed or a source of noise.
        refine : int
            Iterations that bring the log-mels of the waveforms to those predicted from the codes
            (see :func:`~waveglow_vq.lobes.mel_consistency.mel_consistent`), 0 for the flows alone;
            None: the export's. Items of one or two frames are too short for them and stay as they
            are.

        Returns
        -------
        torch.Tensor
            ``[B, 1, T * samples_per_code]``, zero where padded.

        Raises
        ------
        UserError
            If the codes are of another shape, empty, or not of this codebook.
        """
        codes, counts = as_code_batch(codes, self.codebook_size, self.device, self.codebooks)
        total = codes.shape[1] * self.samples_per_code
        if self._is_long(total / self.mods.features.hop_length):
            samples = (counts * self.samples_per_code).tolist()

            def stream(item, generator):
                own = codes[item : item + 1, : int(counts[item])]
                return self.stream([own], sigma, generator, chunk_frames=None, refine=refine)

            return self._stream_items(stream, samples, total, generator)
        codes, whole = self._whole_frames(codes, counts)
        with self.inference_ctx:
            condition = self.mods.model.conditioner.decode(codes)
            frames = whole * (condition.local.shape[-1] // codes.shape[1])
            waveforms = self._sample(condition, frames, sigma, generator, refine)
        return fill_padding(waveforms[..., :total], counts * self.samples_per_code, 0.0)

    def stream(
        self,
        code_chunks,
        sigma=None,
        generator=None,
        overlap_frames=None,
        chunk_frames=64,
        refine=None,
    ):
        """Codes that come in chunks to waveforms, block by block, in memory that does not depend on
        their length.

        Together, the blocks equal what :meth:`decode_batch` gives for the whole, with a seed of the
        noise, and for one item with a ``torch.Generator`` of the CPU too.

        Arguments
        ---------
        code_chunks : iterable of torch.Tensor
            int64 codes ``[t]``, or ``[B, t]`` of several utterances of one length, and ``N`` behind
            that; any number of codes each, without padding. They are taken as they are needed.
        sigma, generator
            As for :meth:`decode_batch`.
        overlap_frames, chunk_frames, refine : int
            As for :meth:`WaveGlowVocoder.stream
            <waveglow_vq.inference.vocoder.WaveGlowVocoder.stream>`: in frames of the features.

        Returns
        -------
        iterator of torch.Tensor
            ``[n]`` or ``[B, n]``; codes * :attr:`samples_per_code` samples together.

        Raises
        ------
        UserError
            If an option is out of range. From the iterator, if there are no codes, or a chunk is of
            another shape than the ones before, or holds what is no code of this model; what came
            before stays valid.
        """
        behind = (self.codebooks,) if self.codebooks > 1 else ()
        chunks = Chunks("code_chunks", code_chunks, (), self._chunk, behind)
        conditioner = self.mods.model.conditioner
        conditions = condition_blocks(
            lambda codes: conditioner.decode(codes.movedim(-1, 1)),
            self._fill_last_frame(chunks),
            conditioner.receptive_field,
            self._codes_per_frame,
            self.inference_ctx,
        )
        blocks = self._stream(
            conditions,
            sigma,
            generator,
            refine,
            overlap_frames=overlap_frames,
            chunk_frames=chunk_frames,
        )
        return chunks.without_batch(self._crop(chunks, blocks))

    def _chunk(self, name, codes):
        codes = as_codes(name, codes, self.codebook_size, self.device)
        if bool((codes < 0).any()):
            raise UserError(f"{name} holds padding (-1), which has no place in a stream")
        return codes

    def _fill_last_frame(self, chunks):
        """Repeats the last code until the last frame is whole, see :meth:`_whole_frames`."""
        last = None
        for codes in chunks:
            if codes.shape[-1]:
                last = codes[..., -1:]
            yield codes
        yield last.expand(*last.shape[:-1], -chunks.steps % self._codes_per_frame)

    def _crop(self, chunks, blocks):
        """The blocks without what was filled up."""
        done = 0
        for block in blocks:
            # What was filled up is in the last block, before which all codes are counted.
            block = block[:, : chunks.steps * self.samples_per_code - done]
            done += block.shape[1]
            yield block

    def stream_file(
        self, path, sigma=None, generator=None, overlap_frames=None, chunk_frames=None, refine=None
    ):
        """Codes and decodes an audio file of any length, in the memory of some seconds, block by
        block; see the class for instance normalization.

        Arguments
        ---------
        path : str or Path
            The audio file, at any rate, mono or not.
        sigma, generator, overlap_frames, chunk_frames, refine
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
        wavs, samples = self._read_blocks(path)
        codes = (block[0] for block in self._code_blocks(wavs))
        options = sigma, generator, overlap_frames, chunk_frames, refine
        return cropped(self.stream(codes, *options), samples)

    def forward(self, wavs, wav_lens=None, sigma=None, generator=None, refine=None):
        """Waveforms ``[B, N]`` to codes and back to waveforms ``[B, 1, N]``."""
        codes = self.encode_batch(wavs, wav_lens)
        wavs, counts = self._wav_batch(wavs, wav_lens)
        decoded = self.decode_batch(codes, sigma, generator, refine)[..., : wavs.shape[1]]
        return fill_padding(decoded, counts, 0.0)

    @property
    def _codes_per_frame(self):
        """Codes that share a frame of the features."""
        return self.mods.model.conditioner.code_unit

    def _whole_frames(self, codes, counts):
        """Repeats the last code of items that end within a frame of the features, as the
        prediction of a log-mel from several codes needs all of them."""
        per_frame = self._codes_per_frame
        whole = (counts + per_frame - 1) // per_frame * per_frame
        index = torch.arange(int(whole.max()), device=codes.device).expand(len(codes), -1)
        rows = torch.arange(len(codes), device=codes.device)[:, None]
        filled = codes[rows, torch.minimum(index, counts[:, None] - 1)]
        filled[index >= whole[:, None]] = -1
        return filled, whole
