"""Finds what is written with digits in a text, and says it in words.

What it gives for dates, money, codes and times follows what the reader of LJSpeech says.

Authors
 * The waveglow-vq developers, 2026
"""

import re

from waveglow_vq.data.abbreviations import ends_sentence
from waveglow_vq.data.numbers_in_words import (
    LONGEST_CARDINAL,
    cardinal,
    decimal,
    digit_by_digit,
    fraction,
    in_pairs,
    ordinal,
    plural,
    year,
)

# A number with or without commas between groups of three, and decimals.
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = rf"(?:{_WHOLE}(?:\.\d+)?|(?<![\w.])\.\d+)"
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
}
_MAGNITUDES = {
    **dict.fromkeys(("k", "K", "thousand"), "thousand"),
    **dict.fromkeys(("m", "M", "mn", "million"), "million"),
    **dict.fromkeys(("b", "B", "bn", "billion"), "billion"),
    **dict.fromkeys(("tn", "trillion"), "trillion"),
}
# What may follow a number: singular and plural.
_UNITS = {
    "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "m": ("meter", "meters"),
    "kg": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "g": ("gram", "grams"),
    "ml": ("milliliter", "milliliters"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "ft": ("foot", "feet"),
    "in.": ("inch", "inches"),
    "yd": ("yard", "yards"),
    "yds": ("yard", "yards"),
    "mph": ("mile per hour", "miles per hour"),
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"),
    "sec": ("second", "seconds"),
    "secs": ("second", "seconds"),
    "ms": ("millisecond", "milliseconds"),
    "kW": ("kilowatt", "kilowatts"),
    "°F": ("degree fahrenheit", "degrees fahrenheit"),
    "°C": ("degree celsius", "degrees celsius"),
    "°": ("degree", "degrees"),
    "¢": ("cent", "cents"),
    "p": ("penny", "pence"),
}
# Denominators that are read as parts; "24/7" and "9/11" are read as two numbers.
_DENOMINATORS = {*range(2, 11), 12, 15, 16, 20, 24, 25, 30, 32, 40, 50, 60, 64, 100, 1000}


def expand_numbers(text):
    """Replaces all digits by words.

    Arguments
    ---------
    text : str
        Case and marks as written; digits, hyphens and apostrophes in ASCII. Abbreviations (see
        abbreviations.py) are expanded.

    Returns
    -------
    str
        Without digits.

    Example
    -------
    >>> expand_numbers("On May 2nd, 1897 at 7:45, 1,200 men paid $21.45 for 3 1/2 lb.")
    'On May second, eighteen ninety-seven at seven forty-five, one thousand, two hundred men paid
    twenty-one dollars, forty-five cents for three and a half pounds.'
    >>> expand_numbers("-4.5 of 10-20 in number 162, Box 2915, rifle C2766, the 1960s")
    'minus four point five of ten to twenty in number one sixty-two, Box two nine one five,
    rifle C two seven six six, the nineteen sixties'
    """
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    return text


def _amount(written):
    """A number as in _NUMBER that counts or measures."""
    whole, point, decimals = written.replace(",", "").partition(".")
    if point:
        return decimal(whole, decimals)
    return digit_by_digit(whole) if whole[0] == "0" and len(whole) > 1 else cardinal(int(whole))


def _plain(found):
    """Digits without any other sign: a year, an amount, or the number of something."""
    digits = found[0]
    if not digits.isdecimal():
        return _amount(digits)
    if len(digits) == 4 and 1100 <= int(digits) < 2100 and not _counts(found):
        return year(int(digits))
    # Long ones without commas are numbers of parts and accounts, unless they are round.
    if len(digits) > 4 and not digits.endswith("00"):
        return digit_by_digit(digits)
    return _amount(digits)


def _counts(found):
    """Whether a number that might be a year counts something: "1308 prisoners", but not "in 1962
    Oswald's" and "of 1837 was"."""
    return _COUNTED.match(found.string, found.end()) and not _YEAR_WORD.search(
        found.string, max(0, found.start() - 12), found.start()
    )


def _money(found):
    one, many, small_one, small_many = _CURRENCIES[found["currency"]]
    amount, magnitude = found["amount"], found["magnitude"]
    whole, _, cents = amount.replace(",", "").partition(".")
    if magnitude:
        return f"{_amount(amount)} {_MAGNITUDES[magnitude]} {many}"
    if cents and len(cents) != 2:
        return f"{_amount(amount)} {many}"
    words = f"{cardinal(int(whole or 0))} {one if whole == '1' else many}"
    if not cents or cents == "00":
        return words
    small = f"{cardinal(int(cents))} {small_one if cents == '01' else small_many}"
    return f"{words}, {small}" if int(whole or 0) else small


def _time(found):
    hour, minute, second = int(found[1]), int(found[2]), found[3]
    words = cardinal(hour)
    if minute:
        words += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif not second and not _HALF_DAY.match(found.string, found.end()):
        words += " o'clock" if hour <= 12 else " hundred"
    if second:
        words += f" and {cardinal(int(second))} second{'' if int(second) == 1 else 's'}"
    return words


def _unit(found, words, single):
    """The words of a number, and of the unit that follows it."""
    if not found["unit"]:
        return words
    one, many = _UNITS[found["unit"]]
    # "six-foot", "six feet", "one foot"
    unit = one if found["join"] == "-" or single else many
    dot = found["dot"] if ends_sentence(found.string, found.end()) else ""
    return f"{words}{found['join'] or ' '}{unit}{dot}"


def _measure(found):
    return _unit(found, _amount(found["amount"]), found["amount"] == "1")


def _fraction(found):
    whole, above, below = found["whole"], int(found["above"]), int(found["below"])
    if below not in _DENOMINATORS or above >= below:
        words = " ".join(map(_amount, filter(None, (whole, found["above"], found["below"]))))
        return _unit(found, words, False)
    words = fraction(above, below)
    if whole:
        words = f"{_amount(whole)} and {'a half' if words == 'one half' else words}"
    return _unit(found, words, not whole)


def _decade(found):
    digits = found[1]
    return plural(year(int(digits)) if len(digits) == 4 else cardinal(int(digits)))


def _groups(found):
    """Telephones and dates in digits: group by group."""
    return ", ".join(digit_by_digit(group) for group in re.findall(r"\d+", found[0]))


def _numbered(found):
    """After "number" and the like: three digits as "one sixty-two", long ones digit by digit."""
    digits = found["digits"].replace(",", "")
    if len(digits) == 3 and digits[0] != "0":
        return found["before"] + in_pairs(int(digits))
    return found["before"] + (digit_by_digit(digits) if len(digits) > 4 else _amount(digits))


def _code(found):
    """Digits after letters."""
    return f" {digit_by_digit(found[1]) if len(found[1]) > 2 else _amount(found[1])}"


_UNIT = (
    rf"(?P<join>[ -]?)(?P<unit>{'|'.join(sorted(map(re.escape, _UNITS), key=len, reverse=True))})"
    r"(?![\w/])(?! m\b)(?P<dot>\.?)"
)
_COUNTED = re.compile(r" (?!was\b|has\b|this\b|his\b|its\b)[a-z]{2,}s\b")
_YEAR_WORD = re.compile(
    r"\b(?:in|since|until|till|by|of|year|during|from|before|after|about|and|the) $", re.I
)
_HALF_DAY = re.compile(r" [ap] m\b", re.I)
_RULES = [
    (re.compile(pattern), words)
    for pattern, words in (
        # Nobody would say the name of such a number; int() even refuses very long ones.
        (
            rf"\d{{{LONGEST_CARDINAL + 1},}}|\d{{1,3}}(?:,\d{{3}}){{{LONGEST_CARDINAL // 3},}}",
            lambda found: f" {digit_by_digit(found[0].replace(',', ''))} ",
        ),
        (r"(?<![\w-])\d+(?:-\d+){2,}(?![\w-])|(?<![\w-])\d{3}-\d{4}(?![\w-])", _groups),
        # Ranges: what stands on both sides is said by the rules below.
        (rf"(?<![\w-])({_NUMBER})-(?=[$£€]?{_NUMBER}(?![\dA-Z-]))", r"\1 to "),
        (r"(?<= [ap] m)-(?=\d)", " to "),
        (
            rf"(?:\bU ?S ?)?(?P<currency>[$£€]) ?(?P<amount>{_NUMBER})"
            rf"(?: ?(?P<magnitude>{'|'.join(_MAGNITUDES)})(?!\w))?",
            _money,
        ),
        (r"(?<![\d:.,])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])", _time),
        (r"(?<![\d:.,])(1?\d)\.([0-5]\d)()(?= [ap] m\b)", _time),
        (
            r"(?<![\d/.,])(?:(?P<whole>\d+)[ -])?(?P<above>\d+)/(?P<below>\d+)(?![\d/])"
            rf"(?:{_UNIT})?",
            _fraction,
        ),
        (
            r"\d+(?:\.\d+){2,}",
            lambda found: " point ".join(map(_amount, found[0].split("."))),
        ),
        (r"(?<![\w.,])'?((?:\d\d)?\d0)'?s\b", _decade),
        (r"(?<!\w)'(\d\d)\b", lambda found: _amount(found[1])),
        (
            rf"(?<![\w.,])({_WHOLE})-?(?:st|nd|rd|th)\b",
            lambda found: ordinal(int(found[1].replace(",", ""))),
        ),
        (r"(?<=\d)-(?=[A-Z]\b)", " "),  # 133-A
        (r"(?<=\d)'(?=1?\d(?:\"|$|[ ,.;]))", " foot "),  # 6'2"
        (
            r"(?P<before>\b(?i:number|page|room|route|flight|highway|exhibit) )"
            rf"(?P<digits>{_WHOLE})(?![\d.]*\d)",
            _numbered,
        ),
        (r"(?<=\b[Bb]ox )\d{3,}", lambda found: digit_by_digit(found[0])),
        # House numbers, and years of antiquity.
        (
            r"(?<![\w.,$£€])([1-9]\d{2,3})(?= (?:[A-Z][\w.]* ){1,3}"
            r"(?i:street|avenue|road|boulevard|lane|drive|place|square)\b"
            r"| (?:North|South|East|West) [A-Z]|,? [ABC] [CD]\b)",
            lambda found: in_pairs(int(found[1])),
        ),
        (
            r"(?:(?<=\b[Ii]n )|(?<=\byear ))([1-9]\d\d|10[1-9]\d)(?=[,.;:](?!\d)| [A-Z]|$)",
            lambda found: in_pairs(int(found[1])),
        ),
        # Calibers: a .38 revolver.
        (r"(?<![\w.])\.(22|25|32|38|44|45|50)(?![\d%])", lambda found: _amount(found[1])),
        (r"(?<![\w.])-(?=\.?\d)", "minus "),
        (
            rf"(?<![\w.,])(?P<amount>{_NUMBER}){_UNIT}",
            _measure,
        ),
        (r"(?<=\d):(?=\d)", " to "),
        (r"(?<=\d)(?=[A-Za-z])", " "),
        (r"(?<=[A-Za-z])(\d+)", _code),
        (_NUMBER, _plain),
    )
]
