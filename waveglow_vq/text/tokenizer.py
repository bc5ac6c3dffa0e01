"""Text as numbers: a sentencepiece model over normalized text, by characters or by byte pairs.

Authors
 * The waveglow-vq developers, 2026
"""

import logging
import re
import tempfile
import textwrap
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.text.normalization import normalize_text
from waveglow_vq.text.signs import named
from waveglow_vq.utils.files import user_path, written_whole

import sentencepiece
from speechbrain.tokenizers.SentencePiece import SentencePiece

KINDS = ("char", "bpe")
# Sentencepiece leaves lines of more than 4192 bytes out of its training without a word.
_LONGEST_LINE = 1000
# What stands in for a mark that the training texts never had: the most similar one, else nothing.
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
        As they are written: they are normalized here.
    path : str or Path
        The file to write, usually `tokenizer.model`; it appears complete or not at all.
    kind : str
        "char": one token for each character that occurs. "bpe": byte-pair encoding, where frequent
        groups of up to ten characters within words become tokens of their own.
    vocabulary_size : int
        Number of tokens for "bpe", the unknown one included. For "char" the texts decide.

    Returns
    -------
    TextTokenizer
        The trained tokenizer.

    Raises
    ------
    UserError
        If there is no text, the kind is unknown, or the texts do not allow for so many or so few
        tokens.

    Example
    -------
    >>> path = getfixture("tmp_path") / "tokenizer.model"
    >>> tokenizer = train_tokenizer(["A cat sat on 2 mats.", "Who saw it?"], path)
    >>> tokenizer.vocabulary_size, tokenizer.kind
    (14, 'char')
    >>> tokenizer.pieces(tokenizer.encode("Sit!"))
    ['▁', 's', 'i', 't', '.']
    """
    if kind not in KINDS:
        raise UserError(f"the tokenizer's kind is {kind!r}, but has to be one of {KINDS}")
    size = _checked_size(vocabulary_size)
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
        size = len(set("".join(lines)) - {" "}) + 2
    path = user_path(path)
    with written_whole(path) as part:
        part.write_bytes(_train(lines, kind, size, path))
    return TextTokenizer(path)


def _checked_size(size):
    if isinstance(size, bool) or not isinstance(size, int) or size < 2:
        raise UserError(f"vocabulary_size is {size!r}, but has to be a whole number of at least 2")
    return size


def _train(lines, kind, size, path):
    """The bytes of a trained sentencepiece model."""
    with tempfile.TemporaryDirectory(prefix="tokenizer_") as folder:
        # Sentencepiece takes its options as one string, and its inputs as a list with commas.
        if re.search(r"[\s,]", folder):
            raise UserError(
                f"the folder for temporary files {folder!r} has a space or a comma in its name,"
                " which sentencepiece cannot read; set TMPDIR to another one"
            )
        text_file = Path(folder, "texts.txt")
        text_file.write_text("\n".join(lines) + "\n", "utf-8")
        sentencepiece.set_min_log_level(2)  # else it tells its whole training on stderr
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
    """What sentencepiece complains of, as a sentence about the option."""
    if found := re.search(r"too high .*<= (\d+)", message):
        return (
            f"vocabulary_size is {size}, but the texts allow for at most {found[1]} tokens; "
            "lower it, or take kind=char"
        )
    if found := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return (
            f"vocabulary_size is {size}, but the texts have so many characters that at least"
            f" {found[1]} tokens are needed"
        )
    return f"the tokenizer {path} cannot be trained: {' '.join(message.split())}"


class TextTokenizer:
    """Text to tokens and back, with a model that :func:`train_tokenizer` has written.

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
    waveglow_vq.errors.UserError: 'y' was in none of the texts that the tokenizer was trained on,
    so it cannot be said; write it in other letters or leave it out
    """

    def __init__(self, path=None):
        self._processor = None
        if path is not None:
            self.load(path)

    def load(self, path):
        """Reads a model from a file.

        Arguments
        ---------
        path : str or Path
            The file.

        Returns
        -------
        TextTokenizer
            Itself.

        Raises
        ------
        UserError
            If the file is missing, damaged, or no such model.
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
                f"{path} is a tokenizer of another program: token 0 has to be the unknown one, and"
                " there may be none for the beginning of a text; train one with train_tokenizer"
            )
        self._processor = processor
        return self

    @property
    def processor(self):
        """The model of sentencepiece."""
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

        Marks (such as ``;``) that were in none of the training texts are replaced by the most
        similar one that was, or left out.

        Arguments
        ---------
        text : str
            As it is written.
        normalized : bool
            That it has gone through `normalize_text` already.

        Returns
        -------
        list of int
            From 1 to ``vocabulary_size - 1``; at least one.

        Raises
        ------
        UserError
            If there is nothing to say, or a symbol is unknown; all unknown ones are named.
        """
        spoken = text if normalized else normalize_text(text)
        if not any(character.isalnum() for character in spoken):
            raise UserError(f"there is nothing to say in the text {_shortened(text)!r}")
        processor = self.processor
        unknown = [c for c in dict.fromkeys(spoken) if c != " " and processor.piece_to_id(c) == 0]
        if unknown:
            letters = [c for c in unknown if c not in _SIMILAR_MARKS]
            if letters:
                raise UserError(_unknown_sentence(letters))
            spoken = self._with_known_marks(spoken, unknown)
        return processor.encode_as_ids(spoken)

    def _with_known_marks(self, spoken, unknown):
        for mark in unknown:
            known = (m for m in _SIMILAR_MARKS[mark] if m == " " or self.processor.piece_to_id(m))
            spoken = spoken.replace(mark, next(known, ""))
        return " ".join(spoken.split())

    def pieces(self, ids):
        """Tokens as pieces of text, ``▁`` for a space, as sentencepiece writes them.

        Arguments
        ---------
        ids : iterable of int
            Tokens.

        Returns
        -------
        list of str
        """
        return [self.processor.id_to_piece(token) for token in self._checked(ids)]

    def decode(self, ids):
        """Tokens to normalized text.

        Arguments
        ---------
        ids : iterable of int
            Tokens.

        Returns
        -------
        str
        """
        return self.processor.decode_ids(self._checked(ids))

    def _checked(self, ids):
        ids = [int(token) for token in ids]
        size = self.vocabulary_size
        for token in ids:
            if not 0 <= token < size:
                raise UserError(f"{token} is no token; they go from 0 to {size - 1}")
        return ids


def _shortened(text):
    return text if len(text) <= 40 else text[:37] + "..."


def _unknown_sentence(unknown):
    names = ", ".join(map(named, unknown[:20]))
    names += " and others" if len(unknown) > 20 else ""
    were, they = ("was", "it") if len(unknown) == 1 else ("were", "they")
    return (
        f"{names} {were} in none of the texts that the tokenizer was trained on, so {they} cannot"
        f" be said; write {they if they == 'it' else 'them'} in other letters or leave"
        f" {they if they == 'it' else 'them'} out"
    )
