"""A codec in the interface of audiocodecs (github.com/lucadellalib/audiocodecs), whose recipes
compare the codecs of speech that SpeechBrain's users use."""

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.coding import load_codec, pitch_format, resample_nearest
from waveglow_vq.inference.conversion.analysis import recording_code_file
from waveglow_vq.inference.conversion.voices import speaker_numbers
from waveglow_vq.inference.conversion.whole_utterances import utterance_inputs
from waveglow_vq.inference.speech.spoken_text import spoken_code_file
from waveglow_vq.lobes.conditioners.pitch_condition import pitch_from_values, pitch_values

import torch
from torch.nn.utils.rnn import pad_sequence

try:
    from audiocodecs.codec import Codec
except ImportError as error:
    _MISSING = str(error)

    class Codec:
        """Stands where audiocodecs is not installed."""

        def __init__(self, *args, **kwargs):
            raise UserError(
                "the comparison of codecs needs audiocodecs: pip install "
                f"git+https://github.com/lucadellalib/audiocodecs ({_MISSING})"
            )


# The distance of rows that are no tokens to all others, in the tables of `embs`.
FAR = 1e6


class WaveGlowVQCodec(Codec):
    """An export with codes, a SpeechCodec or VoiceConverter, as a codec of audiocodecs.

    Its tokens are ``[B, N, K]``, one row for each code. The first ``num_codebooks - 1`` or, without
    pitch, all of the K columns are the indices of the codebooks. Where the model has pitch beside
    the codes, the last column is its level at the middle of the code: 0 where unvoiced, else 1 to
    the number of levels, relative to the mean and deviation of the recording's log-F0, which are
    not coded: the pitch is that of ``speaker``. A value that holds for several codes is repeated,
    so the column costs more than the model's own rate says.

    Behind the end of an item, by its relative length, its last token is repeated: all of them are
    tokens that tables and metrics know. Waveforms are zero there.

    Features ``[B, N, H]`` are the encoder's vectors, and quantized ones those of the codes, with
    two numbers behind them where there is pitch: normalized log-F0, 0 where unvoiced, and voicing.
    From features, codes are chosen anew.

    Arguments
    ---------
    sample_rate : int
        Rate of the waveforms that are given and returned; they are resampled.
    source : str or Path
        The export folder.
    mode : str
        ``encode``, ``decode`` or ``reconstruct``: what calling it does.
    speaker : str
        Label of who speaks, for models with speakers; None: the model's unknown speaker.
    sigma : float
        Standard deviation of the noise; None: the export's.
    seed : int
        Seed of the noise; None: torch's global source.
    refine : int
        Mel-consistent iterations; None: the export's.
    """

    def __init__(
        self,
        sample_rate,
        source,
        mode="reconstruct",
        speaker=None,
        sigma=None,
        seed=0,
        refine=None,
    ):
        codec = load_codec(source)
        super().__init__(sample_rate, codec.sample_rate, mode)
        self.codec = codec
        self.speaker = speaker
        self.options = {"sigma": sigma, "generator": seed, "refine": refine}
        if speaker is not None:
            speaker_numbers(codec.speakers, speaker, 1, type(codec).__name__)
            self.options["speaker"] = speaker
        quantizer = codec.mods.model.quantizer
        self._levels, _ = pitch_format(codec)
        self._code_columns = getattr(quantizer, "codebooks", 1)
        self.num_codebooks = self._code_columns + bool(self._levels)
        self.vocab_size = max(quantizer.codebook_size, self._levels + 1 if self._levels else 0)
        self.embedding_dim = quantizer.codebook_dim + (2 if self._levels else 0)

    @property
    def _model(self):
        return self.codec.mods.model

    # ---- what audiocodecs asks for

    @torch.no_grad()
    def embs(self):
        """Vectors of the tokens, ``[K, C, H]``, by whose distances audiocodecs replaces tokens.

        H is the width of a codebook; a level of pitch is its number of standard deviations and its
        voicing, and zeros. Rows that are no tokens are far from all others.
        """
        books = self._model.quantizer.codebook.detach()
        books = list(books if books.dim() == 3 else books[None])
        if self._levels:
            values = torch.arange(self._levels + 1, device=books[0].device)[None]
            pitch = pitch_from_values(values, 1, self._levels, values.shape[1])[0]
            books.append(pitch.to(books[0]))
        size = self.vocab_size, max(book.shape[1] for book in books)
        tables = books[0].new_zeros(len(books), *size)
        for table, book in zip(tables, books, strict=True):
            table[: len(book), : book.shape[1]] = book
            table[len(book) :] = FAR
        return tables

    @torch.no_grad()
    def _sig_to_toks(self, sig, length):
        counts = self._samples(sig, length)
        if self._model.speakers is None:
            tokens = self.codec.encode_batch(sig, counts)
            tokens = tokens if tokens.dim() == 3 else tokens[..., None]
            rows = tokens[..., 0].ge(0).sum(1)
        else:
            items = [
                self._item_tokens(wav[:count])
                for wav, count in zip(sig, counts.tolist(), strict=True)
            ]
            tokens = pad_sequence(items, batch_first=True)
            rows = torch.tensor([len(item) for item in items])
        return _hold_last(tokens.to(sig.device), rows.to(sig.device))

    @torch.no_grad()
    def _toks_to_sig(self, toks, length):
        if toks.dim() != 3 or toks.shape[-1] != self.num_codebooks:
            raise UserError(
                f"toks: expected [batch, time, {self.num_codebooks}], got {list(toks.shape)}"
            )
        # The length is a share of the samples. Rounded up, no code is missing; one may be too much.
        rows = (length * toks.shape[1] - 1e-3).ceil().clamp(1, toks.shape[1]).tolist()
        wavs = [self._item_wav(item[: int(count)]) for item, count in zip(toks, rows, strict=True)]
        return pad_sequence(wavs, batch_first=True).to(toks.device)

    @torch.no_grad()
    def _sig_to_feats(self, sig, length):
        counts = self._samples(sig, length)
        wavs, counts = self.codec._wav_batch(sig, counts)
        with self.codec.inference_ctx:
            inputs, _ = utterance_inputs(self._model, self.codec.mods.features, wavs, counts)
            vectors = self._model.conditioner.encoder(inputs.features, inputs.lengths)
        if self._levels:
            vectors = self._with_pitch(vectors, self._sig_to_toks(sig, length))
        return vectors

    def _sig_to_qfeats(self, sig, length):
        return self._toks_to_qfeats(self._sig_to_toks(sig, length), length)

    @torch.no_grad()
    def _toks_to_qfeats(self, toks, length):
        codes, _ = self._split(toks)
        vectors = self._model.quantizer.decode(codes)
        return self._with_pitch(vectors, toks) if self._levels else vectors

    @torch.no_grad()
    def _feats_to_sig(self, feats, length):
        dim = self._model.quantizer.codebook_dim
        toks = self._model.quantizer.encode(feats[..., :dim])
        toks = toks if toks.dim() == 3 else toks[..., None]
        if self._levels:
            pitch = feats[..., dim:]
            pitch = torch.stack([pitch[..., 0], (pitch[..., 1] >= 0.5).to(pitch)], dim=-1)
            levels = pitch_values(pitch, 1, self._levels)
            toks = torch.cat([toks, levels[..., None]], dim=-1)
        return self._toks_to_sig(toks, length)

    # ---- the parts

    def _samples(self, sig, length):
        """Samples of each item, ``[B]``."""
        return (length * sig.shape[-1]).round().long().clamp(1, sig.shape[-1])

    def _split(self, toks):
        """Indices as the quantizer has them, and the level of pitch at each or None."""
        codes = toks[..., : self._code_columns]
        if self._code_columns == 1:
            codes = codes[..., 0]
        return codes, toks[..., -1] if self._levels else None

    def _with_pitch(self, vectors, toks):
        pitch = pitch_from_values(toks[..., -1], 1, self._levels, toks.shape[1])
        return torch.cat([vectors, pitch.to(vectors)], dim=-1)

    def _item_tokens(self, wav):
        """Tokens ``[N, K]`` of one recording by a model with speakers."""
        code_file = recording_code_file(self.codec, lambda: [wav])
        codes = code_file.codes
        columns = [codes if codes.dim() == 2 else codes[:, None]]
        if self._levels:
            rates = self._model.conditioner.samples_per_code, code_file.samples_per_pitch
            columns.append(resample_nearest(code_file.pitch, len(codes), *rates)[:, None])
        return torch.cat(columns, dim=1)

    def _item_wav(self, toks):
        codes, pitch = self._split(toks.cpu())
        code_file = spoken_code_file(self.codec, codes, pitch, self.speaker)
        return torch.cat(list(self.codec.decode_stream(code_file, **self.options)))


def _hold_last(tokens, rows):
    """Tokens ``[B, N, K]``, ``rows`` ``[B]`` of each, with the last one repeated behind them."""
    index = torch.arange(tokens.shape[1], device=tokens.device)
    index = torch.minimum(index, rows[:, None] - 1)[..., None]
    return tokens.gather(1, index.expand_as(tokens))
