"""Reads a file with some bytes replaced, without a copy."""

import io
import itertools


class SplicedFile(io.RawIOBase):
    """A read-only binary file put together from pieces: bytes, and (begin, end) for a part of
    another file, which is closed with this one.

    Example
    -------
    >>> SplicedFile(io.BytesIO(b"house"), [b"m", (1, 5)]).read()
    b'mouse'
    """

    def __init__(self, file, pieces):
        self.file, self.pieces = file, pieces
        lengths = [
            len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces
        ]
        self.ends = list(itertools.accumulate(lengths))
        self.place = 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.place

    def seek(self, offset, whence=io.SEEK_SET):
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.ends[-1]}[whence]
        # Never an error: soundfile cannot pass one on from a callback of libsndfile.
        self.place = max(0, origin + offset)
        return self.place

    def readinto(self, buffer):
        # In full: unlike other readers of raw files, libsndfile relies on that.
        view, done = memoryview(buffer).cast("B"), 0
        for piece, end in zip(self.pieces, self.ends, strict=True):
            count = min(len(view) - done, end - self.place)
            if count > 0:
                part = self._part(piece, end - self.place, count)
                view[done : done + len(part)] = part
                self.place += len(part)
                done += len(part)
        return done

    def _part(self, piece, left, count):
        """The first ``count`` of the last ``left`` bytes of a piece."""
        if isinstance(piece, bytes):
            return piece[len(piece) - left :][:count]
        self.file.seek(piece[1] - left)
        return self.file.read(count)

    def close(self):
        self.file.close()
        super().close()


def patch(size, *patches):
    """The pieces of a file of ``size`` bytes in which some are replaced, each patch an offset and
    the bytes to put there; patches do not overlap.

    Example
    -------
    >>> patch(9, (4, b"ab"))
    [(0, 4), b'ab', (6, 9)]
    """
    pieces, begin = [], 0
    for at, content in sorted(patches):
        pieces += [(begin, at), content]
        begin = at + len(content)
    return [*pieces, (begin, size)]
