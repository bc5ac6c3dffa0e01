"""Rows of figures that outlive the process that measures them.

A part of a check is a list of cases: a key (what is measured: a dict) and a call that returns the
figures (a dict). Its process writes each row as soon as it is there; another one watches, ends it
where a row or the part takes too long, and starts it again for what is left after a crash.
"""

import contextlib
import gc
import json
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

# Status of a process that cannot go on, though others could.
BROKEN = 75
# Seconds until a process has to have written something, and between two looks at it.
START_SECONDS, LOOK_SECONDS = 90.0, 0.05


class Journal:
    """A file of JSON lines: for each part the keys that are planned, and for each key that it has
    begun and what came out.

    Arguments
    ---------
    path : str or Path
        The file, which need not exist.

    Example
    -------
    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "rows.jsonl")
    >>> measure("sums", [({"of": 1}, lambda: {"sum": 1}), ({"of": 0}, lambda: 1 / 0)], journal, 9)
    >>> [row.get("values", row.get("failed")) for row in journal.rows("sums")]
    [{'sum': 1}, 'ZeroDivisionError: division by zero']
    """

    def __init__(self, path):
        self.path = Path(path)

    def write(self, part, event, **fields):
        """Appends a line."""
        line = json.dumps({"part": part, "event": event, **fields}, default=str)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def read(self, part):
        """The lines of a part. One that was never finished is left out."""
        found = []
        if self.path.is_file():
            for line in self.path.read_text("utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return [line for line in found if line["part"] == part]

    def rows(self, part):
        """The finished rows of a part."""
        return [line for line in self.read(part) if line["event"] == "row"]

    def open_key(self, part):
        """The key that was begun and not finished, or None."""
        lines = [line for line in self.read(part) if line["event"] in ("begun", "row")]
        return lines[-1]["key"] if lines and lines[-1]["event"] == "begun" else None

    def missing(self, part):
        """The planned keys without a row; None if the part has not even begun."""
        lines = self.read(part)
        plans = [line["keys"] for line in lines if line["event"] == "plan"]
        if not plans:
            return None
        done = [line["key"] for line in lines if line["event"] == "row"]
        return [key for key in plans[-1] if key not in done]


# ---- in the process of a part


def measure(part, cases, journal, seconds):
    """Measures the cases of which there is no row yet, until the time is over."""
    deadline = time.monotonic() + seconds
    cases = list(cases)
    journal.write(part, "plan", keys=[key for key, _ in cases])
    left = journal.missing(part)
    for key, call in cases:
        if key not in left:
            continue
        if time.monotonic() > deadline:
            return
        journal.write(part, "begun", key=key)
        begin = time.monotonic()
        result = attempt(call)
        journal.write(part, "row", key=key, seconds=round(time.monotonic() - begin, 2), **result)
        if "failed" in result and device_is_broken():
            raise SystemExit(BROKEN)


def attempt(call):
    """``values`` of a call, or why it ``failed``; with the warnings that were logged, each once."""
    logged = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: logged.append(record.getMessage())
    handler.addFilter(lambda record: "torchvision" not in record.getMessage())
    logging.getLogger().addHandler(handler)
    try:
        result = {"values": call()}
    except (Exception, SystemExit) as error:
        result = {"failed": sentence_of(error)}
    finally:
        logging.getLogger().removeHandler(handler)
    if logged:
        result["notes"] = [shortened(text) for text in dict.fromkeys(logged)]
    return result


def sentence_of(error):
    """An exception in a line.

    Example
    -------
    >>> sentence_of(ValueError("too short\\nwhere: ..."))
    'ValueError: too short'
    """
    lines = str(error).strip().splitlines() or [""]
    return shortened(f"{type(error).__name__}: {lines[0]}".rstrip(": "))


def shortened(text, length=300):
    """The begin of a text, in one line."""
    text = " ".join(str(text).split())
    return text if len(text) <= length else text[:length] + " ..."


def device_is_broken():
    """Frees what a failed row has left; whether the GPU answers no longer to this process."""
    import torch

    gc.collect()
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception:
        return True
    return False


# ---- in the process that watches


class Watched:
    """The process of a part. It imports what it needs, and then waits for :meth:`supervise`.

    Arguments
    ---------
    part : str
        Its name.
    command : list of str
        Reads a line from its input before it measures: the ``time.time()`` at which it is ended.
    journal : Journal
        Where it writes its rows.
    log : str or Path
        What it prints is appended to this file.
    environment : dict
        Its environment; None: this process's.
    """

    def __init__(self, part, command, journal, log, environment=None):
        self.part, self.command, self.journal, self.log = part, command, journal, log
        self.environment = environment
        self.process = None

    def start(self):
        """Begins the imports."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )

    def kill(self):
        """Ends the process and those that it has started."""
        if self.process is None:
            return
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        with contextlib.suppress(OSError):
            # Also where it has ended by itself: others of its group may be left.
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)

    def supervise(self, seconds, row_seconds):
        """Has the part measured within so many seconds, and each of its rows.

        A row that takes longer, or ends its process, is noted as failed, and a new process goes on
        with the next one.

        Returns
        -------
        str or None
            Why the part has ended too early.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return "its time is over"
            if self.process is None:
                self.start()
            before = len(self.journal.rows(self.part))
            with contextlib.suppress(OSError):
                self.process.stdin.write(f"{time.time() + left}\n".encode())
                self.process.stdin.flush()
            reason = self._wait(deadline, row_seconds)
            self.kill()
            status, self.process = self.process.returncode, None
            if reason is None and status == 0:
                return None
            reason = reason or f"its process has ended with status {status}"
            key = self.journal.open_key(self.part)
            if key is not None:
                self.journal.write(self.part, "row", key=key, failed=reason)
            if not self.journal.missing(self.part):
                # Nothing is left, or it did not get as far as a plan.
                return None if self.journal.missing(self.part) is not None else reason
            if len(self.journal.rows(self.part)) == before:
                return reason

    def _wait(self, deadline, row_seconds):
        """Why the process has to be ended; None if it has ended."""
        size, changed = self._size(), time.monotonic()
        begun = False
        while self.process.poll() is None:
            now = time.monotonic()
            if now > deadline:
                return "its time is over"
            if self._size() != size:
                size, changed, begun = self._size(), now, True
            limit = row_seconds if begun else START_SECONDS
            if now - changed > limit:
                return f"no answer for {limit:g} s"
            time.sleep(LOOK_SECONDS)
        return None

    def _size(self):
        return self.journal.path.stat().st_size if self.journal.path.is_file() else 0
