"""Reads pieces of plain WAV files fast: those that preparations write, and most others."""

import io
import os
import stat
import struct

from waveglow_vq.audio.sound_files import SoundBytes, sound_name
from waveglow_vq.errors import UserError

import numpy as np

# RIFF, bytes behind; WAVE, fmt with 16 bytes: format, channels, rate, bytes per second, bytes of a
# sample, bits; data, its bytes.
_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")
_SCALE = np.float32(1 / 32768)


class PlainWav:
    """A mono WAV file of 16-bit samples that fill it from the end of the usual header on. To be
    closed, or used as a context.

    Arguments
    ---------
    file : io.FileIO or io.BytesIO
        Its content.
    name : str
        Its name in messages.
    sample_rate, num_samples : int
        By its header.

    Example
    -------
    >>> import os, tempfile, torch
    >>> from waveglow_vq.audio.io import write_wav
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> _ = write_wav(path, torch.full((100,), 0.5), 22050)
    >>> with open_plain_wav(path) as wav:
    ...     wav.num_samples, wav.read(97, 3)
    (100, array([0.5, 0.5, 0.5], dtype=float32))
    """

    def __init__(self, file, name, sample_rate, num_samples):
        self.file, self.name = file, name
        self.sample_rate, self.num_samples = sample_rate, num_samples

    def read(self, begin, count):
        """Samples from ``begin`` on, fp32 in [-1, 1), as soundfile reads them; a UserError if the
        file has become shorter."""
        samples = np.empty(count, "<i2")
        self.file.seek(_HEADER.size + 2 * begin)
        if self.file.readinto(samples) != samples.nbytes:
            raise UserError(f"{self.name}: is truncated; its header promises more samples")
        return np.multiply(samples, _SCALE, dtype=np.float32)

    def close(self):
        """Closes the file."""
        self.file.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def open_plain_wav(source):
    """Opens a path or SoundBytes as a PlainWav. None if it is none, or cannot be read for whatever
    reason: :func:`~waveglow_vq.audio.sound_files.open_sound` reads it then, or says why not.
    """
    try:
        if isinstance(source, SoundBytes):
            file, size = io.BytesIO(source.data), len(source.data)
        else:
            status = os.stat(source)
            if not stat.S_ISREG(status.st_mode):
                return None
            file, size = io.FileIO(source), status.st_size
        header = file.read(_HEADER.size)
    except (OSError, ValueError):
        return None
    if len(header) == _HEADER.size:
        riff, behind, wave, *form, data, length = _HEADER.unpack(header)
        if (riff, wave, data) == (b"RIFF", b"WAVEfmt ", b"data"):
            rate = form[3]
            whole = behind == size - 8 and length == size - _HEADER.size and length % 2 == 0
            if whole and form == [16, 1, 1, rate, 2 * rate, 2, 16] and rate > 0 < length:
                return PlainWav(file, sound_name(source), rate, length // 2)
    file.close()
    return None
