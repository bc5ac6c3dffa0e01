"""Normalizes English text to what is spoken, and splits long text into sentences."""

import re
import unicodedata

from waveglow_vq.text.abbreviations import expand_abbreviations, point_ends_sentence
from waveglow_vq.text.addresses import expand_addresses
from waveglow_vq.text.dates import expand_dates
from waveglow_vq.text.formulas import expand_formulas
from waveglow_vq.text.money import CURRENCY_SIGNS, expand_money
from waveglow_vq.text.numbers import expand_numbers
from waveglow_vq.text.signs import is_mark, pictures, plain_letters, plain_signs, strip_quoting
from waveglow_vq.text.units import expand_capital_units
from waveglow_vq.utils.validation import require_integer

# LJSpeech's longest texts have little more: models are not trained on longer ones.
MAX_CHARACTERS = 180
# The strongest first: of several marks in a row, it stays. The last one is a dash.
MARKS = "?!.;:,—"
_SIGNS = {
    **{"&": "and", "%": "percent", "+": "plus", "=": "equals", "@": "at", "#": "hash"},
    **{"§": "section", "°": "degrees", **CURRENCY_SIGNS},
}
_SIGN = re.compile(f"[{''.join(_SIGNS)}]")
# Words that begin with an apostrophe.
_ELIDED = "tis|twas|twere|twill|em|til|cause|bout|round|neath|gainst|n"


def normalize_text(text):
    """English text as it is spoken, in the symbols that a text model learns.

    Numbers, dates, times of day, money, units, formulas, versions, addresses, abbreviations,
    acronyms and signs become words, as in American English. Accents are dropped; brackets become
    commas; of several marks in a row the strongest stays; pictures and signs without words are left
    out (see `unspoken_signs`). Normalized text stays as it is.

    Arguments
    ---------
    text : str
        Any text.

    Returns
    -------
    str
        Lower-case letters, apostrophes within words and at their ends, single spaces, the marks
        ``, . ? ! ; :``, and ``-``: within words, and as a dash between spaces. Letters of other
        alphabets stay, so that a tokenizer can name them. Empty if nothing of the text is spoken.

    Example
    -------
    >>> normalize_text("Mr. O’Neil (aged 42) paid £3.50 for 1/2 of it in 1897 — why?!")
    "mister o'neil, aged forty-two, paid three pounds, fifty pence for one half of it in eighteen
    ninety-seven - why?"
    >>> normalize_text("The BBC’s café opens at 9:05 a.m., No. 12 St. James's St.")
    "the b b c's cafe opens at nine oh five a m, number twelve saint james's street."
    >>> normalize_text("On 2031-02-03 Dr.Wu paid 12.50 EUR for 3GB (x² ≥ 5).")
    'on february three, twenty thirty-one doctor wu paid twelve euros, fifty cents for three
    gigabytes, x squared greater than or equal to five.'
    """
    # One round may leave an abbreviation for the next: "(Smith Jr)." becomes "smith jr." For all
    # texts tried, two rounds and one that changes nothing were enough.
    for _ in range(10):
        spoken, text = text, _normalize(text)
        if spoken == text:
            break
    return text


def _normalize(text):
    return _tidy(plain_letters(_in_words(text)))


def _in_words(text):
    """A text with words for digits and signs; signs that have none are still there."""
    text = expand_addresses(expand_formulas(plain_signs(strip_quoting(text))))
    text = re.sub(r"\b([CF])#(?!\w)", r"\1 sharp", re.sub(r"#(?=\d)", " number ", text))
    text = expand_capital_units(expand_money(expand_dates(text)))
    text = expand_numbers(expand_abbreviations(text))
    return _SIGN.sub(lambda found: f" {_SIGNS[found[0]]} ", text)


def _tidy(text):
    """Spoken symbols only, and never two marks in a row."""
    # "The word(s)"; and a bracket at the end of the text needs no pause.
    text = re.sub(r"(?<=\w)[(\[](\w+)[)\]]", r"\1", text)
    text = re.sub(r"[()\[\]{}]", ",", text.rstrip(")]} "))
    text = "".join(character if _is_spoken(character) else " " for character in text)
    # Times as LJSpeech's normalized texts have them: "twelve:thirty".
    text = re.sub(r"(?<=[^\W\d_]):(?=[^\W\d_])", " ", text)
    # An apostrophe belongs to a word, or is a quotation mark.
    text = re.sub(rf"(?<![^\W\d_])'(?!(?:{_ELIDED})\b)|(?<!s)(?<!in)'(?![^\W\d_])", "", text)
    text = re.sub(r"(?<![^\W\d_])-(?=\w)|(?<=\w)-(?!\w)|(?<!\w)-(?!\w)", " ", text)
    text = " ".join(text.split())
    text = re.sub(rf" ?[{MARKS}][ {MARKS}]*", _strongest_mark, text)
    return text.lstrip(f" -{MARKS}").rstrip(" -")


