"""Counts the frames of MP3 files.

Only the first frame of an MP3 file may state its length (Xing, Info). libmpg123 believes that, or
estimates the length from the size of the first frame, and does not read on beyond it. So the frames
are counted, and the right count is put in.
"""

import functools
import struct
from typing import NamedTuple

from waveglow_vq.audio.headers.spliced_files import patch

# By version (0: MPEG 2.5, 2: MPEG 2, 3: MPEG 1).
_RATES = {0: (11025, 12000, 8000), 2: (22050, 24000, 16000), 3: (44100, 48000, 32000)}
_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBITS_MPEG_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_HAS_FRAMES, _HAS_BYTES, _HAS_PLACES = 1, 2, 4
_EMPTY_TAG = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
# Bytes of junk that are searched for the next frame.
_JUNK = 2**20
# Bytes of the longest frame.
_LONGEST = 2881


class FrameCount(NamedTuple):
    """The frames of an MP3 file.

    Arguments
    ---------
    frames, bytes : int
        What is there, from the first frame on; ``bytes`` includes the frame with the statement.
    promised, promised_bytes : int or None
        What the file states, if it does.
    pieces : list
        The file (see `SplicedFile`) with the right statement, and a tag before it.
    """

    frames: int
    bytes: int
    promised: int | None
    promised_bytes: int | None
    pieces: list


def count_frames(file, size):
    """Counts the frames of an MP3 file (MPEG 1, 2, 2.5, layer III) of ``size`` bytes: a FrameCount,
    or None for other files.

    Example
    -------
    >>> import io
    >>> frame = b"\\xff\\xfb\\x90\\xc4" + bytes(413)  # 128 kbit/s, 44.1 kHz
    >>> count_frames(io.BytesIO(9 * frame), 9 * 417)[:4]
    (9, 3753, None, None)
    """
    tags = id3_end(file)
    begin = _first_frame(file, tags, size)
    if begin is None:
        return None
    first = _read(file, begin, 4)
    frames, end = _count(file, begin, first, size)
    if frames == 0:
        return None
    # Without a tag before the frames, libsndfile goes by the extension, which nothing in memory
    # has, and mistakes some files for other formats.
    tag = b"" if tags else _EMPTY_TAG
    at = _place_of_statement(file, begin, first)
    if at is None:
        new = tag + _new_statement(first, frames, end - begin)
        return FrameCount(frames, end - begin, None, None, [(0, tags), new, (begin, size)])
    frames -= 1
    flags, promised, second = struct.unpack(">3I", _read(file, at + 4, 12))
    promised_bytes = second if flags & _HAS_BYTES else None
    changes = []
    if promised != frames:
        changes.append((at + 8, struct.pack(">I", frames)))
        if promised_bytes is not None:
            changes.append((at + 12, struct.pack(">I", end - begin)))
        # The padding of the last frame: now another frame is the last one.
        lame = at + 8 + 4 * bin(flags & 11).count("1") + 100 * bool(flags & _HAS_PLACES)
        delays = _read(file, lame + 21, 3)
        if _read(file, lame, 4).isalpha() and len(delays) == 3:
            changes.append((lame + 22, bytes([delays[1] & 0xF0, 0])))
    pieces = patch(size, *changes)
    if begin > tags:
        # Without the junk between.
        pieces = [(0, tags), (begin, pieces[0][1]), *pieces[1:]]
    pieces = [tag, *pieces]
    return FrameCount(frames, end - begin, promised, promised_bytes, pieces)


def id3_end(file):
    """Where the tags (ID3v2) at the begin of a file end.

    Example
    -------
    >>> import io
    >>> id3_end(io.BytesIO(b"ID3\\x04\\0\\0\\0\\0\\1\\5" + bytes(133) + b"fLaC"))
    143
    """
    begin = 0
    while (head := _read(file, begin, 10))[:3] == b"ID3" and len(head) == 10:
        # Four bytes of seven bits.
        a, b, c, d = head[6:]
        begin += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 16 else 0)
    return begin


