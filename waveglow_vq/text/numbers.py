"""Expands numbers in digits: amounts, years, times, fractions, codes.

Dates, money, codes and times follow what the reader of LJSpeech says.
"""

import re

from waveglow_vq.text.abbreviations import ends_sentence
from waveglow_vq.text.formulas import POWER, POWER_OF_NUMBER, power_in_words
from waveglow_vq.text.number_words import (
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
from waveglow_vq.text.units import UNIT, UNITS, per

# With or without commas between groups of three, and decimals.
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
NUMBER = rf"(?:{_WHOLE}(?:\.\d+)?|(?<![\w.])\.\d+)"
# Denominators of fractions; others, as in "24/7" and "9/11", are read as two numbers.
_DENOMINATORS = {*range(2, 11), 12, 15, 16, 20, 24, 25, 30, 32, 40, 50, 60, 64, 100, 1000}


def expand_numbers(text):
    """Replaces all digits by words, in a text in which abbreviations, dates in digits and money are
    expanded already.

    Example
    -------
    >>> expand_numbers("On May 2nd, 1897 at 7:45, 1,200 men bought 3 1/2 lb.")
    'On May second, eighteen ninety-seven at seven forty-five, one thousand, two hundred men bought
    three and a half pounds.'
    >>> expand_numbers("-4.5 of 10-20 in number 162, Box 2915, rifle C2766, the 1960s")
    'minus four point five of ten to twenty in number one sixty-two, Box two nine one five,
    rifle C two seven six six, the nineteen sixties'
    """
    if not re.search(r"[\d^]", text):
        return text
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    return text


def keep_apart(words):
    """Makes a replacement, from a match to its words, put a space between its words and the letters
    that the digits touched.

    Example
    -------
    >>> re.sub("[0-9]", keep_apart(lambda found: amount_in_words(found[0])), "a1b 2")
    'a one b two'
    """

    def replace(found):
        spoken, start, end = words(found), found.start(), found.end()
        before, after = found.string[max(0, start - 1) : start], found.string[end : end + 1]
        first = " " if before.isalpha() and spoken[:1].isalpha() else ""
        return first + spoken + (" " if after.isalpha() and spoken[-1:].isalpha() else "")

    return replace


def amount_in_words(written):
    """The words of a number that counts or measures, as `NUMBER` finds it: digit by digit if it
    begins with a zero or is very long.

    Example
    -------
    >>> amount_in_words("1,200"), amount_in_words("3.05"), amount_in_words("007")
    ('one thousand, two hundred', 'three point zero five', 'zero zero seven')
    """
    whole, point, decimals = written.replace(",", "").partition(".")
    if (whole[:1] == "0" and whole != "0") or len(whole) > LONGEST_CARDINAL:
        return digit_by_digit(whole) + (f" point {digit_by_digit(decimals)}" if point else "")
    return decimal(whole, decimals) if point else cardinal(int(whole))


def _plain(found):
    """Digits without other signs: a year, an amount, or the number of something."""
    digits = found[0]
    if not digits.isdecimal():
        return amount_in_words(digits)
    if len(digits) == 4 and 1100 <= int(digits) < 2100 and not _counts(found):
        return year(int(digits))
    # Long ones without commas are numbers of parts and accounts, unless they are round.
    if len(digits) > 4 and not digits.endswith("00"):
        return digit_by_digit(digits)
    return amount_in_words(digits)


def _counts(found):
    """Whether a number that might be a year counts something: "1308 prisoners", but not "in 1962
    Oswald's" and "of 1837 was"."""
    return _COUNTED.match(found.string, found.end()) and not _YEAR_WORD.search(
        found.string, max(0, found.start() - 12), found.start()
    )


def _time(found):
    hour, minute, second = int(found[1]), int(found[2]), found[3]
    words = cardinal(hour)
    second = second if second and float(second) else None
    if minute:
        words += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif not second and not _HALF_DAY.match(found.string, found.end()):
        words += " o'clock" if hour <= 12 else " hundred"
    if second:
        seconds = amount_in_words(second.lstrip("0"))
        words += f" and {seconds} second{'' if seconds == 'one' else 's'}"
    return words


def _unit(found, words, single):
    """The words of a number, and of the unit that follows it."""
    if not found["unit"]:
        return words
    one, many = UNITS[found["unit"]]
    # "six-foot", "six feet", "one foot"
    unit = one if found["join"] == "-" or single else many
    dot = found["dot"] if ends_sentence(found.string, found.end()) else ""
    return f"{words}{found['join'] or ' '}{unit}{per(found['per'])}{dot}"


def _measure(found):
    return _unit(found, amount_in_words(found["amount"]), found["amount"] == "1")


def _fraction(found):
    whole, above, below = found["whole"], int(found["above"]), int(found["below"])
    if below not in _DENOMINATORS or above >= below:
        words = " ".join(
            map(amount_in_words, filter(None, (whole, found["above"], found["below"])))
        )
        return _unit(found, words, False)
    words = fraction(above, below)
    if whole:
        words = f"{amount_in_words(whole)} and {'a half' if words == 'one half' else words}"
    return _unit(found, words, not whole)


def _decade(found):
    digits = found[1]
    return plural(year(int(digits)) if len(digits) == 4 else cardinal(int(digits)))


def _groups(found):
    """Telephones and dates in digits: group by group."""
    groups = ", ".join(digit_by_digit(group) for group in re.findall(r"\d+", found[0]))
    return f"plus {groups}" if found[0][0] == "+" else groups


def _version(found):
    """The parts of a version are numbers of their own: "three point eleven"."""
    return " point ".join(map(amount_in_words, found[0].split(".")))


def _item_number(found):
    """After "number" and the like: three digits as "one sixty-two", long ones digit by digit."""
    digits = found["digits"].replace(",", "")
    if len(digits) == 3 and digits[0] != "0":
        return found["before"] + in_pairs(int(digits))
    return found["before"] + (
        digit_by_digit(digits) if len(digits) > 4 else amount_in_words(digits)
    )


def _code(found):
    """Digits after letters."""
    return f" {digit_by_digit(found[1]) if len(found[1]) > 2 else amount_in_words(found[1])}"


_COUNTED = re.compile(r" (?!was\b|has\b|this\b|his\b|its\b)[a-z]{2,}s\b")
_YEAR_WORD = re.compile(
    r"\b(?:in|since|until|till|by|of|year|during|from|before|after|about|and|the) $", re.I
)
_HALF_DAY = re.compile(r" [ap] m\b", re.I)
# Names that a version, or the number of a part, follows.
_VERSIONED = "|".join(
    rf"(?<=\b{name} )"
    for name in (
        "Chapter Section Article Figure Table Equation Version version Release release"
        " Android Blender Chrome CUDA Debian Django Fedora Firefox GCC Go iOS Java Kubernetes Linux"
        " macOS MySQL NumPy Perl PHP PostgreSQL Python PyTorch Ruby Rust TensorFlow Ubuntu Windows"
    ).split()
)
_RULES = [
    (re.compile(pattern), keep_apart(words) if callable(words) else words)
    for pattern, words in (
        (POWER_OF_NUMBER, power_in_words),
        # Too long for a name that anybody would say; int() even refuses very long ones.
        (
            rf"\d{{{LONGEST_CARDINAL + 1},}}|\d{{1,3}}(?:,\d{{3}}){{{LONGEST_CARDINAL // 3},}}",
            lambda found: f" {digit_by_digit(found[0].replace(',', ''))} ",
        ),
        # Telephones, and other numbers in groups.
        (
            r"(?<![\w-])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-]|\.\d)"
            # "+25000" and "+100.50" are numbers.
            r"|(?<!\w)(?!\+\d{1,7}(?:\.\d+)?(?![ .(-]*\d))"
            r"\+\d{1,3}(?:[ .-]?\(?\d{2,5}\)?){2,5}(?!\w)"
            r"|(?<![\w-])\d+(?:-\d+){2,}(?![\w-])|(?<![\w-])\d{3}-\d{4}(?![\w-])"
            r"|(?<![\w,.-])(?!(?:(?:1[1-9]|20)\d\d\b ?){3})\d{4}(?: \d{4}){2,}(?![\w-])",
            _groups,
        ),
        # Ranges; the numbers on both sides are left to the rules below.
        (rf"(?<![\w-])({NUMBER})-(?=[$£€]?{NUMBER}(?![\dA-Z-]))", r"\1 to "),
        (r"(?:(?<= [ap] m)|(?<=\d[%°])|(?<=\d°[CF]))-(?=\d)", " to "),
        (r"(?<![\d:.,])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?(?![\d:])", _time),
        (r"(?<![\d:.,])(1?\d)\.([0-5]\d)()(?= [ap] m\b)", _time),
        (
            r"(?<![\d/.,])(?:(?P<whole>\d+)[ -])?(?P<above>\d+)/(?P<below>\d+)(?![\d/])"
            rf"(?:{UNIT})?",
            _fraction,
        ),
        (
            rf"\d+(?:\.\d+){{2,}}|(?<=[A-Za-z]{{2}})\d+\.\d+|(?<=\bv)\d+\.\d+"
            rf"|(?:{_VERSIONED})\d+\.\d\d(?![\d%])",
            _version,
        ),
        (r"(?<=[A-Za-z])\d+\.\d+", lambda found: amount_in_words(found[0])),
        (r"(?<![\w.,])'?((?:\d\d)?\d0)'?s\b", _decade),
        (r"(?<!\w)'(\d\d)\b", lambda found: amount_in_words(found[1])),
        (
            rf"(?<![\w.,])({_WHOLE})-?(?:st|nd|rd|th)\b",
            lambda found: ordinal(int(found[1].replace(",", ""))),
        ),
        (r"(?<=\d)-(?=[A-Z]\b)", " "),  # 133-A
        (r"(?<=\d)'(?=1?\d(?:\"|$|[ ,.;]))", " foot "),  # 6'2"
        (
            r"(?P<before>\b(?i:number|page|room|route|flight|highway|exhibit) )"
            rf"(?P<digits>{_WHOLE})(?![\d.]*\d)",
            _item_number,
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
        (r"(?<![\w.])\.(22|25|32|38|44|45|50)(?![\d%])", lambda found: amount_in_words(found[1])),
        (r"(?<![\w.])-(?=\.?\d)", "minus "),
        (
            rf"(?<![\w.,])(?P<amount>{NUMBER}){UNIT}",
            _measure,
        ),
        (POWER, power_in_words),
        (r"(?<=\d):(?=\d)", " to "),
        (r"(?<=\d)(?=[A-Za-z])", " "),
        (r"(?<=[A-Za-z])(\d+)", _code),
        (NUMBER, _plain),
    )
]
