"""Text to speech with an exported model: text to codes, and codes to speech by their codec."""

import logging

from waveglow_vq.audio.io import WavWriter
from waveglow_vq.errors import UserError
from waveglow_vq.inference.base import ExportedInterface
from waveglow_vq.inference.inputs import as_generator, as_number
from waveglow_vq.inference.speech.parts import (
    change_search,
    check_speech_parts,
    find_voice,
    read_speech_parts,
    voices_of,
)
from waveglow_vq.inference.speech.spoken_text import (
    SpokenText,
    read_text_file,
    spoken_code_file,
    warn_of_unspoken,
    write_sentences,
)
from waveglow_vq.lobes.text_to_codes.search import SearchOptions
from waveglow_vq.text.normalization import MARKS, MAX_CHARACTERS, split_sentences
from waveglow_vq.utils.files import user_path

import torch
from speechbrain.utils.fetching import FetchSource

logger = logging.getLogger(__name__)

# Seconds of silence between sentences, beside what the model itself puts at their ends.
PAUSE = 0.25
# Sentences of a batch of texts whose codes are written at once.
SENTENCES_AT_ONCE = 16


class TextToSpeech(ExportedInterface):
    """A text-to-codes model, its tokenizer, and the codec whose codes it writes.

    A text is spoken sentence by sentence (very long ones in parts), with a pause between them, so
    that memory does not grow with its length and the first sentence is heard early. The log warns
    of signs without words, such as emoji, which are left out, and of sentences that did not end by
    themselves and were cut off at the greatest length of such a text.

    Random numbers come from ``generator``: a seed, a ``torch.Generator``, or None for torch's
    global source. A seed gives every sentence the speech that it has alone.

    Arguments
    ---------
    *args, **kwargs
        As for ``speechbrain.inference.interfaces.Pretrained``, whose ``modules`` are ``model``
        (:class:`~waveglow_vq.lobes.text_to_codes.model.TextToCodes`); ``from_hparams`` gives them.
    tokenizer : TextTokenizer
        That the model was trained with.
    codec : SpeechCodec or VoiceConverter
        Whose codes the model writes.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.text.tokenizer import train_tokenizer
    >>> from waveglow_vq.inference.codec import SpeechCodec
    >>> from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer
    >>> from waveglow_vq.lobes.text_to_codes.model import TextToCodes
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> features = LogMel()
    >>> conditioner = MelVQConditioner(features, SoftEMQuantizer(32, 16), stride=2, channels=16)
    >>> flows = WaveGlow(features, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    >>> modules = {"model": WaveGlowVQ(conditioner, flows), "features": features}
    >>> codec = SpeechCodec(modules=modules, hparams={})
    >>> path = getfixture("tmp_path") / "tokenizer.model"
    >>> tokenizer = train_tokenizer(["No sound, or two."], path)
    >>> size = tokenizer.vocabulary_size
    >>> model = TextToCodes(size, 32, channels=16, heads=2, encoder_layers=1, decoder_layers=1)
    >>> model.fit_statistics([(20, torch.arange(30), None)])
    >>> tts = TextToSpeech(
    ...     modules={"model": model}, hparams={}, tokenizer=tokenizer, codec=codec
    ... )
    >>> spoken = tts.encode_text("No sound.", generator=0)
    >>> spoken.text, len(spoken.codes) == len(spoken.attention), spoken.attention.shape[1]
    ('no sound.', True, 10)
    >>> wav = tts.synthesize("No sound.", generator=0)
    >>> wav.shape[0], wav.shape[1] == 512 * len(spoken.codes) - 1
    (1, True)
    """

    def __init__(self, *args, tokenizer=None, codec=None, **kwargs):
        super().__init__(*args, **kwargs)
        if tokenizer is None or codec is None:
            raise UserError("tokenizer, codec: TextToSpeech needs both beside its model")
        self.tokenizer, self.codec = tokenizer, codec
        check_speech_parts(self.mods.model, tokenizer, codec, super().speakers)

    @classmethod
    def from_hparams(cls, source, **kwargs):
        """Loads an export folder as the other interfaces do, from this machine only; weights,
        tokenizer and codec must be those that training exported together."""
        if isinstance(source, FetchSource):
            raise UserError("source: text to speech is loaded from a folder; download it first")
        return super().from_hparams(source, **kwargs)

    @classmethod
    def read_parts(cls, folder, header, run_opts):
        """The tokenizer and the codec of an export."""
        return read_speech_parts(folder, header, run_opts)

    @property
    def sample_rate(self):
        """Rate of the waveforms in Hz."""
        return self.codec.sample_rate

    @property
    def sampling_sigma(self):
        """Standard deviation of the codec's noise, unless a call says otherwise."""
        return self.codec.sampling_sigma

    @property
    def refine(self):
        """Number of the codec's mel-consistent iterations, unless a call says otherwise."""
        return self.codec.refine

    @property
    def code_rate(self):
        """Codes per second."""
        return self.sample_rate / self.codec.mods.model.conditioner.samples_per_code

    @property
    def speakers(self):
        """Labels of the voices; empty for a single one."""
        return voices_of(super().speakers, self.codec)

    @property
    def max_characters(self):
        """The longest text that is spoken at once."""
        return getattr(self.hparams, "max_characters", None) or MAX_CHARACTERS

    @property
    def search(self):
        """How codes are chosen, unless a call says otherwise."""
        return getattr(self.hparams, "search", None) or SearchOptions()

    def prepare_inference(self, dtype="fp32", compile=False, cuda_graphs="auto"):
        """Chooses the precision of the codec's flows; arguments as for the codec."""
        self.codec.prepare_inference(dtype, compile, cuda_graphs)
        return self

    def sentences(self, text):
        """A text as it is spoken.

        Arguments
        ---------
        text : str
            As people write it.

        Returns
        -------
        list of tuple
            Sentence by sentence, or part of a long one: the text as it is spoken, and its tokens.

        Raises
        ------
        UserError
            If there is nothing to say, or a symbol is unknown to the tokenizer.
        """
        if not isinstance(text, str):
            raise UserError(f"text: expected a string, got {type(text).__name__}")
        sentences = []
        for sentence in split_sentences(text, self.max_characters) or [text]:
            tokens = self.tokenizer.encode(sentence)
            spoken = self.tokenizer.decode(tokens)
            if spoken[-1] not in MARKS and (mark := getattr(self.hparams, "closing_mark", None)):
                # Without the mark that it knows from training, the model misses the end.
                tokens = self.tokenizer.encode(spoken + mark, normalized=True)
                spoken = self.tokenizer.decode(tokens)
            sentences.append((spoken, tokens))
        return sentences

    def synthesize(
        self, text, speaker=None, generator=None, sigma=None, search=None, pause=PAUSE, refine=None
    ):
        """Speaks a text.

        Arguments
        ---------
        text : str
            Of any length, as people write it.
        speaker : str
            Who is to speak, one of :attr:`speakers`; None where there is one voice.
        generator : int or torch.Generator
            A seed or a source of random numbers; None: torch's global one.
        sigma : float
            Standard deviation of the codec's noise; None: the codec's own.
        search : SearchOptions or dict
            How codes are chosen, or what is to differ from the export's :attr:`search`.
        pause : float
            Seconds of silence between sentences.
        refine : int
            The codec's iterations towards its predicted log-mel; None: its own number.

        Returns
        -------
        torch.Tensor
            ``[1, N]`` at :attr:`sample_rate`.

        Raises
        ------
        UserError
            If there is nothing to say, a symbol is unknown to the tokenizer, the speaker is missing
            or unknown, or an option is out of range.
        """
        options = speaker, generator, sigma, search, pause, refine
        return torch.cat(list(self.stream(text, *options)))[None]

    def stream(
        self, text, speaker=None, generator=None, sigma=None, search=None, pause=PAUSE, refine=None
    ):
        """Speaks a text sentence by sentence.

        Arguments
        ---------
        text, speaker, generator, sigma, search, pause, refine
            As for :meth:`synthesize`. All are checked at once, the whole text too.

        Returns
        -------
        iterator of torch.Tensor
            ``[n]``, a sentence and the pause behind it; together, what :meth:`synthesize` gives.
        """
        generator = as_generator(generator)
        number, label = self.voice_of(speaker)
        sentences, spoken = self._speak(text, number, generator, search)
        return self._decode(spoken, len(sentences), label, sigma, generator, pause, refine)

    def synthesize_batch(
        self, texts, speakers=None, generator=None, sigma=None, search=None, pause=PAUSE,
        refine=None,
    ):  # fmt: skip
        """Speaks several texts.

        Arguments
        ---------
        texts : list of str
            B of them.
        speakers : str or list of str
            Who is to speak, or one for each text.
        generator, sigma, search, pause, refine
            As for :meth:`synthesize`.

        Returns
        -------
        waveforms : torch.Tensor
            ``[B, 1, N]``, zero where padded.
        samples : torch.Tensor
            int64 ``[B]``, how long each is.
        """
        generator, search = as_generator(generator), change_search(self.search, search)
        if isinstance(texts, str) or not len(texts):
            raise UserError("texts: expected a list of at least one text")
        several = isinstance(speakers, (list, tuple))
        if several and len(speakers) != len(texts):
            raise UserError(f"speakers: {len(speakers)} labels for {len(texts)} texts")
        voices = [self.voice_of(one) for one in (speakers if several else [speakers] * len(texts))]
        sentences = [self.sentences(text) for text in texts]
        warn_of_unspoken(texts)
        flat = [(own, voices[item][0]) for item, text in enumerate(sentences) for own in text]
        spoken = []
        for begin in range(0, len(flat), SENTENCES_AT_ONCE):
            group = zip(*flat[begin : begin + SENTENCES_AT_ONCE], strict=True)
            spoken += self._write(*group, search, generator)
        spoken = iter(spoken)
        options = sigma, generator, pause, refine
        wavs = [
            torch.cat(list(self._decode(spoken, len(own), label, *options)))
            for own, (_, label) in zip(sentences, voices, strict=True)
        ]
        padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        return padded[:, None], torch.tensor([len(wav) for wav in wavs])

    def synthesize_file(
        self, text_path, output_path, speaker=None, generator=None, sigma=None, search=None,
        pause=PAUSE, refine=None,
    ):  # fmt: skip
        """Speaks a text file of any length into one audio file, in the memory of a sentence.

        Arguments
        ---------
        text_path : str or Path
            The text, in UTF-8.
        output_path : str or Path
            Where to write (16-bit, at :attr:`sample_rate`). An error leaves what was there.
        speaker, generator, sigma, search, pause, refine
            As for :meth:`synthesize`.

        Returns
        -------
        Path
            ``output_path``.
        """
        text = read_text_file(text_path)
        try:
            self.sentences(text)
        except UserError as error:
            raise UserError(f"{text_path}: {error}") from None
        blocks = self.stream(text, speaker, generator, sigma, search, pause, refine)
        with WavWriter(output_path, self.sample_rate) as writer:
            for block in blocks:
                writer.write(block)
        return user_path(output_path)

    def encode_text(self, text, speaker=None, generator=None, search=None):
        """Text to codes, and how they belong to it.

        Arguments
        ---------
        text, speaker, generator, search
            As for :meth:`synthesize`.

        Returns
        -------
        SpokenText
            For :meth:`decode_text`, which together with this gives what :meth:`synthesize` gives,
            if ``generator`` is a seed.
        """
        generator, (number, _) = as_generator(generator), self.voice_of(speaker)
        _, spoken = self._speak(text, number, generator, search)
        return SpokenText(list(spoken))

    def _speak(self, text, number, generator, search):
        """The sentences of a text, and an iterator of them in codes; checks the options at once."""
        sentences, search = self.sentences(text), change_search(self.search, search)
        warn_of_unspoken([text])
        return sentences, (self._write([s], [number], search, generator)[0] for s in sentences)

    def decode_text(
        self, spoken, speaker=None, generator=None, sigma=None, pause=PAUSE, refine=None
    ):
        """Codes of a text to speech.

        Arguments
        ---------
        spoken : SpokenText
            From :meth:`encode_text`.
        speaker, generator, sigma, pause, refine
            As for :meth:`synthesize`; the speaker must be the same again.

        Returns
        -------
        torch.Tensor
            ``[1, N]``.
        """
        _, label = self.voice_of(speaker)
        call = label, sigma, as_generator(generator), pause, refine
        blocks = self._decode(iter(spoken.sentences), len(spoken.sentences), *call)
        return torch.cat(list(blocks))[None]

    def voice_of(self, speaker=None):
        """Number and label of who speaks; see
        :func:`~waveglow_vq.inference.speech.parts.find_voice`."""
        return find_voice(speaker, super().speakers, self.codec)

    def _write(self, sentences, numbers, search, generator):
        """Sentences of speakers by number as codes, written at once."""
        speaker = None if numbers[0] is None else torch.tensor(numbers, device=self.device)
        with self.inference_ctx:
            spoken = write_sentences(
                self.mods.model, self.tokenizer, sentences, speaker, search, generator
            )
        for sentence in spoken:
            if not sentence.stopped:
                logger.warning(
                    "the sentence %r did not end by itself and was cut off after %.1f s, the most "
                    "that such a text takes; say it in other words, or change the seed or the "
                    "search",
                    sentence.text,
                    len(sentence.codes) / self.code_rate,
                )
        return spoken

    def _decode(self, spoken, count, label, sigma, generator, pause, refine):
        """The speech of the next ``count`` sentences of an iterator, each ``[n]`` with its pause;
        checks the options at once."""
        sigma, refine = self._sigma(sigma), self.codec.iterations(refine)
        silence = round(as_number("pause", pause) * self.sample_rate)
        options = {"sigma": sigma, "generator": generator, "refine": refine}
        if label is not None:
            options["speaker"] = label

        def decode():
            for number in range(count):
                sentence = next(spoken)
                code_file = spoken_code_file(self.codec, sentence.codes, sentence.pitch, label)
                blocks = list(self.codec.decode_stream(code_file, **options))
                is_last = number == count - 1
                yield torch.cat([*blocks, blocks[0].new_zeros(0 if is_last else silence)])

        return decode()
