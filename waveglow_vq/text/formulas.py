"""Expands comparisons, products, powers and scientific notation."""

import re

_COMPARISONS = {
    "<": "less than",
    ">": "greater than",
    "≤": "less than or equal to",
    "≥": "greater than or equal to",
    "≠": "not equal to",
    "≈": "approximately",
}
_POWERS = {"2": "squared", "3": "cubed"}
# What may precede the digits of a value.
_VALUE = r"[-+]?[$£€¥₹₩]?\.?"
_RULES = [
    (re.compile(pattern), words)
    for pattern, words in (
        # Tags are brackets, and so are addresses between such signs.
        (r"<(/?[A-Za-z][^<>\s]*|[A-Za-z]+ [^<>=]*=[^<>]*|[^<>\s@]+@[^<>\s]+)>", r" ⟨\1⟩ "),
        (r"(?<!\S)<([A-Za-z][^<>]*[^<>\s])>(?![\w(])", r" ⟨\1⟩ "),
        # "File > Save As"
        (r"(?<=[a-z]) > (?=[A-Z][a-z])", ", "),
        (r"<=|=<|⩽|≦", "≤"),
        (r">=|⩾|≧", "≥"),
        (r"!=|=/=|<>", "≠"),
        (r"\+/-|\+-(?=\d)", " plus or minus "),
        (r"[≃≅∼]|~=", "≈"),
        (r"={3,}", " "),
        (r"==", "="),
        (r"~(?= ?[$£€¥₹₩]?\d)", " about "),
        # Between two values, or before a number.
        (
            rf"(?:(?<=[\w)%°\"'])|(?<=[\w)%°\"'] ))[<>](?= ?{_VALUE}[\w(])"
            rf"|(?<![<>=])[<>](?= ?{_VALUE}\d)|[≤≥≠≈]",
            lambda found: f" {_COMPARISONS[found[0]]} ",
        ),
        # 6.02e23, 1.5E-3
        (
            r"(?<![\w.])(\d+\.\d+|\d)(?:e|E(?=[+-]))\+?(-?\d{1,3})(?![\w.]\d|\w)",
            r"\1 times 10^\2",
        ),
        (r"(?<=\d) ?\* ?(?=[\d(])", " times "),
        (r"(?<=[1-9])x(?=\d)|(?<=\d0)x(?=\d)", " by "),
        (r"(?<=[\w)])\*\*(?=[\w(-])", "^"),
    )
]
_MAY_COMPARE = re.compile("[<>=*+^~\u2200-\u22ff\u2a00-\u2aff]|\\d[xeE]")
# Powers of numbers, and all powers.
_RAISED = r"\^[({]?(?:(-)|\+)?(\d+(?:\.\d+)?|[A-Za-z])\b[)}]?"
POWER_OF_NUMBER, POWER = re.compile(rf"(?<=\d){_RAISED}"), re.compile(rf"(?<=[\w)]){_RAISED}")


def expand_formulas(text):
    """Replaces signs between two values; powers keep a ``^``, for `POWER` to find.

    Example
    -------
    >>> expand_formulas("If x <= 5 or y>3 then 4*2 ≠ 1.5e-3, <b>~6</b>, 2**n")
    'If x less than or equal to 5 or y greater than 3 then 4 times 2 not equal to 1.5 times 10^-3,
    ⟨b⟩ about 6 ⟨/b⟩ , 2^n'
    """
    if not _MAY_COMPARE.search(text):
        return text
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    return re.sub(" +", " ", text)


def power_in_words(found):
    """The words for what `POWER` finds, with its number in digits.

    Example
    -------
    >>> POWER.sub(power_in_words, "x^2 + 10^-3 + 2^n")
    'x squared + 10 to the power of minus 3 + 2 to the power of n'
    """
    minus, power = found.groups()
    if power in _POWERS and not minus:
        return f" {_POWERS[power]}"
    return f" to the power of {'minus ' if minus else ''}{power}"
