"""Which file each process is reading, known even after it has died.

A process that the system kills, because memory is short, a disk is lost or a decoder crashed, takes
the name of the file with it. So it writes the name down beforehand, in memory that it shares with
the process that started it. Forked, it has that memory; where processes are started in another way,
it is a file's, which :func:`known_here` hands to them.
"""

import contextlib
import functools
import mmap
import multiprocessing
import os
import struct
import tempfile

from torch.utils.data import get_worker_info

# A row for the process itself and one for each of its data loader's. Should two processes share a
# row, the later name stands, with its own process id.
ROWS, WIDTH = 65, 512
_ID = struct.Struct("<q")
_table = mmap.mmap(-1, ROWS * WIDTH)
_file = None


def known_here(then=None):
    """The ``worker_init_fn`` of a data loader, by which this process knows what the loader's
    processes read, however they are started. ``then`` is another ``worker_init_fn``, which is
    called next.

    Example
    -------
    >>> from torch.utils.data import DataLoader
    >>> loader = DataLoader([1, 2], num_workers=1, worker_init_fn=known_here())
    """
    global _table, _file
    if _file is None and multiprocessing.get_start_method() != "fork":
        # Where none can be made, nothing is known of them.
        with contextlib.suppress(OSError):
            file = tempfile.NamedTemporaryFile(prefix="waveglow-vq-reading-")
            file.truncate(ROWS * WIDTH)
            _table, _file = mmap.mmap(file.fileno(), ROWS * WIDTH), file
    return functools.partial(_begin, _file and _file.name, then)


def _begin(name, then, worker):
    global _table
    if name is not None:
        with contextlib.suppress(OSError), open(name, "r+b") as file:
            _table = mmap.mmap(file.fileno(), ROWS * WIDTH)
    if then is not None:
        then(worker)


def note_reading(name):
    """Says what this process is about to read; takes about a microsecond. Of a long name, the end
    is kept.

    Example
    -------
    >>> note_reading("corpus/a.wav")
    >>> being_read([os.getpid()])
    ['corpus/a.wav']
    """
    worker = get_worker_info()
    start = 0 if worker is None else (1 + worker.id % (ROWS - 1)) * WIDTH
    name = name.encode("utf-8", "surrogateescape")[-(WIDTH - _ID.size - 1) :]
    row = _ID.pack(os.getpid()) + name + b"\0"
    _table[start : start + len(row)] = row


def being_read(processes=None):
    """Names of the files that processes were reading last: this process or its data loaders'
    processes, alive or not; where None, all of the latter. A process that read nothing, or of which
    nothing is known, has none.
    """
    names = []
    for start in range(0, ROWS * WIDTH, WIDTH):
        row = _table[start : start + WIDTH]
        process = _ID.unpack_from(row)[0]
        if start > 0 and process > 0 if processes is None else process in processes:
            names.append(row[_ID.size :].split(b"\0", 1)[0].decode("utf-8", "replace"))
    return names
