"""Expands dates in digits."""

import re

from waveglow_vq.text.abbreviations import MONTHS
from waveglow_vq.text.number_words import cardinal, year
from waveglow_vq.text.numbers import keep_apart

_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_END = r"(?![\w/-]|\.\d)"
# The time of day of a date, and its zone.
_TIME = (
    r"(?:T(?P<time>\d\d:\d\d)(?P<seconds>:\d\d(?:\.\d+)?)?"
    r"(?:(?P<utc>Z)|(?P<side>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d))?)"
)
_RULES = [
    re.compile(rf"(?<![\w./-]){pattern}{_END}")
    for pattern in (
        # 2030-11-07, also with a time behind it
        r"(?P<year>[12]\d{3})(?P<sign>[-/.])(?P<month>\d\d?)(?P=sign)(?P<day>\d\d?)" + _TIME + "?",
        # 11/7/2030, 7.11.2030
        r"(?P<one>\d\d?)(?P<sign>[-/.])(?P<two>\d\d?)(?P=sign)(?P<year>[12]\d{3})",
        # 11/7/30
        r"(?P<one>\d\d?)(?P<sign>/)(?P<two>\d\d?)/(?P<year>\d\d)",
    )
]


def expand_dates(text):
    """Replaces dates in digits, unless the calendar does not have them.

    The year comes first or last. If it is last, the month comes before the day, as in American
    English, unless it is above 12 or the parts are separated by points, as in German.

    Example
    -------
    >>> expand_dates("2030-11-07, 11/7/2030, 7.11.2030 and 19/7/96, but 3/4, 1.2.3 and 13/13/2030")
    'november seven, twenty thirty, november seven, twenty thirty, november seven, twenty thirty and
    july nineteen, nineteen ninety-six, but 3/4, 1.2.3 and 13/13/2030'
    >>> expand_dates("2030-11-07T09:05:00Z")
    'november seven, twenty thirty, 09:05:00 u t c'
    """
    if not re.search(r"\d[/.:-]\d", text):
        return text
    for rule in _RULES:
        text = rule.sub(keep_apart(_date), text)
    return text


def _date(found):
    parts = found.groupdict()
    number = int(parts["year"])
    if number < 100:
        # As in POSIX.
        number += 1900 if number >= 69 else 2000
    if "month" in parts:
        month, day = int(parts["month"]), int(parts["day"])
    else:
        month, day = int(parts["one"]), int(parts["two"])
        if month > 12 or (parts["sign"] == "." and day <= 12):
            month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= _DAYS[month - 1]):
        return found[0]
    words = f"{MONTHS[month - 1]} {cardinal(day)}, {year(number)}"
    return f"{words}, {_time(parts)}" if parts.get("time") else words


def _time(parts):
    """The time of day, for the rules of numbers to read, and its zone."""
    words = parts["time"] + (parts["seconds"] or "")
    if parts["utc"]:
        return f"{words} u t c"
    if not parts["side"]:
        return words
    words += f" {'plus' if parts['side'] == '+' else 'minus'} {int(parts['hours'])} hours"
    return words if parts["minutes"] == "00" else f"{words} {int(parts['minutes'])} minutes"
