"""Options: choices among named values, and tuples of options."""

from waveglow_vq.utils.validation import require_choice


def choose(option, value, choices, override=None):
    """``choices[value]``, or ``override`` if it is not None; a UserError that lists the choices if
    there is no such value.

    Example
    -------
    >>> choose("size", "tiny", {"tiny": 6, "base": 12})
    6
    >>> choose("size", "tiny", {"tiny": 6, "base": 12}, override=8)
    8
    >>> choose("size", "huge", {"tiny": 6, "base": 12})
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: size: 'huge' is not one of tiny, base
    """
    require_choice(option, value, choices)
    return choices[value] if override is None else override


def build_options(given, *kinds):
    """Makes one tuple of options of each kind, a NamedTuple class, from keywords; a TypeError for
    an unknown one.

    Example
    -------
    >>> from typing import NamedTuple
    >>> class Size(NamedTuple):
    ...     width: int = 1
    ...     height: int = 2
    >>> build_options({"height": 5}, Size)
    [Size(width=1, height=5)]
    """
    known = {name for kind in kinds for name in kind._fields}
    if unknown := sorted(set(given) - known):
        raise TypeError(f"unknown options: {', '.join(unknown)}")
    return [kind(**{k: v for k, v in given.items() if k in kind._fields}) for kind in kinds]
