"""Compares the length that the header of an audio file states with the sound that is there."""

from typing import NamedTuple

from waveglow_vq.audio.headers.data_chunks import find_data
from waveglow_vq.audio.headers.flac_frames import flac_lengths, flac_with_length
from waveglow_vq.audio.headers.mp3_frames import count_frames

# A header that promises at most this much too much was miscounted (its own bytes included, say):
# no sound is missing. At 22 kHz and 16 bits it would be 3 ms.
FEW_BYTES = 128
# A number this close to 2^31, 2^32, 2^63 or 2^64 is no length; nor is what SoX writes into AIFF.
PLACEHOLDER_MARGIN = 2**16
_PLACEHOLDERS = *(2**bits for bits in (31, 32, 63, 64)), 0x7F000000
# Pages of an Ogg file: how each begins, bytes of its head and of the largest page, and where the
# head has the number of the stream and the flag of the last page.
_PAGE, _PAGE_HEAD, _LARGEST_PAGE = b"OggS", 27, 65307
_SERIAL, _FLAGS, _IS_LAST = slice(14, 18), 5, 4


class Length(NamedTuple):
    """How a file compares with its header.

    Arguments
    ---------
    pieces : list or None
        The file (see `SplicedFile`) with the right header; None: it is right as it is.
    wrong : str or None
        What is wrong with the header, or the end, of a file that can be read all the same.
    missing : str or None
        How much a truncated file lacks.
    """

    pieces: list | None = None
    wrong: str | None = None
    missing: str | None = None


def true_length(file, size):
    """Compares the length in the header of an audio file with the sound that is there.

    If the header promises more than there is, the file was truncated, except for up to 128 bytes
    (one frame of an MP3 that states no bytes) or a placeholder (a number within 65,536 of 2^31,
    2^32, 2^63 or 2^64): then the header is wrong and nothing is missing. If it promises less, what
    follows is sound too, unless it is another chunk, a tag or a few zeros. An Ogg file promises
    nothing; it was truncated if it ends within a page.

    The ``file`` of ``size`` bytes is WAV (RIFF, RIFX, RF64), W64, AIFF, CAF, AU, FLAC, MP3 or Ogg;
    others are believed.

    Example
    -------
    >>> import io, soundfile, torch
    >>> file = io.BytesIO()
    >>> soundfile.write(file, torch.zeros(500).numpy(), 8000, format="WAV", subtype="PCM_16")
    >>> content = bytearray(file.getvalue())
    >>> content[40:44] = 4 * b"\\xff"
    >>> true_length(io.BytesIO(content), len(content)).wrong
    'its header promises 4294967295 bytes of sound where there are 1000; all of it is read'
    """
    data = find_data(file, size)
    if data is not None:
        return _of_data(file, size, data)
    file.seek(0)
    if file.read(4) == _PAGE:
        return _of_pages(file, size)
    promised, there = flac_lengths(file, size)
    if there > promised > 0:
        # With an unknown length, which makes libsndfile decode all of it.
        return Length(flac_with_length(file, size, 0), _wrong(promised, there, "samples"))
    count = count_frames(file, size)
    return Length() if count is None else _of_frames(count)


def is_placeholder(number):
    """Whether a length is one that programs write when they do not know it.

    Example
    -------
    >>> is_placeholder(0xFFFFFFDB), is_placeholder(0x7FFF0000), is_placeholder(0x7FFEFFFF)
    (True, True, False)
    """
    return any(abs(number - other) <= PLACEHOLDER_MARGIN for other in _PLACEHOLDERS)


def _of_data(file, size, data):
    there, promised = size - data.begin, data.promised
    if there < 0:
        return Length()
    if promised is None:
        return Length(data.corrected(there))
    if promised <= there and not _sound_goes_on(file, data, size):
        return Length()
    missing = promised - there
    if missing > min(FEW_BYTES, there) and not is_placeholder(promised):
        return Length(missing=f"{missing} bytes")
    return Length(data.corrected(there), _wrong(promised, there, "bytes"))


def _sound_goes_on(file, data, size):
    """Whether there is more sound after the end that the header states."""
    end = data.begin + data.promised
    file.seek(end)
    rest = file.read(PLACEHOLDER_MARGIN)
    if not any(rest) and end + len(rest) == size:
        return False
    # Chunks begin at even offsets, but some programs forget the padding.
    padding = end % 2
    return len(rest) > padding and not any(
        data.begins_chunk(more, size - end) or more.startswith((b"TAG", b"ID3", b"APETAGEX"))
        for more in (rest, rest[padding:])
    )


def _of_frames(count):
    if count.promised in (None, count.frames):
        return Length(count.pieces)
    missing = count.promised - count.frames
    if missing > 0 and not is_placeholder(count.promised):
        lost = None if count.promised_bytes is None else count.promised_bytes - count.bytes
        if missing > 1 if lost is None else lost > FEW_BYTES:
            return Length(missing=f"{missing} frames")
    return Length(count.pieces, _wrong(count.promised, count.frames, "frames"))


def _wrong(promised, there, unit):
    counts = f"{promised} {unit} of sound where there are {there}"
    return f"its header promises {counts}; all of it is read"


def _of_pages(file, size):
    """The length of an Ogg file (Vorbis, Opus, FLAC), which only its last page tells."""
    file.seek(0)
    first = file.read(_PAGE_HEAD)
    begin = max(0, size - _LARGEST_PAGE)
    file.seek(begin)
    rest = file.read()
    at = rest.rfind(_PAGE)
    last = rest[at:]
    if at < 0 or len(last) < _PAGE_HEAD or len(last) < _PAGE_HEAD + last[_PAGE_HEAD - 1]:
        return Length(missing="a page")
    segments = last[_PAGE_HEAD : _PAGE_HEAD + last[_PAGE_HEAD - 1]]
    missing = _PAGE_HEAD + len(segments) + sum(segments) - len(last)
    if missing > 0:
        return Length(missing=f"{missing} bytes")
    if first[_SERIAL] != last[_SERIAL]:
        return Length(wrong="it holds several streams, of which only the first is read; split it")
    if not last[_FLAGS] & _IS_LAST:
        return Length(wrong="its last page is missing; everything before it is read")
    return Length()
