import re

from waveglow_vq.text.number_words import (
    NUMBER_WORDS,
    cardinal,
    decimal,
    digit_by_digit,
    fraction,
    in_pairs,
    ordinal,
    plural,
    roman,
    year,
)

import pytest

VALUES = {word: value for value, word in enumerate(NUMBER_WORDS[:20])}
VALUES |= {word: 10 * (tens + 2) for tens, word in enumerate(NUMBER_WORDS[20:])}
GROUPS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def value_of(words):
    """Reads a number in words, written apart from what writes them."""
    total = group = 0
    for word in re.findall("[a-z]+", words):
        if word in GROUPS:
            total, group = total + group * GROUPS[word], 0
        elif word == "hundred":
            group *= 100
        else:
            group += VALUES[word]
    return total + group


def test_all_numbers_are_read_back():
    numbers = [*range(12000), *(7919 * 10**power + power for power in range(1, 11))]
    numbers += [10**power - 1 for power in range(1, 15)]
    words = [cardinal(number) for number in numbers]
    assert [value_of(text) for text in words] == numbers
    assert len(set(words)) == len(set(numbers))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (13, "thirteen"),
        (40, "forty"),
        (88, "eighty-eight"),
        (100, "one hundred"),
        (505, "five hundred five"),
        (1063, "one thousand sixty-three"),
        (6439, "six thousand, four hundred thirty-nine"),
        (5100, "five thousand, one hundred"),
        (5099, "five thousand ninety-nine"),
        (1_000_000, "one million"),
        (3_010_000, "three million, ten thousand"),
        (-12, "minus twelve"),
        (10**24, "one" + 24 * " zero"),
    ],
)
def test_cardinals(number, words):
    assert cardinal(number) == words


def test_ordinals():
    last = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
    last += " thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
    assert [ordinal(number) for number in range(1, 21)] == last.split()
    assert [ordinal(n) for n in (22, 30, 101)] == [
        "twenty-second",
        "thirtieth",
        "one hundred first",
    ]
    assert [ordinal(n) for n in (0, 1000, 10**6)] == ["zeroth", "one thousandth", "one millionth"]


def test_years_and_pairs():
    assert [year(n) for n in (1000, 1066, 1100, 1802, 1999)] == [
        "one thousand",
        "ten sixty-six",
        "eleven hundred",
        "eighteen oh two",
        "nineteen ninety-nine",
    ]
    assert [year(n) for n in (2000, 2009, 2010)] == [
        "two thousand",
        "two thousand nine",
        "twenty ten",
    ]
    assert [in_pairs(n) for n in (100, 101, 249, 4500)] == [
        "one hundred",
        "one oh one",
        "two forty-nine",
        "forty-five hundred",
    ]


def test_decimals_digits_fractions_and_plurals():
    assert decimal("0", "50") == "zero point five zero"
    assert digit_by_digit("2915") == "two nine one five"
    assert [fraction(1, 3), fraction(2, 2), fraction(3, 100)] == [
        "one third",
        "two halves",
        "three one hundredths",
    ]
    assert [plural(cardinal(n)) for n in (6, 20, 100)] == ["sixes", "twenties", "one hundreds"]


def test_roman_numerals():
    assert [roman(text) for text in "I II III IV V VI VII VIII IX X".split()] == [*range(1, 11)]
    assert [roman("XL"), roman("XCIX"), roman("CXLIV")] == [40, 99, 144]
    assert [roman(text) for text in ("IIII", "VX", "IL", "", "ii", "CIVIL", "X Y")] == [None] * 7
