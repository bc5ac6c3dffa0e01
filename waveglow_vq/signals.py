"""Signals that end a program raise an exception, as Ctrl-C does, or wait for a step to end."""

import contextlib
import os
import signal
import sys
import threading
import time

# SIGHUP: the terminal or the connection is gone; not on Windows.
_STOP = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end.

    It is a KeyboardInterrupt, so whatever handles Ctrl-C handles it.

    Arguments
    ---------
    number : int
        Of the signal.

    Example
    -------
    >>> stop = Stopped(signal.SIGTERM)
    >>> str(stop), stop.status
    ('ended by SIGTERM', 143)
    """

    def __init__(self, number):
        super().__init__(number)
        self.number = number

    def __str__(self):
        return f"ended by {signal.Signals(self.number).name}"

    @property
    def status(self):
        """The exit status by which shells and schedulers know what happened."""
        return 128 + self.number


@contextlib.contextmanager
def stop_signals():
    """Makes SIGTERM and SIGHUP raise `Stopped` inside, once: while it is handled, further ones are
    ignored (a service that is stopped, or a terminal that is closed, often sends both).

    Signals that have a handler or are ignored (SIGHUP under nohup) are left as they are. Outside of
    the main thread, the only one that Python sends signals to, nothing changes.

    Raises
    ------
    Stopped
        When a signal arrives.

    Example
    -------
    >>> try:
    ...     with stop_signals():
    ...         signal.raise_signal(signal.SIGTERM)
    ... except Stopped as stop:
    ...     print(stop)
    ended by SIGTERM
    """
    ours = []

    def stop(number, frame):
        for each in ours:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    try:
        if threading.current_thread() is threading.main_thread():
            for number in _STOP:
                if signal.getsignal(number) is signal.SIG_DFL:
                    ours.append(number)
                    signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


# ---- waiting

_ANY = [signal.SIGINT, *_STOP]
# Launchers and terminals often send a request twice: a second request comes at least this many
# seconds after the first.
_SAME_REQUEST = 2.0
# Seconds by which the reader of standard output may receive a signal earlier.
_READER_FIRST = 0.2
# Seconds that a step may take.
_GRACE = 30


class _Noted:
    number, at, held = 0, 0.0, False


def noted_signal():
    """Number of the signal that has asked the run to end; 0 if none has."""
    return _Noted.number


@contextlib.contextmanager
def held_signals():
    """Holds back signals that ask to end: inside, the first is only noted (:func:`noted_signal`),
    and raised at the end; a second one ends the process at once.

    Signals that are ignored (under nohup, for instance) stay ignored. Outside of the main thread,
    and inside another ``held_signals``, nothing changes.

    Raises
    ------
    Stopped
        At the end, if a signal has arrived.

    Example
    -------
    >>> try:
    ...     with held_signals():
    ...         signal.raise_signal(signal.SIGTERM)
    ...         print("a step is finished")
    ... except Stopped as stop:
    ...     print(stop)
    a step is finished
    ended by SIGTERM
    """
    if _Noted.held or threading.current_thread() is not threading.main_thread():
        yield
        return
    process, terminals = os.getpid(), [number for number in (1, 2) if _is_terminal(number)]

    def note(number, frame):
        again = _Noted.number and time.monotonic() - _Noted.at > _SAME_REQUEST
        if again or os.getpid() != process:  # of a process that was forked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not _Noted.number:
            _Noted.number, _Noted.at = number, time.monotonic()
        if number == getattr(signal, "SIGHUP", None):
            _leave(terminals)

    # Signals that are ignored, or handled outside of Python, stay so.
    before = {number: signal.getsignal(number) for number in _ANY}
    before = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr") if getattr(sys, name)}
    try:
        _Noted.held = True
        for number in before:
            signal.signal(number, note)
        for name, stream in streams.items():
            setattr(sys, name, _Lenient(stream))
        yield
    finally:
        for name, stream in streams.items():
            if isinstance(getattr(sys, name), _Lenient):
                setattr(sys, name, stream)
        for number, handler in before.items():
            signal.signal(number, handler)
        number, _Noted.number, _Noted.held = _Noted.number, 0, False
    if number:
        raise Stopped(number)


def shield_loader_process(worker=None):
    """The ``worker_init_fn`` of data loaders: signals sent to all processes of a terminal or a job
    are ignored, since training needs data until the end of a step. A SIGTERM, which may also come
    from the loader itself, ends the process half a minute later."""
    for number in _ANY:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number, frame):
    signal.signal(number, signal.SIG_DFL)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_GRACE)


class _Lenient:
    """A standard stream whose reader may be ended by the same signal, as Ctrl-C ends ``tee``: what
    is printed after that is dropped without an error, so that the run can still be saved."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        """Writes text, unless the reader has gone."""
        return self._unless_stopped(self._stream.write, text)

    def flush(self):
        """Flushes the stream, unless the reader has gone."""
        return self._unless_stopped(self._stream.flush)

    def _unless_stopped(self, do, *arguments):
        try:
            return do(*arguments)
        except BrokenPipeError:
            if not _Noted.number:
                time.sleep(_READER_FIRST)
            if not _Noted.number:
                raise
            _leave([self._stream.fileno()])
            return do(*arguments)


def _is_terminal(descriptor):
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def _leave(terminals):
    """Drops what is still printed: writing to a terminal that has gone is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in terminals:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
