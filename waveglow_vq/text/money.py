"""Expands amounts of money, with the sign or code of the currency before or after them."""

import re

from waveglow_vq.text.numbers import NUMBER, amount_in_words, keep_apart
from waveglow_vq.text.units import PER, any_of, per

_CENT = ("cent", "cents")
# Singular and plural, and those of the hundredth part if it has a name that people say.
_CURRENCIES = {
    "USD": ("dollar", "dollars", *_CENT),
    "GBP": ("pound", "pounds", "penny", "pence"),
    "EUR": ("euro", "euros", *_CENT),
    "JPY": ("yen", "yen"),
    "INR": ("rupee", "rupees", "paisa", "paise"),
    "KRW": ("won", "won"),
    "CHF": ("swiss franc", "swiss francs", "centime", "centimes"),
    "CNY": ("yuan", "yuan"),
    "RUB": ("ruble", "rubles"),
    "UAH": ("hryvnia", "hryvnias"),
    "ILS": ("shekel", "shekels"),
    "VND": ("dong", "dong"),
    "NGN": ("naira", "naira"),
    "TRL": ("lira", "liras"),
    "THB": ("baht", "baht"),
    "BTC": ("bitcoin", "bitcoins"),
    "PLN": ("zloty", "zlotys"),
    "BRL": ("real", "reais", "centavo", "centavos"),
    "MXN": ("mexican peso", "mexican pesos"),
    "ZAR": ("rand", "rand"),
    "CZK": ("czech crown", "czech crowns"),
    "SEK": ("swedish crown", "swedish crowns"),
    "NOK": ("norwegian crown", "norwegian crowns"),
    "DKK": ("danish crown", "danish crowns"),
    "HUF": ("forint", "forints"),
    **{
        code: (f"{country} dollar", f"{country} dollars", *_CENT)
        for code, country in (
            ("AUD", "australian"),
            ("CAD", "canadian"),
            ("NZD", "new zealand"),
            ("HKD", "hong kong"),
            ("SGD", "singapore"),
        )
    },
}
_SIGNS = {
    **{"$": "USD", "£": "GBP", "€": "EUR", "¥": "JPY", "₹": "INR", "₩": "KRW", "₽": "RUB"},
    **{"₴": "UAH", "₪": "ILS", "₫": "VND", "₦": "NGN", "₺": "TRL", "฿": "THB", "₿": "BTC"},
}
# Other ways to write them.
_OTHER_SIGNS = {
    **dict.fromkeys(("US$", "U.S.$", "U.S. $", "US $"), "USD"),
    **dict.fromkeys(("A$", "AU$"), "AUD"),
    **dict.fromkeys(("C$", "CA$"), "CAD"),
    **{"NZ$": "NZD", "HK$": "HKD", "S$": "SGD", "R$": "BRL", "Rs.": "INR", "Rs": "INR"},
    **{"CN¥": "CNY", "RMB": "CNY", "zł": "PLN"},
}
# The name of a sign that stands alone.
CURRENCY_SIGNS = {sign: _CURRENCIES[code][1] for sign, code in _SIGNS.items()}
_MAGNITUDES = {
    **dict.fromkeys(("k", "K", "thousand"), "thousand"),
    **dict.fromkeys(("m", "M", "mn", "mio", "million"), "million"),
    **dict.fromkeys(("b", "B", "bn", "billion"), "billion"),
    **dict.fromkeys(("T", "tn", "trillion"), "trillion"),
    **{"lakh": "lakh", "crore": "crore"},
}

_CODES = any_of([*_OTHER_SIGNS, *_CURRENCIES])
_SIGN = f"[{''.join(_SIGNS)}]"
# Also as most of Europe writes it, 1.234,56, and India: 1,50,000.
_AMOUNT = (
    r"(?:\d{1,2}(?:,\d\d)+,\d{3}(?!\d)|\d{1,3}(?:\.\d{3})+,\d\d(?!\d)|\d+,\d\d(?![\d,])"
    rf"|{NUMBER})"
)
# But not the letter of "$5 T-shirt" or "$20 K-cups".
_MAGNITUDE = rf"(?:(?! T\b| [A-Za-z][-/]\w) ?(?P<magnitude>{any_of(_MAGNITUDES)})(?!\w))?"
_RULES = [
    re.compile(pattern)
    for pattern in (
        rf"(?:(?<![\w.])(?P<minus>-))?(?P<currency>(?<!\w)(?:{_CODES})"
        rf"(?= ?-?\.?\d)|(?<!\d){_SIGN})(?:(?<!\d .) )?(?P<inner>-)?(?P<first>{_AMOUNT})"
        rf"(?:(?: ?(?P<large>{any_of(_MAGNITUDES)}))?-(?P<second>{_SIGN}?)(?P<to>{_AMOUNT})"
        rf"(?!-?\d))?{_MAGNITUDE}{PER}",
        rf"(?<![\w.,-])(?P<minus>-)?(?P<inner>)(?P<large>)(?P<first>{_AMOUNT})"
        rf"(?:(?P<second>{_SIGN}?)-(?P<to>{_AMOUNT}))?{_MAGNITUDE} ?"
        rf"(?P<currency>{_SIGN}(?!\d)|(?:{any_of(_CURRENCIES)}|zł)(?!\w)){PER}",
    )
]
_MAY_BE_MONEY = re.compile(rf"{_SIGN}|(?<![A-Za-z])(?:{_CODES})(?![A-Za-z])")


def expand_money(text):
    """Replaces amounts of money.

    Example
    -------
    >>> expand_money("$21.45, EUR 12.50 or 3-4 million yen, not £3m, 900₹ or $5-10/hour")
    'twenty-one dollars, forty-five cents, twelve euros, fifty cents or 3-4 million yen, not three
    million pounds, nine hundred rupees or five to ten dollars per hour'
    """
    if not _MAY_BE_MONEY.search(text):
        return text
    for rule in _RULES:
        text = rule.sub(keep_apart(_money), text)
    return text


def _money(found):
    currency = found["currency"]
    names = _CURRENCIES[_SIGNS.get(currency) or _OTHER_SIGNS.get(currency) or currency]
    words = "minus " if found["minus"] or found["inner"] else ""
    if not found["to"]:
        words += _sum(found["first"], found["magnitude"], names)
    else:
        if found["second"]:
            words += _sum(found["first"], found["large"], names)
        else:
            words += amount_in_words(_plain(found["first"]))
        words += f" to {_sum(found['to'], found['magnitude'], names)}"
    return words + per(found["per"])


def _plain(written):
    """An amount with a point before its decimals."""
    if re.search(r",\d\d$", written):
        return written.replace(".", "").replace(",", ".")
    return written


def _sum(written, magnitude, names):
    one, many, *small = names
    written = _plain(written)
    whole, _, hundredths = written.replace(",", "").partition(".")
    if magnitude:
        return f"{amount_in_words(written)} {_MAGNITUDES[magnitude]} {many}"
    if hundredths and (len(hundredths) != 2 or not small):
        return f"{amount_in_words(written)} {many}"
    words = f"{amount_in_words(whole.lstrip('0') or '0')} {one if whole == '1' else many}"
    if not hundredths.strip("0"):
        return words
    part = small[0] if hundredths == "01" else small[1]
    parts = f"{amount_in_words(hundredths.lstrip('0'))} {part}"
    return f"{words}, {parts}" if whole.strip("0") else parts
