"""Expands web and mail addresses, file names, handles and hashtags."""

import re

_MARKS = {
    **{".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon"},
    **{"?": "question mark", "=": "equals", "&": "and", "#": "hash", "%": "percent"},
    **{"~": "tilde", "+": "plus"},
}
# Names without "www." or a scheme are addresses if they end like this.
_DOMAINS = (
    "com|org|net|edu|gov|info|io|ai|dev|app|eu|de|fr|nl|ch|ca|jp|uk|com\\.au|COM|ORG|NET|EDU|GOV"
)
# Extensions of files that are spelled, and that are words.
_SPELLED = "avi bmp cfg cpp css csv doc docx exe flac htm html jpg js mkv mp ogg pdf php png ppt"
_SPELLED += " pptx py rb rtf sql svg ts tsv txt xls xlsx xml yml"
_WORDS = "bat bin dll gif ini iso jar jpeg json log md tar gz tex toml wav yaml zip"
_NAME = r"[\w-]+(?:\.[\w-]+)*"
_ADDRESS = re.compile(
    # With a scheme or "www."
    r"(?<!\w)(?:(?:https?|ftp)://|(?=www\.))(?P<url>[^\s<>\"]+)"
    # joe.smith@mail.example
    r"|(?<![\w.+-])(?P<mail>[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,})"
    # example.com/path
    rf"|(?<![\w.@/-])(?P<site>{_NAME}\.(?:{_DOMAINS})\b(?![@.-]\w)(?:/[^\s<>\"]*)?)"
    rf"|(?<![\w./-])(?P<file>{_NAME}\.(?:{'|'.join((_SPELLED + ' ' + _WORDS).split())})"
    r"[34]?\b(?![@.-]\w))"
    r"|(?<![\w.@])@(?P<handle>\w+)"
    r"|(?<![\w&])#(?P<tag>[^\W\d_]\w*)"
)


def expand_addresses(text):
    """Replaces web and mail addresses, file names, ``@names`` and hashtags.

    Example
    -------
    >>> expand_addresses("See https://www.example.org/my-page?id=7, or ask jo_lee@mail.example.")
    'See w w w dot example dot org slash my dash page question mark id equals 7, or ask jo
    underscore lee at mail dot example.'
    >>> expand_addresses("@jo_lee put notes.pdf under #RainyDays")
    'at jo underscore lee put notes dot p d f under hashtag Rainy Days'
    """
    return _ADDRESS.sub(_speak, text) if re.search(r"[.@#]\w|://", text) else text


def _speak(found):
    kind, written = found.lastgroup, found[found.lastgroup]
    if kind == "tag":
        return "hashtag " + re.sub(r"(?<=[a-z\d])(?=[A-Z])|_", " ", written)
    if kind == "handle":
        return f"at {_say(written)}"
    if kind == "file":
        stem, _, ending = written.rpartition(".")
        letters = ending.rstrip("34")
        ending = " ".join(letters if letters in _SPELLED.split() else [letters])
        return f"{_say(stem)} dot {ending} {written[len(stem) + 1 + len(letters) :]}".rstrip()
    # Marks at the end belong to the sentence.
    address = written.rstrip(".,;:!?)]}'*/")
    return _say(re.sub(r"^www\b", "w w w", address)) + written[len(address) :].replace("/", "")


def _say(written):
    """An address with its marks in words."""
    spoken = re.sub(r"[./_@:?=&#%~+-]", lambda mark: f" {_MARKS[mark[0]]} ", written)
    return " ".join(spoken.split())
