"""The length of FLAC files: what the header says, and what the last frame says."""

from waveglow_vq.audio.headers.mp3_frames import id3_end
from waveglow_vq.audio.headers.spliced_files import patch

# Bytes at the end of a file that are searched for its last frame.
_TAIL = 2**16


def flac_with_length(file, size, samples):
    """A FLAC file (see `SplicedFile`) with this number of samples in its header, 0 for unknown;
    None for other files."""
    begin, head = _header(file)
    if head is None:
        return None
    # The number has 36 bits.
    number = int.from_bytes(head[21:26], "big") >> 36 << 36 | min(samples, 2**36 - 1)
    return patch(size, (begin + 21, number.to_bytes(5, "big")))


def flac_lengths(file, size):
    """Samples of a FLAC file by its header, and by its last frame; 0 where unknown."""
    _, head = _header(file)
    if head is None:
        return 0, 0
    smallest, largest = (int.from_bytes(head[at : at + 2], "big") for at in (8, 10))
    form = int.from_bytes(head[18:26], "big")  # 20 bits rate, 3 channels, 5 bits, 36 samples
    kind = form >> 41 & 7, form >> 36 & 31
    file.seek(max(0, size - _TAIL))
    # The last frame may be shorter than the longest head.
    tail, there = file.read(_TAIL) + bytes(16), 0
    at = tail.rfind(b"\xff")
    while at >= 0 and not there:
        there = _frame_end(tail[at : at + 16], kind, smallest, largest)
        at = tail.rfind(b"\xff", 0, at)
    return form & 2**36 - 1, there


def _header(file):
    begin = id3_end(file)
    file.seek(begin)
    head = file.read(26)
    return begin, head if head[:4] == b"fLaC" and len(head) == 26 else None


def _frame_end(head, kind, smallest, largest):
    """The sample at which the frame with this head ends; 0 if it is not a frame of this file."""
    if len(head) < 16 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return 0
    is_variable, block, rate = head[1] & 1, head[2] >> 4, head[2] & 15
    channels, bits = head[3] >> 4, (0, 8, 12, 0, 16, 20, 24, 32)[head[3] >> 1 & 7]
    # Two channels may also be coded as one and a difference, in three ways.
    channels = 2 if 8 <= channels <= 10 else channels + 1
    if block == 0 or rate == 15 or channels != kind[0] + 1 or bits not in (0, kind[1] + 1):
        return 0
    ones = 8 - (~head[4] & 255).bit_length()
    if ones in (1, 8):
        return 0
    number = head[4] & (127 >> ones)
    for byte in head[5 : 4 + max(1, ones)]:
        number = number << 6 | byte & 63
    at = 4 + max(1, ones)
    if block in (6, 7):
        samples = int.from_bytes(head[at : at + block - 5], "big") + 1
        at += block - 5
    else:
        samples = 192 if block == 1 else 144 << block if block < 6 else 1 << block
    at += (0, 1, 2, 2)[max(0, rate - 11)]
    if at >= len(head) or _checksum(head[:at]) != head[at] or samples > largest:
        return 0
    return (number if is_variable else number * smallest) + samples


def _checksum(content):
    """CRC-8 with the polynomial 0x07."""
    value = 0
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07 if value & 128 else value << 1) & 255
    return value
