"""Checks of options, each with the sentence for its error."""

import math
import operator

from waveglow_vq.errors import UserError


def require_integer(name, value, least):
    """Raises a UserError unless the value of an option is a whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}: {value!r}; it must be a whole number of at least {least}")


def require_number(name, value, least=None, above=None, below=None, most=None):
    """Raises a UserError unless the value of an option is a finite number within the bounds.

    Example
    -------
    >>> require_number("dropout", 1.0, least=0, below=1)
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: dropout: 1.0; it must be a number at least 0 and below 1
    """
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    bounds = [
        (text, bound, fits)
        for text, bound, fits in (
            ("at least", least, operator.ge),
            ("above", above, operator.gt),
            ("below", below, operator.lt),
            ("at most", most, operator.le),
        )
        if bound is not None
    ]
    if not good or not all(fits(value, bound) for _, bound, fits in bounds):
        wanted = " and ".join(f"{text} {bound}" for text, bound, _ in bounds)
        raise UserError(f"{name}: {value!r}; it must be a number {wanted}")


def require_choice(name, value, choices):
    """Raises a UserError unless the value of an option is one of the choices."""
    if value not in choices:
        raise UserError(f"{name}: {value!r} is not one of {', '.join(map(str, choices))}")
