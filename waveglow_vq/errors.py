"""Errors that are meant for the person at the keyboard.

A mistake in the input (a missing folder, a damaged file, an impossible option) is reported in one
sentence that names the file or option and says what to do; a traceback would bury it.
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
    >>> raise UserError("--sigma is -1, but it has to be positive")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: --sigma is -1, but it has to be positive
    """


@contextlib.contextmanager
def cli_errors():
    """What every command line owes its user, whatever happens: `error: <sentence>` on stderr and
    exit status 2 for a `UserError`; nothing half-written and one sentence when it is stopped; and a
    word when what it prints is lost.

    Command line entry points wrap their `main` in it, either as a context manager or as a
    decorator. Any other exception passes through with its traceback, since that is a defect of
    the program and the traceback is what its authors need.

    Raises
    ------
    SystemExit
        With status 2, if a `UserError` was raised inside; 1, if standard output is closed or full;
        130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP, which is ignored under nohup; 141,
        silently, if whoever read standard output has had enough, as head has.

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
        # As tempfile says it, for whatever library was in want of one.
        if "No usable temporary directory" not in str(error):
            raise
        say(
            "error: there is no folder for temporary files that can be written to; name one in the "
            "environment variable TMPDIR"
        )
        raise SystemExit(2) from None
    except OSError as error:
        # Trouble with a file has its name.
        problem = _stdout_problem() if error.filename is None else None
        if problem is None:
            raise
        _give_up_on(sys.stdout)
        say(f"error: what was to be printed is lost: standard output {problem}")
        raise SystemExit(1) from None


def report_error(error):
    """Says on stderr what an error says, in one line.

    Example
    -------
    >>> with contextlib.redirect_stderr(sys.stdout):
    ...     report_error(UserError("no such folder:\\n  corpus"))
    error: no such folder: corpus
    """
    # The sentence may come from a library and be wrapped over lines.
    say(f"error: {' '.join(str(error).split())}")


def say(sentence):
    """Prints to stderr; where it is closed or full, the exit status has to be enough."""
    try:
        print(sentence, file=sys.stderr)
    except OSError:
        _give_up_on(sys.stderr)


def _have_standard_streams():
    """Python leaves out streams that are closed when it starts. Something has to take their place:
    the next file that is opened would, and what libraries print would go into it."""
    for name, flags in (
        ("stdin", os.O_RDONLY),
        ("stdout", os.O_RDONLY),  # where nothing can be written to, which is noticed
        ("stderr", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))
    # Names of files can hold anything, and terminals and logs take only some of it. stderr is as
    # lenient from the start.
    if getattr(sys.stdout, "errors", None) in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _stdout_problem():
    """Why what was printed cannot be written; None if it can."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except io.UnsupportedOperation:  # it is no file, but in memory
        return None
    except OSError as error:
        return "is closed" if error.errno == errno.EBADF else f"fails ({error.strerror})"
    return None


def _give_up_on(stream):
    # What is left in its buffer would be complained of when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
