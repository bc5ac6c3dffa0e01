"""Units after numbers, and their names."""

import re

_LENGTHS = {
    "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "m": ("meter", "meters"),
    "ft": ("foot", "feet"),
    "mi": ("mile", "miles"),
    "yd": ("yard", "yards"),
}
# What may follow a number: singular and plural.
UNITS = {
    **_LENGTHS,
    **{f"{unit}^2": tuple(f"square {name}" for name in _LENGTHS[unit]) for unit in _LENGTHS},
    **{f"{unit}^3": tuple(f"cubic {name}" for name in _LENGTHS[unit]) for unit in _LENGTHS},
    "μm": ("micrometer", "micrometers"),
    "nm": ("nanometer", "nanometers"),
    "yds": ("yard", "yards"),
    "in.": ("inch", "inches"),
    "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"),
    "μg": ("microgram", "micrograms"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "l": ("liter", "liters"),
    "L": ("liter", "liters"),
    "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"),
    "cl": ("centiliter", "centiliters"),
    "mph": ("mile per hour", "miles per hour"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "h": ("hour", "hours"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"),
    "sec": ("second", "seconds"),
    "secs": ("second", "seconds"),
    "ms": ("millisecond", "milliseconds"),
    "μs": ("microsecond", "microseconds"),
    "dB": ("decibel", "decibels"),
    "kW": ("kilowatt", "kilowatts"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "hPa": ("hectopascal", "hectopascals"),
    "kPa": ("kilopascal", "kilopascals"),
    "mA": ("milliampere", "milliamperes"),
    "mV": ("millivolt", "millivolts"),
    "Ω": ("ohm", "ohms"),
    "kB": ("kilobyte", "kilobytes"),
    "Mbit": ("megabit", "megabits"),
    "Gbit": ("gigabit", "gigabits"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "kcal": ("kilocalorie", "kilocalories"),
    "bn": ("billion", "billion"),
    "mn": ("million", "million"),
    "tn": ("trillion", "trillion"),
    "°F": ("degree fahrenheit", "degrees fahrenheit"),
    "°C": ("degree celsius", "degrees celsius"),
    "°": ("degree", "degrees"),
    "¢": ("cent", "cents"),
    "p": ("penny", "pence"),
}
# In capitals only; without a rule they would be spelled like acronyms.
_CAPITALS = {
    "KB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "MW": "megawatt",
    "GW": "gigawatt",
    "TW": "terawatt",
}
_PER = {
    **{
        "s": "second",
        "sec": "second",
        "min": "minute",
        "h": "hour",
        "hr": "hour",
        "kg": "kilogram",
    },
    **{"l": "liter", "L": "liter", "ml": "milliliter", "m": "meter", "km": "kilometer"},
    **{"m^2": "square meter", "m^3": "cubic meter", "s^2": "second squared", "d": "day"},
}
_NAMES = (
    "second minute hour day night week month year person head unit piece item user seat share"
    " barrel ounce gram kilogram mile gallon pound ton liter"
).split()


def any_of(words):
    """A pattern for any of some words, the longest first."""
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


# What a quantity is divided by: "/h", "/month".
PER = rf"(?:/(?P<per>{any_of([*_PER, *_NAMES])})(?![\w^]))?"
UNIT = rf"(?P<join>[ -]?)(?P<unit>{any_of(UNITS)}){PER}(?![\w/^])(?! m\b)(?P<dot>\.?)"
_CAPITAL = re.compile(rf"(?<=\d)([ -]?)({any_of(_CAPITALS)}){PER}(?!\w)")
_RAISED = re.compile(rf"(?<=\d)( ?(?:{any_of(_LENGTHS)}))([23])(?![\w.])")


def per(name):
    """ "per hour" for "h" or "hour", as `PER` finds it; nothing for None."""
    return f" per {_PER.get(name, name)}" if name else ""


def expand_capital_units(text):
    """Replaces units in capitals, and puts the sign of a power into units such as "m2".

    Example
    -------
    >>> expand_capital_units("16GB, a 1-TB disk, 5 MB/s, 70 m2")
    '16 gigabytes, a 1-terabyte disk, 5 megabytes per second, 70 m^2'
    """
    if not re.search(r"\d[ -]?[A-Zcfkmy]", text):
        return text
    return _RAISED.sub(r"\1^\2", _CAPITAL.sub(_capital, text))


def _capital(found):
    name = _CAPITALS[found[2]]
    before = found.string[max(0, found.start() - 2) : found.start()].rjust(2)
    single = found[1] == "-" or (before[1] == "1" and before[0] not in "0123456789.,")
    return f"{found[1] or ' '}{name}{'' if single else 's'}{per(found['per'])}"
