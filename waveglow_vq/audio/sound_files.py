"""Sound files and their headers.

Authors
 * The waveglow-vq developers, 2026
"""

import contextlib
import functools
import io
import logging
import os
from typing import NamedTuple

from waveglow_vq.audio.headers.flac_frames import flac_with_length
from waveglow_vq.audio.headers.kinds import how_to_convert
from waveglow_vq.audio.headers.spliced_files import SplicedFile
from waveglow_vq.audio.headers.true_length import true_length
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path
from waveglow_vq.utils.read_tracking import note_reading

import numpy as np
import soundfile

logger = logging.getLogger(__name__)

# Rates in Hz. A file at less than the least one that speech has is an hour long at most: with a
# damaged header, seconds would become days.
_MOST_RATE, _LEAST_RATE, _MOST_HOURS = 768_000, 1000, 1
# Full scale is 1, and louder recordings exist; what is far beyond is on another scale.
LARGEST_SAMPLE = 4.0
# A length that libsndfile does not know is near to 2^63.
_UNKNOWN_FRAMES = 2**62
# Samples that are decoded at once.
_BLOCK = 2**16
# Those of soundfile are RuntimeErrors; numbers that do not fit raise the others.
_ERRORS = OSError, RuntimeError, TypeError, OverflowError, MemoryError


class SoundBytes(NamedTuple):
    """A whole sound file in memory. Whatever reads sound here takes it in the place of a path.

    Arguments
    ---------
    name : str
        What messages call it.
    data : bytes
        The content of the file.
    """

    name: str
    data: bytes


def sound_name(source):
    """What messages call a source of sound: its path, or the name of SoundBytes."""
    return source.name if isinstance(source, SoundBytes) else str(source)


def sound_file(source):
    """What soundfile reads a source from: its path, or a file in memory."""
    if isinstance(source, SoundBytes):
        return io.BytesIO(source.data)
    return os.fsencode(user_path(source))  # names need not be UTF-8


class AudioInfo(NamedTuple):
    """What the header of a sound file says.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    num_samples : int
        Samples per channel.
    num_channels : int
        1 for mono.
    """

    sample_rate: int
    num_samples: int
    num_channels: int


def audio_info(source):
    """Reads the header of a sound file and checks that the file is whole.

    The number of samples is that of the sound which is there. Where a header promises another one,
    because the program that wrote it did not know or miscounted, a line in the log says so; see
    :func:`~waveglow_vq.audio.headers.true_length.true_length` for how such files are told from
    those that were cut off. A FLAC file without a length is decoded to know it, in little memory.

    Arguments
    ---------
    source : str, Path or SoundBytes
        Any format that libsndfile reads (WAV, FLAC, OGG, ...).

    Returns
    -------
    AudioInfo

    Raises
    ------
    UserError
        If the file is missing, empty, not a sound file, cut off, or at a rate that cannot be.

    Example
    -------
    >>> import os, tempfile, torch
    >>> from waveglow_vq.audio.io import write_wav
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> _ = write_wav(path, torch.zeros(100), 22050)
    >>> audio_info(path)
    AudioInfo(sample_rate=22050, num_samples=100, num_channels=1)
    """
    name = sound_name(source)
    note_reading(name)
    with open_sound(source, forward=True) as file:
        info = AudioInfo(file.samplerate, file.frames, file.channels)
    if info.num_samples >= _UNKNOWN_FRAMES:
        info = info._replace(num_samples=_decoded_length(source))
    if info.num_samples == 0:
        raise UserError(f"{name} holds no samples.")
    if not 1 <= info.sample_rate <= _MOST_RATE:
        raise UserError(
            f"{name} has a sample rate of {info.sample_rate} Hz, and from 1 to {_MOST_RATE} Hz can "
            "be read; its header is damaged: write it with the right rate."
        )
    hours = info.num_samples / info.sample_rate / 3600
    if info.sample_rate < _LEAST_RATE and hours > _MOST_HOURS:
        raise UserError(
            f"{name} has a sample rate of {info.sample_rate} Hz, at which it lasts {hours:.4g} "
            "hours; its header is likely wrong: write it with the right rate."
        )
    return info


