"""Where the samples of an uncompressed audio file are, and how many bytes its header promises."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from waveglow_vq.audio.headers.spliced_files import patch

_UNKNOWN, _LARGEST = -1, 2**32 - 1
# Bytes that a chunk after the samples may lack.
_CUT_OFF = 2**16


class DataChunk(NamedTuple):
    """The part of a file that holds the samples.

    Arguments
    ---------
    begin : int
        Offset of its first byte.
    promised : int or None
        Its length in bytes by the header; None if the header states that it is unknown.
    corrected : callable
        ``corrected(n)``: the file (see `SplicedFile`) with n bytes in the header.
    begins_chunk : callable
        ``begins_chunk(content, left)``: whether this may be the begin of another chunk, ``left``
        bytes before the end of the file.
    """

    begin: int
    promised: int | None
    corrected: Callable
    begins_chunk: Callable


def find_data(file, size):
    """Finds the samples of a WAV (RIFF, RIFX, RF64), W64, AIFF, CAF or AU file of ``size`` bytes: a
    DataChunk, or None for other files, and for those without a chunk of samples.

    Example
    -------
    >>> import io, soundfile, torch
    >>> file = io.BytesIO()
    >>> soundfile.write(file, torch.zeros(500).numpy(), 8000, format="WAV", subtype="PCM_16")
    >>> find_data(file, 1044)[:2]
    (44, 1000)
    """
    file.seek(0)
    head = file.read(16)
    for magic, find in _KINDS.items():
        if head.startswith(magic):
            return find(file, size)
    return None


def _riff(file, size):
    file.seek(0)
    head = file.read(12)
    if head[8:] != b"WAVE":
        return None
    order = ">" if head[:4] == b"RIFX" else "<"
    chunks = {}
    for name, begin, promised in _chunks(file, 12, order + "4sI", 2):
        chunks[name] = begin, promised
        if name == b"data":
            break
    if b"data" not in chunks:
        return None
    begin, promised = chunks[b"data"]
    lengths, _ = chunks.get(b"ds64", (None, None))  # of RF64: its lengths, of 64 bits
    if lengths is not None and promised == _LARGEST:
        promised = _number(file, lengths + 8, "<Q")

    def corrected(count):
        if lengths is not None:
            return patch(
                size, (lengths + 8, struct.pack("<Q", count)), (begin - 4, b"\xff\xff\xff\xff")
            )
        if count < 2**32 - 2**16 or order == ">":
            return patch(size, (begin - 4, struct.pack(order + "I", min(count, _LARGEST))))
        long = struct.pack("<4sIQQQI", b"ds64", 28, size + 28, count, 0, 0)
        rf64, data = b"RF64\xff\xff\xff\xffWAVE" + long, b"\xff\xff\xff\xff"
        return [rf64, (12, begin - 4), data, (begin, size)]

    return DataChunk(begin, promised, corrected, _chunk_begins(order + "4sI"))


def _in_chunk(first, head, unit, name, before=0, counts_itself=False):
    """How to find the samples of a format with chunks from byte ``first`` on: in the chunk of this
    name, after ``before`` bytes of other fields."""
    form = head[0] + head[-1]
    more = before + counts_itself * struct.calcsize(head)

    def find(file, size):
        for found, begin, promised in _chunks(file, first, head, unit, counts_itself):
            if found.startswith(name):
                known = None if promised == _UNKNOWN else max(0, promised - before)
                corrected = _replace_length(size, begin - struct.calcsize(form), form, more)
                return DataChunk(begin + before, known, corrected, _chunk_begins(head))
        return None

    return find


def _au(file, size):
    file.seek(0)
    order = ">" if file.read(4) == b".snd" else "<"
    begin, promised = _number(file, 4, order + "I"), _number(file, 8, order + "I")
    corrected = _replace_length(size, 8, order + "I", 0)
    return DataChunk(
        begin, None if promised == _LARGEST else promised, corrected, _chunk_begins(order + "4sI")
    )


def _chunks(file, begin, head, unit, counts_itself=False):
    """The chunks of a file: name, where the content begins, and its length."""
    head = struct.Struct(head)
    while True:
        file.seek(begin)
        content = file.read(head.size)
        if len(content) < head.size or not _is_named(content):
            return
        name, length = head.unpack(content)
        if counts_itself:
            length -= head.size
        begin += head.size
        yield name, begin, length
        if length < 0 or begin + length >= 2**62:
            return
        begin += -(-length // unit) * unit


def _is_named(content):
    """Whether it begins like a chunk: with letters or digits, padded with spaces."""
    name = b"".join(content[:4].split()).replace(b"_", b"")
    return len(content) >= 8 and (name.isalnum() or name == b"(c)")


def _chunk_begins(head):
    """``begins_chunk`` of a format: a name, and a length that about fits. Samples of 8 bits may
    look like names, but hardly have both."""
    head = struct.Struct(head)

    def begins(content, left):
        if len(content) < head.size or not _is_named(content):
            return False
        return head.unpack_from(content)[1] <= left + _CUT_OFF

    return begins


def _number(file, at, form):
    file.seek(at)
    content = file.read(struct.calcsize(form))
    return struct.unpack(form, content)[0] if len(content) == struct.calcsize(form) else 0


def _replace_length(size, at, form, more):
    """``corrected`` of a format that states one number, the length of the samples and ``more``."""
    largest = _LARGEST if form.endswith("I") else 2**63 - 1
    return lambda count: patch(size, (at, struct.pack(form, min(count + more, largest))))


_KINDS = {
    b"RIFF": _riff,
    b"RIFX": _riff,
    b"RF64": _riff,
    b"riff\x2e\x91\xcf\x11": _in_chunk(40, "<16sQ", 8, b"data", counts_itself=True),  # W64
    b"FORM": _in_chunk(12, ">4sI", 2, b"SSND", before=8),  # AIFF: an offset, the size of blocks
    b"caff": _in_chunk(8, ">4sq", 1, b"data", before=4),  # CAF: the number of edits
    b".snd": _au,
    b"dns.": _au,
}
