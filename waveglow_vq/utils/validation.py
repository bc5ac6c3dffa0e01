"""Checks of the quantizers' options."""

import math

from waveglow_vq.errors import UserError


def require_integer(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} has to be a whole number of at least {least}, got {value!r}")


def require_number(name, value, least=None, above=None, below=None):
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    good = good and (least is None or value >= least) and (above is None or value > above)
    if not good or (below is not None and value >= below):
        bounds = [
            f"{text} {bound}"
            for text, bound in (("at least", least), ("above", above), ("below", below))
            if bound is not None
        ]
        raise UserError(f"{name} has to be a number {' and '.join(bounds)}, got {value!r}")


def require_choice(name, value, choices):
    if value not in choices:
        raise UserError(f"{name} has to be one of {', '.join(choices)}, got {value!r}")