@contextlib.contextmanager
def open_sound(source, forward=False):
    """Opens a sound file, as if its header had the right length.

    Arguments
    ---------
    source : str, Path or SoundBytes
        The sound file.
    forward : bool
        Whether it is read from begin to end, never searched; its ``frames`` may be near to 2^63
        then, where nobody knows them.

    Yields
    ------
    soundfile.SoundFile

    Raises
    ------
    UserError
        If the file is missing, empty, not a sound file, or cut off, or cannot be decoded while it
        is open.

    Example
    -------
    >>> import os, tempfile, torch
    >>> from waveglow_vq.audio.io import write_wav
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> _ = write_wav(path, torch.zeros(100), 22050)
    >>> with open_sound(path) as file:
    ...     file.seek(70), len(file.read(50))
    (70, 30)
    """
    name = sound_name(source)
    with contextlib.ExitStack() as opened:
        try:
            if not isinstance(source, SoundBytes) and not user_path(source).is_file():
                raise UserError(f"{name} does not exist or is not a file.")
            file = _open_corrected(source, forward, opened)
        except _ERRORS as error:
            problem = f"{name} cannot be read as a sound file: {reason(error)}"
            raise UserError(problem.rstrip(".") + (how_to_convert([name]) or ".")) from error
        try:
            yield file
        except _ERRORS as error:
            raise UserError(
                f"{name} cannot be decoded, perhaps it is truncated: {reason(error)}"
            ) from error


def _open_corrected(source, forward, opened):
    name, kind = sound_name(source), _ForwardFile if forward else soundfile.SoundFile
    content = opened.enter_context(_opened(source))
    size = content.seek(0, io.SEEK_END)
    if size == 0:
        raise UserError(f"{name} is an empty file (0 bytes).")
    length = true_length(content, size)
    if length.missing:
        raise UserError(
            f"{name} is truncated: its header promises {length.missing} more than the file has; "
            "copy or download it again, or if there is no more of it, write it with a new header: "
            "ffmpeg -i OLD NEW."
        )
    if length.wrong:
        warn_once(f"{name}: {length.wrong}.")

    def as_if(pieces):
        if pieces is None and not isinstance(source, SoundBytes):
            return opened.enter_context(kind(sound_file(source)))
        # In memory as a whole, too: libsndfile seeks to negative places in files that are damaged.
        spliced = opened.enter_context(SplicedFile(content, pieces or [(0, size)]))
        return opened.enter_context(kind(spliced))

    file = as_if(length.pieces)
    if not forward and file.frames >= _UNKNOWN_FRAMES:
        file = as_if(flac_with_length(content, size, _decoded_length(source)))
    return file


class _ForwardFile(soundfile.SoundFile):
    """Soundfile searches after each block that it reads, which makes decoders begin anew, and fails
    where libsndfile does not know the length; but not in files that cannot be searched."""

    def seekable(self):
        return False


def _decoded_length(source):
    """Samples of a file that only decoding tells."""
    if isinstance(source, SoundBytes):
        return _decode_length(source)
    status = os.stat(user_path(source))
    return _known_length(str(source), status.st_size, status.st_mtime_ns)


@functools.lru_cache(4096)
def _known_length(path, size, time):
    return _decode_length(path)


def _decode_length(source):
    block, samples = None, 0
    with open_sound(source, forward=True) as file:
        block = np.empty((_BLOCK, file.channels), np.float32)
        while count := len(file.read(out=block)):
            samples += count
    return samples


def check_peak(name, peak):
    """Raises a UserError if the largest sample of a file, without its sign, is beyond 4.

    Example
    -------
    >>> check_peak("a.wav", 31021.0)
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: a.wav has samples up to 31021, where full scale is 1: perhaps
    integers of 16 bits stored as floats; divide them by 32768.
    """
    if peak > LARGEST_SAMPLE:
        bits = next((bits for bits in (16, 24) if peak <= 2 ** (bits - 1)), 32)
        raise UserError(
            f"{name} has samples up to {peak:.6g}, where full scale is 1: perhaps integers of "
            f"{bits} bits stored as floats; divide them by {2 ** (bits - 1)}."
        )


@functools.lru_cache(4096)
def warn_once(text):
    """Says in the log what is wrong with a file, however often it is read."""
    logger.warning("%s", text)


def reason(error):
    """What an error of soundfile says, without the file: of one in memory, that is its address,
    which differs each time."""
    return getattr(error, "error_string", error)


def _opened(source):
    """The content of a source of sound as a binary file."""
    file = sound_file(source)
    return file if isinstance(source, SoundBytes) else open(file, "rb")
