"""Opens audio files and reads their headers, whether the headers are right or wrong."""

import contextlib
import functools
import io
import logging
import os
from typing import NamedTuple

from waveglow_vq.audio.formats import how_to_convert
from waveglow_vq.audio.headers.flac_frames import flac_with_length
from waveglow_vq.audio.headers.spliced_files import SplicedFile
from waveglow_vq.audio.headers.true_length import true_length
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path
from waveglow_vq.utils.read_tracking import note_reading

import numpy as np
import soundfile

logger = logging.getLogger(__name__)

# Rates in Hz. A file at a rate below that of any speech lasts an hour at most: with a damaged
# header, seconds would become days.
_MOST_RATE, _LEAST_RATE, _MOST_HOURS = 768_000, 1000, 1
# Full scale is 1, and some recordings exceed it; samples far beyond are on another scale.
LARGEST_SAMPLE = 4.0
# libsndfile states a length near 2^63 where it does not know it.
_UNKNOWN_FRAMES = 2**62
# Samples that are decoded at once.
_BLOCK = 2**16
# Soundfile raises RuntimeErrors; numbers out of range raise the others.
_ERRORS = OSError, RuntimeError, TypeError, OverflowError, MemoryError


class SoundBytes(NamedTuple):
    """An audio file in memory, which can be read wherever a path can.

    Arguments
    ---------
    name : str
        Its name in messages.
    data : bytes
        The content of the file.
    """

    name: str
    data: bytes


def sound_name(source):
    """The name of a source in messages: its path, or the name of SoundBytes."""
    return source.name if isinstance(source, SoundBytes) else str(source)


def sound_file(source):
    """What soundfile can open: the path of a source, or a file in memory."""
    if isinstance(source, SoundBytes):
        return io.BytesIO(source.data)
    return os.fsencode(user_path(source))  # names need not be UTF-8


class AudioInfo(NamedTuple):
    """What the header of an audio file states.

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
    """Reads the AudioInfo of an audio file and checks that the file is whole.

    The number of samples is what the file really has. If the header promises another one, because
    the program that wrote it did not know or miscounted, a warning says so; for how such files are
    told from truncated ones, see :func:`~waveglow_vq.audio.headers.true_length.true_length`. A FLAC
    file without a length is decoded to find it, in little memory.

    Any format that libsndfile reads will do (WAV, FLAC, OGG, ...). A UserError says that the file
    is missing, empty, truncated, not an audio file, or at an impossible rate.

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
        info = info._replace(num_samples=_count_samples(source))
    if info.num_samples == 0:
        raise UserError(f"{name} holds no samples.")
    if not 1 <= info.sample_rate <= _MOST_RATE:
        raise UserError(
            f"{name} has a sample rate of {info.sample_rate} Hz, which is not from 1 to "
            f"{_MOST_RATE} Hz; its header is damaged: rewrite it with the right rate."
        )
    hours = info.num_samples / info.sample_rate / 3600
    if info.sample_rate < _LEAST_RATE and hours > _MOST_HOURS:
        raise UserError(
            f"{name} has a sample rate of {info.sample_rate} Hz, at which it lasts {hours:.4g} "
            "hours; its header is probably wrong: rewrite it with the right rate."
        )
    return info


@contextlib.contextmanager
def open_sound(source, forward=False):
    """Opens an audio file as if its header had the right length, as a ``soundfile.SoundFile``.

    With ``forward`` it is read from begin to end, without seeking; its ``frames`` may then be near
    2^63, which means unknown. A UserError says that the file is missing, empty, truncated or not an
    audio file, or cannot be decoded while it is open.

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
            problem = f"{name} cannot be read as an audio file: {reason(error)}"
            raise UserError(problem.rstrip(".") + (how_to_convert([name]) or ".")) from error
        try:
            yield file
        except _ERRORS as error:
            raise UserError(
                f"{name} cannot be decoded; it may be truncated: {reason(error)}"
            ) from error


def _open_corrected(source, forward, opened):
    name, kind = sound_name(source), _ForwardFile if forward else soundfile.SoundFile
    content = opened.enter_context(_open(source))
    size = content.seek(0, io.SEEK_END)
    if size == 0:
        raise UserError(f"{name} is an empty file (0 bytes).")
    length = true_length(content, size)
    if length.missing:
        raise UserError(
            f"{name} is truncated: its header promises {length.missing} more than the file has; "
            "copy or download it again, or if this is all there is, rewrite its header: "
            "ffmpeg -i OLD NEW."
        )
    if length.wrong:
        warn_once(f"{name}: {length.wrong}.")

    def as_if(pieces):
        if pieces is None and not isinstance(source, SoundBytes):
            return opened.enter_context(kind(sound_file(source)))
        # Also if all of it is in memory: in damaged files libsndfile seeks to negative offsets.
        spliced = opened.enter_context(SplicedFile(content, pieces or [(0, size)]))
        return opened.enter_context(kind(spliced))

    file = as_if(length.pieces)
    if not forward and file.frames >= _UNKNOWN_FRAMES:
        file = as_if(flac_with_length(content, size, _count_samples(source)))
    return file


class _ForwardFile(soundfile.SoundFile):
    """Soundfile seeks after each block that it reads, which restarts decoders and fails where
    libsndfile does not know the length; but not in files that say that they cannot seek."""

    def seekable(self):
        return False


def _count_samples(source):
    """The number of samples of a file, which only decoding can tell."""
    if isinstance(source, SoundBytes):
        return _count(source)
    status = os.stat(user_path(source))
    return _count_once(str(source), status.st_size, status.st_mtime_ns)


@functools.lru_cache(4096)
def _count_once(path, size, time):
    return _count(path)


def _count(source):
    block, samples = None, 0
    with open_sound(source, forward=True) as file:
        block = np.empty((_BLOCK, file.channels), np.float32)
        while count := len(file.read(out=block)):
            samples += count
    return samples


def check_peak(name, peak):
    """Raises a UserError if the largest magnitude of a file's samples is beyond 4.

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
    """Warns of a file once, however often it is read."""
    logger.warning("%s", text)


def reason(error):
    """The message of soundfile without the file, which for one in memory is an address."""
    return getattr(error, "error_string", error)


def _open(source):
    """The content of a source as a binary file."""
    file = sound_file(source)
    return file if isinstance(source, SoundBytes) else open(file, "rb")
