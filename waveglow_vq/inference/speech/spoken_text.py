"""Texts in codes: written by a text-to-codes model, read by a codec."""

import logging
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.coding import (
    new_code_file,
    pitch_count,
    pitch_format,
    resample_nearest,
)
from waveglow_vq.inference.conversion.voices import known_voice
from waveglow_vq.lobes.conditioners.speaker_condition import UNKNOWN
from waveglow_vq.text.normalization import unspoken_signs
from waveglow_vq.text.signs import named
from waveglow_vq.utils.files import user_path
from waveglow_vq.utils.masking import shares

import torch

logger = logging.getLogger(__name__)


class SpokenSentence(NamedTuple):
    """A sentence in codes.

    Arguments
    ---------
    text : str
        As it is spoken.
    pieces : list of str
        Its S tokens; ``▁`` stands for a space.
    codes : torch.Tensor
        int64 ``[T]``.
    pitch : torch.Tensor
        Level of pitch beside each code, int64 ``[T]``; None for codecs without pitch.
    attention : torch.Tensor
        ``[T, S]``: which tokens each code was chosen from.
    stopped : bool
        Whether it ended by itself, not by the bound on its length.
    """

    text: str
    pieces: list
    codes: torch.Tensor
    pitch: torch.Tensor | None
    attention: torch.Tensor
    stopped: bool


class SpokenText(NamedTuple):
    """A text in codes: its ``sentences``, each a :class:`SpokenSentence`, and with the names of
    that one's fields all of them together, one after the other.

    Example
    -------
    >>> one = SpokenSentence("a.", ["a", "."], torch.tensor([3]), None, torch.ones(1, 2), True)
    >>> spoken = SpokenText([one, one])
    >>> spoken.text, spoken.codes.tolist(), spoken.stopped
    ('a. a.', [3, 3], True)
    >>> spoken.attention.tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    """

    sentences: list

    @property
    def text(self):
        """As it is spoken."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def pieces(self):
        """The tokens of all sentences."""
        return [piece for sentence in self.sentences for piece in sentence.pieces]

    @property
    def codes(self):
        """int64 ``[T]``."""
        return torch.cat([sentence.codes for sentence in self.sentences])

    @property
    def pitch(self):
        """int64 ``[T]``, or None."""
        if self.sentences[0].pitch is None:
            return None
        return torch.cat([sentence.pitch for sentence in self.sentences])

    @property
    def attention(self):
        """``[T, S]``; from one sentence to another there is none."""
        return torch.block_diag(*[sentence.attention for sentence in self.sentences])

    @property
    def stopped(self):
        """Whether all sentences ended by themselves."""
        return all(sentence.stopped for sentence in self.sentences)


@torch.no_grad()
def write_sentences(model, tokenizer, sentences, speaker=None, search=None, generator=None):
    """Writes the codes of sentences, each its text as it is spoken and its tokens: SpokenSentences
    on the CPU.

    The model is in evaluation mode, and the tokenizer the one that it was trained with. Speakers,
    their numbers, int64 ``[B]``, or None, and all else are as for the model's ``generate``.
    """
    device = next(model.parameters()).device
    counts = torch.tensor([len(tokens) for _, tokens in sentences], device=device)
    tokens = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(tokens) for _, tokens in sentences], batch_first=True
    )
    lengths = shares(counts, tokens.shape[1])
    generated = model.generate(tokens.to(device), lengths, speaker, search, generator)
    spoken = []
    for item, (text, tokens) in enumerate(sentences):
        length = int(generated.counts[item])
        spoken.append(
            SpokenSentence(
                text,
                tokenizer.pieces(tokens),
                generated.codes[item, :length].cpu(),
                None if generated.pitch is None else generated.pitch[item, :length].cpu(),
                generated.attention[item, :length, : len(tokens)].float().cpu(),
                bool(generated.stopped[item]),
            )
        )
    return spoken


def spoken_code_file(codec, codes, pitch=None, speaker=None):
    """Codes that were written, not heard, as a CodeFile for the ``decode_stream`` of their codec:
    of as many samples as belong to the codes, of log-mels less one.

    There is at least one, int64 ``[T]``, and the level of pitch beside each, for codecs that have
    pitch. ``speaker`` is the label of who speaks, for codecs with speakers; None: one that the
    codec does not know.
    """
    model = codec.mods.model
    samples = model.conditioner.sample_count(len(codes))
    # Several codes of a waveform may share a frame of the features, which must be whole.
    missing = model.conditioner.code_count(samples) - len(codes)
    codes = torch.cat([codes, codes[-1:].expand(missing)])
    voice = None
    if model.speakers is not None:
        number = UNKNOWN if speaker is None else codec.speakers.index(speaker)
        with torch.no_grad():
            voice = known_voice(model, torch.tensor([number], device=codec.device))
    if model.uses_pitch:
        steps = pitch_format(codec)[1], model.conditioner.samples_per_code
        pitch = resample_nearest(pitch, pitch_count(codec, samples), *steps)
    return new_code_file(codec, codes, samples, pitch, voice)


def warn_of_unspoken(texts):
    """Warns in one line of the log of signs in the texts that have no words."""
    signs = list(dict.fromkeys(sign for text in texts for sign in unspoken_signs(text)))
    if signs:
        more = f" and {len(signs) - 10} others" if len(signs) > 10 else ""
        names = ", ".join(map(named, signs[:10])) + more
        logger.warning("left out of what is spoken, since there are no words for it: %s", names)


def read_text_file(path):
    """The text of a file in UTF-8; a UserError says that it is missing, or not such text."""
    try:
        # Some editors mark UTF-8 at the beginning.
        return user_path(path).read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8; save it in this encoding") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
