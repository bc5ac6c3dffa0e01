"""Signals that ask a program to end do what Ctrl-C does: an exception passes through the code that
removes what is half-written.

Authors
 * The waveglow-vq developers, 2026
"""

import contextlib
import signal
import threading

# SIGHUP: the terminal or the connection is gone; Windows does not know it.
_STOP = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end.

    Whatever is ready for Ctrl-C is ready for this: it is a KeyboardInterrupt, and no Exception.

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
    """SIGTERM and SIGHUP raise `Stopped` inside, once: while that is dealt with, further ones are
    ignored (a service that is stopped, or a terminal that is closed, often sends both).

    A signal that somebody else handles, or that is ignored (SIGHUP by nohup), is left as it is, and
    so is everything outside of the main thread, to which Python brings signals. Afterwards all is
    as it was before.

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
