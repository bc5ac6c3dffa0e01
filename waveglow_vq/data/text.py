"""Written English as it is spoken, and long text in sentences.

Authors
 * The waveglow-vq developers, 2026
"""

import re
import unicodedata

from waveglow_vq.data.abbreviations import expand_abbreviations, point_ends_sentence
from waveglow_vq.data.written_numbers import expand_numbers
from waveglow_vq.errors import UserError

# LJSpeech's longest texts have somewhat more than 180 characters: models hear nothing longer.
MAX_CHARACTERS = 180
# The strongest first: of several marks in a row, it stays. The last stands for a dash.
MARKS = "?!.;:,—"
# What compatibility forms of Unicode (NFKC) lack, or would take the meaning from.
_BEFORE_FOLDING = {
    **dict.fromkeys("™®©℠\u00ad", ""),
    **dict.fromkeys("‘’‚‛ʼ′´`", "'"),
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("‐‑−", "-"),
    **dict.fromkeys("—―⸺", " — "),
    **dict.fromkeys("¿¡", " "),
    "²": " squared",
    "³": " cubed",
    "º": "°",
    "№": "No. ",
    "、": ", ",
    "。": ". ",
    "×": " times ",
    "÷": " divided by ",
    "±": " plus or minus ",
}
# Latin letters that are no base letter with an accent.
_LETTERS = {
    **{"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"},
    **{"ħ": "h", "ı": "i", "ŋ": "ng", "ŧ": "t", "ə": "e"},
}
_SYMBOLS = {
    **{"&": "and", "%": "percent", "+": "plus", "=": "equals", "@": "at", "#": "hash"},
    **{"$": "dollars", "£": "pounds", "€": "euros", "§": "section", "°": "degrees"},
}
# Words that begin with an apostrophe.
_ELIDED = "tis|twas|twere|twill|em|til|cause|bout|round|neath|gainst|n"


def normalize_text(text):
    """English text as it is spoken, in the symbols that a text model learns.

    Numbers, dates, times of day, money, units, abbreviations, acronyms and signs become words, as
    an American reads them. Accents fall away; brackets become commas; of several marks in a row the
    strongest stays. What has been normalised stays as it is.

    Arguments
    ---------
    text : str
        Any text.

    Returns
    -------
    str
        Lower case letters, apostrophes within words and at their ends, single spaces, the marks
        ``, . ? ! ; :``, and ``-``: within words, and as a dash between spaces. Letters that are no
        Latin ones stay, so that a tokenizer can name them. Empty if nothing of the text is spoken.

    Example
    -------
    >>> normalize_text("Mr. O’Neil (aged 42) paid £3.50 for 1/2 of it in 1897 — why?!")
    "mister o'neil, aged forty-two, paid three pounds, fifty pence for one half of it in eighteen
    ninety-seven - why?"
    >>> normalize_text("The BBC’s café opens at 9:05 a.m., No. 12 St. James's St.")
    "the b b c's cafe opens at nine oh five a m, number twelve saint james's street."
    """
    # What one round leaves may be an abbreviation for the next: "(Smith Jr)." is "smith jr." Two
    # rounds and one to see that nothing changes were enough for all texts tried.
    for _ in range(10):
        spoken, text = text, _normalize(text)
        if spoken == text:
            break
    return text


def _normalize(text):
    text = _in_plain_signs(text)
    text = re.sub(
        r"(?i)(?<![\w.@-])(?:[\w-]+[.@])*[\w-]+\.(?:com|org|net|edu|gov|info|co\.uk|ac\.uk)\b",
        lambda found: found[0].replace(".", " dot "),
        text,
    )
    text = re.sub(r"#(?=\d)", "number ", text)
    text = expand_numbers(expand_abbreviations(text))
    text = re.sub(r"[&%+=@#$£€§°]", lambda found: f" {_SYMBOLS[found[0]]} ", text)
    return _tidy(_in_plain_letters(text))


def _in_plain_signs(text):
    """Quotation marks, dashes, digits and spaces as ASCII has them."""
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    # Between numbers a dash is a range.
    text = re.sub(r"(?<=\d) ?[–‒] ?(?=[$£€]?\d)", "-", text)
    text = re.sub(r"[–‒]", " — ", text)
    text = text.translate(str.maketrans(_BEFORE_FOLDING))
    text = unicodedata.normalize("NFKC", text).translate({0x2044: "/", 0x2215: "/"})
    text = "".join(_plain_sign(character) for character in text)
    text = re.sub(r"-{2,}|(?<=\s)-(?=\s)", " — ", text)
    # Some texts of VCTK have spaces around apostrophes, or no apostrophe.
    text = re.sub(r"(?i)(?<=[a-z])(?: '|' | ' )(?=(?:t|s|re|ve|ll|d|m)\b)", "'", text)
    text = re.sub(r"(?i)\b(it|that|what|there|he|she) (?=s\b)", r"\1'", text)
    return " ".join(text.split())


