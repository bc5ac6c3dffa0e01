"""Folds Unicode into the letters, digits and marks of ASCII, and finds pictures."""

import re
import unicodedata

# Signs that Unicode's compatibility form (NFKC) leaves alone or would change the meaning of.
_BEFORE_FOLDING = {
    **dict.fromkeys("™®©℠\u00ad", ""),
    **dict.fromkeys("‘’‚‛ʼ′´`", "'"),
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("‐‑−", "-"),
    **dict.fromkeys("—―⸺", " — "),
    **dict.fromkeys("¿¡", " "),
    "º": "°",
    "№": "No. ",
    "、": ", ",
    "。": ". ",
    "×": " times ",
    "÷": " divided by ",
    "±": " plus or minus ",
    "√": " square root of ",
    "∞": " infinity ",
    "‰": " per mille ",
    "🔟": " 10 ",
}
# Latin letters that are not a base letter with an accent.
_LETTERS = {
    **{"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"},
    **{"ħ": "h", "ı": "i", "ŋ": "ng", "ŧ": "t", "ə": "e"},
}
# Pictures, arrows and dingbats, without the digits and brackets between them. Letters and
# ideographs in circles are pictures only with a variation selector.
_PICTURE = (
    "(?:[\u2190-\u21ff\u2300-\u2328\u232b-\u245f\u2500-\u2767\u2794-\u27bf\u2900-\u297f"
    "\u2b00-\u2bff\u3030\u303d\U0001f000-\U0001f0ff\U0001f170-\U0001f1ad\U0001f200-\U0001fbef]"
    "|[ℹⓂ㊗㊙](?=\ufe0f))[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
)
# Two regional indicators are a flag; a zero-width joiner makes one picture of several.
_PICTURES = re.compile(f"(?!🔟)(?:[\U0001f1e6-\U0001f1ff]{{2}}|{_PICTURE}(?:\u200d{_PICTURE})*)")
_KEYCAP = re.compile("([0-9#*])\ufe0f?\u20e3")
_KEYS = {"#": " hash ", "*": " star "}
_VARIATIONS = re.compile("[\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_SUPERSCRIPTS = dict(zip("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ", "+-0123456789n", strict=True))
_POWER = re.compile("(?<=[\\w)])([⁺⁻]?)([⁰¹²³⁴-⁹]+|ⁿ)([⁺⁻]?)")


def strip_quoting(text):
    """A text without the marks before the lines that mail quotes.

    Example
    -------
    >>> strip_quoting("You wrote:\\n> it was late.\\n>> So it was.\\n> 5 is true.")
    'You wrote:\\nit was late.\\nSo it was.\\n> 5 is true.'
    """
    return re.sub(r"(?m)^[ \t]*(?:>[ \t]*)+(?=[^\W\d])", "", text)


def plain_signs(text):
    """Quotation marks, dashes, digits and powers in ASCII, with single spaces, ``^`` before powers
    and ``—`` as the only dash. Pictures are left out; other letters and signs stay.

    Example
    -------
    >>> plain_signs("“２０ m²” – 10⁻³ ≥ 3½ of ☀️ 1️⃣…")
    '"20 m^2" — 10^-3 ≥ 3 1/2 of 1 ...'
    """
    if not text.isascii():
        text = _plain_unicode(text)
    text = text.replace("`", "'")
    text = re.sub(r"(?<=\d)'(?=\d{3}(?!\d))", ",", text)  # 1'000'000
    # Arrows are no comparisons.
    text = re.sub(r"<?[-=]+>|<-+(?!\.?\d)", " → ", text) if ">" in text or "<-" in text else text
    text = re.sub(r"-{2,}|(?<=\s)-(?=\s)", " — ", text)
    # Some texts of VCTK have spaces around apostrophes, or no apostrophe.
    text = re.sub(r"(?i)(?<=[a-z])(?: '|' | ' )(?=(?:t|s|re|ve|ll|d|m)\b)", "'", text)
    text = re.sub(r"(?i)\b(it|that|what|there|he|she) (?=s\b)", r"\1'", text)
    return " ".join(text.split())


def _plain_unicode(text):
    text = _KEYCAP.sub(lambda found: _KEYS.get(found[1], f" {found[1]} "), text)
    text = _VARIATIONS.sub("", _PICTURES.sub(" ", text))
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞]|[¹²³⁴-⁹]+⁄)", " ", text)
    text = _POWER.sub(_power, text)
    # Narrow spaces between groups of three digits are what commas are elsewhere.
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", ",", text)
    # Between numbers a dash is a range, and a minus is no dash.
    text = re.sub(r"(?<=\d) ?[–‒] ?(?=[$£€¥]?\d)", "-", text)
    text = re.sub(r"(?<=[\w)]) ?− ?(?=[\w($£€¥])", " minus ", text)
    text = re.sub(r"[–‒]", " — ", text)
    text = re.sub(r"©(?= ?\w)", " copyright ", text)
    text = text.translate(_TRANSLATION)
    text = unicodedata.normalize("NFKC", text).translate({0x2044: "/", 0x2215: "/"})
    return "".join(map(_plain_sign, text))


_TRANSLATION = str.maketrans(_BEFORE_FOLDING)


def _power(found):
    """A superscript: a power, the charge of an ion, or after a word the number of a footnote."""
    sign, power, charge = ("".join(map(_SUPERSCRIPTS.get, part)) for part in found.groups())
    before = found.string[max(0, found.start() - 2) : found.start()]
    is_note = len(before) == 2 and before.isalpha() and power not in ("2", "3", "n") and not sign
    return f" {power}{charge}" if charge or is_note else f"^{sign}{power}"


def _plain_sign(character):
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in ("No", "Nl") and unicodedata.numeric(character).is_integer():
        return f" {int(unicodedata.numeric(character))} "
    return "" if category == "Cf" else character


def plain_letters(text):
    """Lower case, and Latin letters without accents. Letters of other alphabets keep their marks;
    marks without a letter are dropped.

    Example
    -------
    >>> plain_letters("Fiancée Йод \u0301")
    'fiancee йод '
    """
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", text.lower()).translate(str.maketrans(_LETTERS))
    letters = []
    for character in folded:
        if not is_mark(character) or (letters and _takes_marks(letters[-1])):
            letters.append(character)
    return unicodedata.normalize("NFC", "".join(letters)).lower()


def _takes_marks(character):
    return not character.isascii() and (character.isalpha() or is_mark(character))


def is_mark(character):
    """Whether a character is an accent or another mark of the letter before it."""
    return not character.isascii() and unicodedata.category(character)[0] == "M"


def pictures(text):
    """The emoji, flags, arrows and other pictures of a text, as written.

    Example
    -------
    >>> [ascii(picture) for picture in pictures("Two ☀️☀️ and 🇫🇷")]
    ["'\\\\u2600\\\\ufe0f'", "'\\\\u2600\\\\ufe0f'", "'\\\\U0001f1eb\\\\U0001f1f7'"]
    """
    return _PICTURES.findall(text)


def named(sign):
    """A sign, and its Unicode name if it is not a letter.

    Example
    -------
    >>> named("я"), named("<"), named("\u0301")
    ("'я'", "'<' (less-than sign)", 'U+0301 (combining acute accent)')
    """
    if sign.isalnum():
        return repr(sign)
    name = unicodedata.name(sign[0], "").lower()
    shown = repr(sign) if sign.isprintable() and not is_mark(sign[0]) else f"U+{ord(sign[0]):04X}"
    return f"{shown} ({name})" if name and len(sign) == 1 else shown
