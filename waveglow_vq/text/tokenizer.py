"""Turns normalized text into tokens: a sentencepiece model over characters or byte pairs."""

import logging
import re
import tempfile
import textwrap
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.text.normalization import normalize_text
from waveglow_vq.text.signs import named
from waveglow_vq.utils.files import atomic_write, user_path
from waveglow_vq.utils.validation import require_choice, require_integer

import sentencepiece
from speechbrain.tokenizers.SentencePiece import SentencePiece

KINDS = ("char", "bpe")
# Sentencepiece silently skips lines of more than 4192 bytes in training.
_LONGEST_LINE = 1000
# What replaces a mark that the training texts lack: the first of these that they have, or nothing.
_SIMILAR_MARKS = {
    "!": ".?;:,",
    "?": ".!;:,",
    ".": ";!?:,",
    ";": ".:,",
    ":": ";.,",
    ",": ";:.",
    "-": " ",
    "'": "",
}


def train_tokenizer(texts, path, kind="char", vocabulary_size=500):
    """Trains a tokenizer on texts and writes it as one file.

    Arguments
    ---------
    texts : iterable of str
        As written; they are normalized here.
    path : str or Path
        The file to write, usually `tokenizer.model`; it appears complete or not at all.
    kind : str
        "char": one token for each character that occurs. "bpe": byte-pair encoding, where frequent
        groups of up to ten characters within words become tokens.
    vocabulary_size : int
        Number of tokens for "bpe", with the unknown token. For "char" the texts decide.

    Returns
    -------
    TextTokenizer

    Raises
    ------
    UserError
        If there is no text, the kind is unknown, or the texts do not allow this number of tokens.

    Example
    -------
    >>> path = getfixture("tmp_path") / "tokenizer.model"
    >>> tokenizer = train_tokenizer(["A cat sat on 2 mats.", "Who saw it?"], path)
    >>> tokenizer.vocabulary_size, tokenizer.kind
    (14, 'char')
    >>> tokenizer.pieces(tokenizer.encode("Sit!"))
    ['▁', 's', 'i', 't', '.']
    """
    require_choice("tokenizer", kind, KINDS)
    require_integer("vocabulary_size", vocabulary_size, least=2)
    lines = [
        line
        for text in texts
        for line in textwrap.wrap(
            normalize_text(text), _LONGEST_LINE, break_on_hyphens=False, expand_tabs=False
        )
    ]
    if not lines:
        raise UserError(f"there is no text to train the tokenizer {path} on")
    if kind == "char":
        # The wrapper warns if this is not what comes out: characters, space and unknown.
        vocabulary_size = len(set("".join(lines)) - {" "}) + 2
    path = user_path(path)
    with atomic_write(path) as part:
        part.write_bytes(_train(lines, kind, vocabulary_size, path))
    return TextTokenizer(path)


def _train(lines, kind, size, path):
    """The bytes of a trained sentencepiece model."""
    with tempfile.TemporaryDirectory(prefix="tokenizer_") as folder:
        # Sentencepiece takes its options as one string, and its inputs separated by commas.
        if re.search(r"[\s,]", folder):
            raise UserError(
                f"the folder for temporary files {folder!r} has a space or a comma in its name,"
                " which sentencepiece cannot read; set TMPDIR to another folder"
            )
        text_file = Path(folder, "texts.txt")
        text_file.write_text("\n".join(lines) + "\n", "utf-8")
        sentencepiece.set_min_log_level(2)  # else it logs its whole training on stderr
        wrapper_log = logging.getLogger(SentencePiece.__module__)
        level = wrapper_log.level
        wrapper_log.setLevel(logging.WARNING)
        try:
            SentencePiece(folder, size, model_type=kind, text_file=text_file)
        except (RuntimeError, OSError) as error:
            raise UserError(_training_error(str(error), kind, size, path)) from error
        finally:
            wrapper_log.setLevel(level)
        return Path(folder, f"{size}_{kind}.model").read_bytes()


def _training_error(message, kind, size, path):
    """An error of sentencepiece as a sentence about the option."""
    if found := re.search(r"too high .*<= (\d+)", message):
        return (
            f"vocabulary_size is {size}, but the texts allow at most {found[1]} tokens; "
            "lower it, or choose the kind 'char'"
        )
    if found := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return (
            f"vocabulary_size is {size}, but the characters of the texts need at least {found[1]}"
            " tokens; raise it"
        )
    return f"the tokenizer {path} cannot be trained: {' '.join(message.split())}"


