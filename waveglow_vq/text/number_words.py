"""Numbers in American English: "one hundred twenty-three", without "and".

The library inflect has the same, but importing it takes longer than importing torch.
"""

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = (*_SMALL, *_TENS)
# The short scale: names of 1000^1, 1000^2, ...
_GROUPS = "thousand million billion trillion quadrillion quintillion sextillion".split()
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
# Longer numbers have no name that anybody would say.
LONGEST_CARDINAL = 3 * (len(_GROUPS) + 1)


def cardinal(number):
    """A whole number in words, or digit by digit if it has more than 24 digits.

    Commas separate its groups where a reader breathes, before the last one only if it has hundreds.

    Example
    -------
    >>> cardinal(0), cardinal(21), cardinal(710), cardinal(-5)
    ('zero', 'twenty-one', 'seven hundred ten', 'minus five')
    >>> cardinal(9500)
    'nine thousand, five hundred'
    >>> cardinal(3000012)
    'three million twelve'
    """
    if number < 0:
        return f"minus {cardinal(-number)}"
    if number >= 10**LONGEST_CARDINAL:
        return digit_by_digit(str(number))
    if number < 1000:
        return _below_thousand(number)
    words = ""
    for power in range(len(_GROUPS), -1, -1):
        group = number // 1000**power % 1000
        if group:
            name = f" {_GROUPS[power - 1]}" if power else ""
            between = "" if not words else ", " if group >= 100 or power else " "
            words += between + _below_thousand(group) + name
    return words


def _below_thousand(number):
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_SMALL[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    return f"{_SMALL[hundreds]} hundred" + (f" {_below_thousand(rest)}" if rest else "")


def ordinal(number):
    """The ordinal of a whole number from 0.

    Example
    -------
    >>> ordinal(1), ordinal(12), ordinal(20), ordinal(32), ordinal(100)
    ('first', 'twelfth', 'twentieth', 'thirty-second', 'one hundredth')
    """
    words = cardinal(number)
    start = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[start:]
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "h" if last.endswith("t") else "th"
    return words[:start] + last


def digit_by_digit(digits):
    """Digits one by one, as in the number of a telephone or a part.

    Example
    -------
    >>> digit_by_digit("30016")
    'three zero zero one six'
    """
    return " ".join(_SMALL[int(digit)] for digit in digits)


def decimal(whole, fraction):
    """A number from the digits before and after its point.

    Example
    -------
    >>> decimal("6", "75"), decimal("", "05")
    ('six point seven five', 'point zero five')
    """
    before = f"{cardinal(int(whole))} " if whole else ""
    return f"{before}point {digit_by_digit(fraction)}"


def in_pairs(number):
    """A number from 100 to 9999 as years and house numbers are read, two digits at a time.

    Example
    -------
    >>> in_pairs(1897), in_pairs(1907), in_pairs(1800), in_pairs(162)
    ('eighteen ninety-seven', 'nineteen oh seven', 'eighteen hundred', 'one sixty-two')
    >>> in_pairs(2000), in_pairs(1001)
    ('two thousand', 'ten oh one')
    """
    high, low = divmod(number, 100)
    if low == 0:
        return cardinal(number) if high % 10 == 0 else f"{_below_thousand(high)} hundred"
    return f"{_below_thousand(high)} " + (f"oh {_SMALL[low]}" if low < 10 else cardinal(low))


def year(number):
    """A year from 1000 to 2999; years of the decade from 2000 are read as ordinary numbers.

    Example
    -------
    >>> year(1066), year(1900), year(2005), year(2024)
    ('ten sixty-six', 'nineteen hundred', 'two thousand five', 'twenty twenty-four')
    """
    return cardinal(number) if 2000 <= number < 2010 else in_pairs(number)


def plural(words):
    """The plural of a number in words, as in decades.

    Example
    -------
    >>> plural("nineteen sixty"), plural("nineteen hundred"), plural("six")
    ('nineteen sixties', 'nineteen hundreds', 'sixes')
    """
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def fraction(numerator, denominator):
    """A fraction from its parts.

    Example
    -------
    >>> fraction(1, 2), fraction(3, 4), fraction(2, 3), fraction(7, 20)
    ('one half', 'three quarters', 'two thirds', 'seven twentieths')
    >>> fraction(9, 1), fraction(5, 2)
    ('nine over one', 'five halves')
    """
    if denominator < 2:
        return f"{cardinal(numerator)} over {cardinal(denominator)}"
    part = {2: "half", 4: "quarter"}.get(denominator) or ordinal(denominator)
    if numerator != 1:
        part = "halves" if part == "half" else f"{part}s"
    return f"{cardinal(numerator)} {part}"


_ROMAN_DIGITS = dict(
    zip("C XC L XL X IX V IV I".split(), (100, 90, 50, 40, 10, 9, 5, 4, 1), strict=True)
)


def _as_roman(number):
    numeral = ""
    for letters, value in _ROMAN_DIGITS.items():
        count, number = divmod(number, value)
        numeral += letters * count
    return numeral


# Chapters and kings have no larger ones.
_ROMAN_NUMERALS = {_as_roman(number): number for number in range(1, 400)}


def roman(numeral):
    """The value of a Roman numeral in capitals from I to CCCXCIX, or None for other text.

    Example
    -------
    >>> roman("XIV"), roman("CCCXCIX"), roman("IIX"), roman("")
    (14, 399, None, None)
    """
    return _ROMAN_NUMERALS.get(numeral)