def _read(file, at, count):
    file.seek(at)
    return file.read(count)


@functools.lru_cache(4096)
def _frame(header):
    """Length of a frame in bytes, and what all frames of a file have in common; None if this is no
    header of layer III."""
    if len(header) < 4 or header[0] != 255 or header[1] & 0b11100110 != 0b11100010:
        return None
    version, kbits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return None
    table, scale = (_KBITS_MPEG_1, 144_000) if version == 3 else (_KBITS, 72_000)
    length = scale * table[kbits] // _RATES[version][rate] + (header[2] >> 1 & 1)
    return length, (version, rate, _is_mono(header))


def _is_mono(header):
    return header[3] >> 6 == 3


def _is_followed(file, begin, header, size):
    """Whether another frame of the kind follows, or the end."""
    length, kind = _frame(header)
    after = _frame(_read(file, begin + length, 4))
    return after[1] == kind if after else begin + length >= size


def _are_followed(file, place, size, more):
    """Whether ``more`` frames in a row begin here, each followed by another one or the end."""
    for _ in range(more):
        header = _read(file, place, 4)
        found = _frame(header)
        if not found or not _is_followed(file, place, header, size):
            return place >= size
        place += found[0]
    return True


def _count(file, begin, first, size):
    """Whole frames, and where the last one, whole or not, ends."""
    kind, frames, place = _frame(first)[1], 0, begin
    while place < size:
        found = _frame(_read(file, place, 4))
        if found and found[1] == kind:
            if place + found[0] > size:
                return frames, size
            place += found[0]
            frames += 1
        elif (further := _next_frame(file, place + 1, kind, size)) is None:
            break
        else:
            place = further
    return frames, place


def _first_frame(file, begin, size):
    """Where the first frame begins: at once, or (in recorded streams, and after tags that state too
    small a length) after some zeros or less than two frames, if several frames follow."""
    first = _read(file, begin, 4)
    if _frame(first):
        return begin if _is_followed(file, begin, first, size) else None
    content = _read(file, begin, _JUNK)
    zeros = len(content) - len(content.lstrip(b"\0"))
    place = _next_frame(file, begin + zeros, None, size, 4)
    return None if place is None or place > begin + zeros + 2 * _LONGEST else place


def _next_frame(file, place, kind, size, more=1):
    """Where, after junk, a frame begins that ``more`` frames of its kind, or the end, follow; None
    if there is none."""
    content = _read(file, place, _JUNK)
    at = content.find(b"\xff")
    while at >= 0:
        header = content[at : at + 4]
        found = _frame(header)
        if found and kind in (None, found[1]) and _are_followed(file, place + at, size, more):
            return place + at
        at = content.find(b"\xff", at + 1)
    return None


def _side_bytes(header):
    if header[1] >> 3 & 3 == 3:
        return 17 if _is_mono(header) else 32
    return 9 if _is_mono(header) else 17


def _place_of_statement(file, begin, first):
    """Where the statement of the number of frames begins, None if there is none."""
    at = begin + 4 + _side_bytes(first)
    head = _read(file, at, 16)
    has_frames = len(head) == 16 and head[7] & _HAS_FRAMES
    return at if head[:4] in (b"Xing", b"Info") and has_frames else None


def _new_statement(first, frames, size):
    """A silent frame that states how many others there are."""
    numbers = struct.pack(">4s3I", b"Info", _HAS_FRAMES | _HAS_BYTES, frames, 0)
    for kbits in range(1, 15):
        header = bytes([255, first[1] | 1, kbits << 4 | first[2] & 12, first[3]])
        length = _frame(header)[0]
        content = header + bytes(_side_bytes(first)) + numbers
        if len(content) <= length:
            break
    content = content[:-4] + struct.pack(">I", size + length)
    return content.ljust(length, b"\0")