class TextTokenizer:
    """Text to tokens and back, with a model of :func:`train_tokenizer`.

    Arguments
    ---------
    path : str or Path
        The model, or None to :meth:`load` it later.

    Example
    -------
    >>> path = getfixture("tmp_path") / "tokenizer.model"
    >>> _ = train_tokenizer(["She has 3 cats, he has none."], path)
    >>> tokenizer = TextTokenizer(path)
    >>> tokenizer.decode(tokenizer.encode("3 hens"))
    'three hens'
    >>> tokenizer.encode("Shy")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: the tokenizer was trained on texts without 'y': spell it
    differently or leave it out
    """

    def __init__(self, path=None):
        self._processor = None
        if path is not None:
            self.load(path)

    def load(self, path):
        """Reads a model from a file and returns the tokenizer itself.

        Raises
        ------
        UserError
            If the file is missing, damaged, or not of :func:`train_tokenizer`.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise UserError(
                f"the tokenizer {path} cannot be read: {error.strerror or error}"
            ) from None
        processor = sentencepiece.SentencePieceProcessor()
        sentencepiece.set_min_log_level(2)
        try:
            processor.LoadFromSerializedProto(data)
        except (RuntimeError, ValueError):
            raise UserError(
                f"{path} is damaged or not a sentencepiece model; train or export it again"
            ) from None
        if processor.get_piece_size() < 2 or processor.unk_id() != 0 or processor.bos_id() >= 0:
            raise UserError(
                f"{path} is a tokenizer of another program: token 0 must be the unknown one, and no"
                " token may mark the beginning of a text; train one with train_tokenizer"
            )
        self._processor = processor
        return self

    @property
    def processor(self):
        """The sentencepiece model."""
        if self._processor is None:
            raise UserError("the tokenizer has no model yet; load or train one")
        return self._processor

    @property
    def vocabulary_size(self):
        """Number of tokens; 0 is the unknown one, which :meth:`encode` never gives."""
        return self.processor.get_piece_size()

    @property
    def kind(self):
        """ "char" if no token is longer than one character, else "bpe"."""
        pieces = self.pieces(range(1, self.vocabulary_size))
        return "char" if all(len(piece) == 1 for piece in pieces) else "bpe"

    def encode(self, text, normalized=False):
        """Text to tokens.

        Marks (such as ``;``) that the training texts lack are replaced by a similar one that they
        have, or left out.

        Arguments
        ---------
        text : str
            As written.
        normalized : bool
            Whether `normalize_text` has been applied already.

        Returns
        -------
        list of int
            From 1 to ``vocabulary_size - 1``; at least one.

        Raises
        ------
        UserError
            If there is nothing to say, or symbols are unknown; all of them are named.
        """
        spoken = text if normalized else normalize_text(text)
        if not any(character.isalnum() for character in spoken):
            raise UserError(f"there is nothing to say in the text {_shorten(text)!r}")
        processor = self.processor
        unknown = [c for c in dict.fromkeys(spoken) if c != " " and processor.piece_to_id(c) == 0]
        if unknown:
            letters = [c for c in unknown if c not in _SIMILAR_MARKS]
            if letters:
                raise UserError(_unknown(letters))
            spoken = self._with_known_marks(spoken, unknown)
        return processor.encode_as_ids(spoken)

    def _with_known_marks(self, spoken, unknown):
        for mark in unknown:
            known = (m for m in _SIMILAR_MARKS[mark] if m == " " or self.processor.piece_to_id(m))
            spoken = spoken.replace(mark, next(known, ""))
        return " ".join(spoken.split())

    def pieces(self, ids):
        """The piece of text of each token, with ``▁`` for a space as in sentencepiece."""
        return [self.processor.id_to_piece(token) for token in self._check(ids)]

    def decode(self, ids):
        """Tokens to normalized text."""
        return self.processor.decode_ids(self._check(ids))

    def _check(self, ids):
        ids = [int(token) for token in ids]
        size = self.vocabulary_size
        for token in ids:
            if not 0 <= token < size:
                raise UserError(f"{token} is not a token: they go from 0 to {size - 1}")
        return ids


def _shorten(text):
    return text if len(text) <= 40 else text[:37] + "..."


def _unknown(symbols):
    names = ", ".join(map(named, symbols[:20]))
    names += " and others" if len(symbols) > 20 else ""
    them = "it" if len(symbols) == 1 else "them"
    return (
        f"the tokenizer was trained on texts without {names}: spell {them} differently or leave"
        f" {them} out"
    )
