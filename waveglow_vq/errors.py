"""Errors of the user's input, and how every command line reports errors.

A mistake in the input (a missing folder, a damaged file, an impossible option) is reported in one
sentence that names the file or option and says what to do, without a traceback.
"""

import contextlib
import errno
import io
import os
import sys

from waveglow_vq.signals import Stopped, stop_signals


class UserError(ValueError):
    """The input, not the program, is at fault; the message is one sentence for the user.

    Example
    -------
    >>> raise UserError("--sigma is -1, but it must be positive")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: --sigma is -1, but it must be positive
    """


@contextlib.contextmanager
def cli_errors():
    """Turns what stops a command line into one sentence on stderr and an exit status.

    Entry points use it as a context manager or as a decorator of their `main`. All other exceptions
    pass with their traceback: they are defects of the program.

    Raises
    ------
    SystemExit
        With status 2 after a `UserError`, reported as `error: <sentence>`; 1 if standard output is
        closed or full; 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP, which is ignored
        under nohup; 141, silently, if the reader of standard output has closed it, as head does.

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
    _have_standard_streams()
    try:
        with stop_signals():
            try:
                yield
            finally:
                sys.stdout.flush()
    except UserError as error:
        report_error(error)
        raise SystemExit(2) from None
    except Stopped as stop:
        say(str(stop))
        raise SystemExit(stop.status) from None
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(130) from None
    except BrokenPipeError:
        _give_up_on(sys.stdout)
        raise SystemExit(141) from None
    except FileNotFoundError as error:
        # The error of tempfile, whichever library called it.
        if "No usable temporary directory" not in str(error):
            raise
        say(
            "error: there is no folder for temporary files that can be written to; set the "
            "environment variable TMPDIR to one"
        )
        raise SystemExit(2) from None
    except OSError as error:
        # Errors of files have a name.
        problem = _stdout_problem() if error.filename is None else None
        if problem is None:
            raise
        _give_up_on(sys.stdout)
        say(f"error: the output is lost: standard output {problem}")
        raise SystemExit(1) from None


def report_error(error):
    """Prints the message of an error to stderr, in one line.

    Example
    -------
    >>> with contextlib.redirect_stderr(sys.stdout):
    ...     report_error(UserError("no such folder:\\n  corpus"))
    error: no such folder: corpus
    """
    # Messages of libraries may have several lines.
    say(f"error: {' '.join(str(error).split())}")


def say(sentence):
    """Prints to stderr; if that is closed or full, the exit status has to do."""
    try:
        print(sentence, file=sys.stderr)
    except OSError:
        _give_up_on(sys.stderr)


def _have_standard_streams():
    """Replaces standard streams that were closed when Python started: the next file that is opened
    would take their place, and what libraries print would go into it."""
    for name, flags in (
        ("stdin", os.O_RDONLY),
        ("stdout", os.O_RDONLY),  # not writable, so that an error says that output is lost
        ("stderr", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))
    # File names can hold characters that terminals and logs cannot show; stderr is lenient already.
    if getattr(sys.stdout, "errors", None) in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _stdout_problem():
    """Why standard output cannot be written to; None if it can."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except io.UnsupportedOperation:  # it is in memory
        return None
    except OSError as error:
        return "is closed" if error.errno == errno.EBADF else f"fails ({error.strerror})"
    return None


def _give_up_on(stream):
    # What is left in its buffer would cause an error when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