def _is_spoken(character):
    if character.isascii():
        return character.isalpha() or character in "',.?!;:- "
    return character == "—" or unicodedata.category(character)[0] in "LM"


def unspoken_signs(text):
    """The pictures and signs of a text that `normalize_text` leaves out because they have no words:
    each once, in order.

    Example
    -------
    >>> unspoken_signs("I | we > ∮ (5 > 3, 5 €): fine.")
    ['|', '>', '∮']
    """
    if not _MAY_BE_UNSPOKEN.search(text):
        return []
    found, before = pictures(text), " "
    for character in _in_words(text):
        category = unicodedata.category(character)
        unread = category[0] in "SCN" and category != "Cf" and not character.isspace()
        if unread or (is_mark(character) and not (before.isalpha() or is_mark(before))):
            found.append(character)
        before = character
    return list(dict.fromkeys(found))


_MAY_BE_UNSPOKEN = re.compile(r"[^\x20-;=?-\]_a-{}\s]")


def _strongest_mark(found):
    mark = next(mark for mark in MARKS if mark in found[0])
    return " - " if mark == "—" else f"{mark} "


def split_sentences(text, max_characters=MAX_CHARACTERS):
    """Cuts long text into pieces of at most ``max_characters`` that can be spoken one by one.

    Cuts are between sentences and paragraphs. A sentence that is too long is cut after commas and
    the like, else at spaces, into pieces of similar length; longer words are cut. Pieces without a
    letter or digit are joined to a neighbour. It is better done before `normalize_text` than after,
    since capitals show where sentences begin.

    The pieces are in order and stripped. Joined by spaces they are the text with single spaces,
    except where a word was cut. If max_characters is not a positive whole number, that is a
    UserError.

    Example
    -------
    >>> split_sentences('Mr. J. Neild paid Rose & Co. in 1812. "Why?" he asked. Nobody knew.')
    ['Mr. J. Neild paid Rose & Co. in 1812.', '"Why?" he asked.', 'Nobody knew.']
    >>> split_sentences("He came, he saw, and after a while he left again.", 35)
    ['He came, he saw,', 'and after a while he left again.']
    """
    require_integer("max_characters", max_characters, least=1)
    sentences = []
    for paragraph in re.split(r"\n\s*\n|\u2029", re.sub(r"\r\n?", "\n", text)):
        sentences += _sentences(" ".join(strip_quoting(paragraph).split()))
    pieces = []
    for sentence in _with_words(sentences):
        pieces += _cut(sentence, max_characters)
    return _with_words(pieces)


# Marks that may end a sentence, with closing quotes and brackets; East Asian ones need no space.
_END = re.compile(r"(?:[.?!…]+[\"'”’)\]]*\s+|[。！？]+[”’」』）]*\s*)")
_CLAUSE = re.compile(r"[,;:—–]\s+|\s[-–—]+\s+|(?<=[)\]])\s+")


def _sentences(text):
    """A paragraph in sentences."""
    cased = text != text.lower()
    sentences, start = [], 0
    for found in _END.finditer(text):
        if _is_end(text, found, cased):
            sentences.append(text[start : found.end()].strip())
            start = found.end()
    return [*sentences, text[start:]] if start < len(text) else sentences


def _is_end(text, found, cased):
    if found[0][0] in "。！？":
        return True
    begin = _OPENING.match(text, found.end()).end()
    if cased and text[begin : begin + 1].islower():
        # "Why?" he asked; a pause ... and on.
        return False
    return found[0].strip("\"'”’)] ") != "." or point_ends_sentence(text, found.start())


_OPENING = re.compile(r"[\"'“‘(\[]*")


def _with_words(pieces):
    """Pieces without a letter or digit joined to the one before, or else to the one after."""
    joined = []
    for piece in pieces:
        if joined and not (_has_words(piece) and _has_words(joined[-1])):
            joined[-1] += f" {piece}"
        else:
            joined.append(piece)
    return joined


def _has_words(piece):
    return any(map(str.isalnum, piece))


def _cut(sentence, longest):
    """A sentence in pieces of similar length, none longer than ``longest`` characters."""
    pieces = []
    while len(sentence) > longest:
        aim = len(sentence) / -(-len(sentence) // longest)
        window = sentence[: longest + 1]
        places = [found.end() for found in _CLAUSE.finditer(window) if found.end() > longest / 4]
        # Else between words, but not after the point of an abbreviation.
        places = places or [found.end() for found in re.finditer(r"(?<!\.)\s", window)]
        places = places or [found.end() for found in re.finditer(r"\s", window)] or [longest]
        place = min(places, key=lambda place: abs(place - aim))
        pieces.append(sentence[:place].strip())
        sentence = sentence[place:].strip()
    return [*pieces, sentence] if sentence else pieces
