"""A journal of what is finished, so that work that was interrupted resumes where it stopped."""

import contextlib
import hashlib
import json
from pathlib import Path

from waveglow_vq.utils.files import atomic_write


def json_digest(content, **options):
    """SHA-256 of anything that JSON can hold, in hex: a key that changes when the content does.

    Example
    -------
    >>> json_digest(["a", 1])[:8]
    '2657442b'
    """
    return hashlib.sha256(json.dumps(content, **options).encode()).hexdigest()


class Journal:
    """A file with a line of JSON, ``[name, *values]``, for each finished item; the last line about
    an item counts. Lines that are damaged, as the last one of a killed process, are skipped. The
    file is made when the journal is opened with ``with``.

    Example
    -------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "done.jsonl"
    >>> with Journal(path) as journal:
    ...     journal.add("a", "key", 12)
    >>> Journal(path).entries
    {'a': ['key', 12]}
    """

    def __init__(self, path):
        self.path, self.entries = Path(path), {}
        text = ""
        with contextlib.suppress(OSError):
            text = self.path.read_text("utf-8", errors="replace")
        self._is_cut_off = bool(text) and not text.endswith("\n")
        for line in text.split("\n"):
            with contextlib.suppress(ValueError, TypeError):
                name, *values = json.loads(line)
                self.entries[name] = values

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._output = open(self.path, "a", encoding="utf-8")
        if self._is_cut_off:
            self._output.write("\n")
        return self

    def __exit__(self, *_):
        self._output.close()

    def add(self, name, *values):
        """Notes an item as finished."""
        self.entries[name] = list(values)
        self._output.write(json.dumps([name, *values]) + "\n")
        self._output.flush()

    def rewrite(self, entries):
        """Replaces the file by one of these entries."""
        self.entries, self._is_cut_off = dict(entries), False
        lines = [json.dumps([name, *values]) + "\n" for name, values in entries.items()]
        with atomic_write(self.path) as part:
            part.write_text("".join(lines), "utf-8")