def _plain_sign(character):
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    return "" if category == "Cf" else character


def _in_plain_letters(text):
    """Lower case without accents, where a Latin letter is below them."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", text.lower()).translate(str.maketrans(_LETTERS))
    letters = ""
    for character in folded:
        if not unicodedata.combining(character) or (letters and not letters[-1].isascii()):
            letters += character
    return unicodedata.normalize("NFC", letters).lower()


def _tidy(text):
    """Spoken symbols only, and each mark but once."""
    # "The word(s)", and a bracket that ends the text needs no pause.
    text = re.sub(r"(?<=\w)[(\[](\w+)[)\]]", r"\1", text)
    text = re.sub(r"[()\[\]{}]", ",", text.rstrip(")]} "))
    text = "".join(character if _is_spoken(character) else " " for character in text)
    # Times as LJSpeech's normalised texts have them: "twelve:thirty".
    text = re.sub(r"(?<=[^\W\d_]):(?=[^\W\d_])", " ", text)
    # An apostrophe is of a word, or a quotation mark.
    text = re.sub(rf"(?<![^\W\d_])'(?!(?:{_ELIDED})\b)|(?<!s)(?<!in)'(?![^\W\d_])", "", text)
    text = re.sub(r"(?<![^\W\d_])-(?=\w)|(?<=\w)-(?!\w)|(?<!\w)-(?!\w)", " ", text)
    text = " ".join(text.split())
    text = re.sub(rf" ?[{MARKS}][ {MARKS}]*", _strongest_mark, text)
    return text.lstrip(f" -{MARKS}").rstrip(" -")


def _is_spoken(character):
    if character.isascii():
        return character.isalpha() or character in "',.?!;:- "
    return character == "—" or unicodedata.category(character)[0] in "LM"


def _strongest_mark(found):
    mark = next(mark for mark in MARKS if mark in found[0])
    return " - " if mark == "—" else f"{mark} "


def split_sentences(text, max_characters=MAX_CHARACTERS):
    """Cuts long text, as it is written, into pieces that can be spoken one by one.

    Cuts are between sentences and paragraphs. A sentence that is too long is cut after commas and
    the like, else at spaces, into pieces of similar length. Pieces without a letter or digit go
    with their neighbour.

    Arguments
    ---------
    text : str
        Before or after `normalize_text`; before is better, since capitals tell where sentences
        begin.
    max_characters : int
        The longest piece. Words that are longer are cut within.

    Returns
    -------
    list of str
        In order, without white space around them; joined by spaces they are the text, with all
        white space as single spaces (but where a word was cut within). Empty for empty text.

    Raises
    ------
    UserError
        If max_characters is not positive.

    Example
    -------
    >>> split_sentences('Mr. J. Neild paid Rose & Co. in 1812. "Why?" he asked. Nobody knew.')
    ['Mr. J. Neild paid Rose & Co. in 1812.', '"Why?" he asked.', 'Nobody knew.']
    >>> split_sentences("He came, he saw, and after a while he left again.", 35)
    ['He came, he saw,', 'and after a while he left again.']
    """
    if not max_characters >= 1:
        raise UserError(f"max_characters is {max_characters}, but has to be at least 1")
    sentences = []
    for paragraph in re.split(r"\n\s*\n", text):
        sentences += _sentences(" ".join(paragraph.split()))
    pieces = []
    for sentence in _with_words(sentences):
        pieces += _cut(sentence, max_characters)
    return _with_words(pieces)


# Marks that may end a sentence, with what closes after them; East Asian ones need no space.
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
    """A sentence in pieces of similar length, none longer than so many characters."""
    pieces = []
    while len(sentence) > longest:
        aim = len(sentence) / -(-len(sentence) // longest)
        window = sentence[: longest + 1]
        places = [found.end() for found in _CLAUSE.finditer(window) if found.end() > longest / 4]
        # Else between words, but not behind the point of an abbreviation.
        places = places or [found.end() for found in re.finditer(r"(?<!\.)\s", window)]
        places = places or [found.end() for found in re.finditer(r"\s", window)] or [longest]
        place = min(places, key=lambda place: abs(place - aim))
        pieces.append(sentence[:place].strip())
        sentence = sentence[place:].strip()
    return [*pieces, sentence] if sentence else pieces
