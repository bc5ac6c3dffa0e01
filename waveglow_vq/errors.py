"""Errors that are meant for the person at the keyboard.

A mistake in the input (a missing folder, a damaged file, an impossible option) is reported in one
sentence that names the file or option and says what to do; a traceback would bury it.
"""

import contextlib
import sys


class UserError(ValueError):
    """The input, not the program, is at fault; the message is one sentence for the user.

    Example
    -------
    >>> raise UserError("--sigma is -1, but it has to be positive")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: --sigma is -1, but it has to be positive
    """


@contextlib.contextmanager
def cli_errors():
    """Turns a `UserError` into `error: <sentence>` on stderr and exit status 2.

    Command line entry points wrap their `main` in it, either as a context manager or as a
    decorator. Any other exception passes through with its traceback, since that is a defect of
    the program and the traceback is what its authors need.

    Raises
    ------
    SystemExit
        With status 2, if a `UserError` was raised inside.

    Example
    -------
    >>> @cli_errors()
    ... def main():
    ...     raise UserError("no such folder: corpus")
    >>> try:
    ...     main()
    ... except SystemExit as exit:
    ...     print(exit.code)
    2
    """
    try:
        yield
    except UserError as error:
        # The sentence may come from a library and be wrapped over lines; the user gets one line.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
