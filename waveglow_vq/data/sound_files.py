"""Sound files and their headers.

Authors
 * The waveglow-vq developers, 2026
"""

import io
import os
import struct
from typing import NamedTuple

from waveglow_vq.data.reading import note_reading
from waveglow_vq.data.sound_kinds import how_to_convert
from waveglow_vq.errors import UserError
from waveglow_vq.files import user_path

import soundfile

# Sizes that programs put into a WAV header when they write to a pipe and cannot know the length.
_UNKNOWN_WAV_SIZES = (0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF)


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
        If the file is missing, empty, not a sound file, or cut off.

    Example
    -------
    >>> import os, tempfile, torch
    >>> from waveglow_vq.data.audio import write_wav
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> _ = write_wav(path, torch.zeros(100), 22050)
    >>> audio_info(path)
    AudioInfo(sample_rate=22050, num_samples=100, num_channels=1)
    """
    name = sound_name(source)
    note_reading(name)
    try:
        if not isinstance(source, SoundBytes) and not user_path(source).is_file():
            raise UserError(f"{name} does not exist or is not a file.")
        with _opened(source) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            missing = _missing_wav_bytes(file, size)
        if size == 0:
            raise UserError(f"{name} is an empty file (0 bytes).")
        info = soundfile.info(sound_file(source))
    except (OSError, RuntimeError) as error:  # soundfile's own are RuntimeErrors
        problem = f"{name} cannot be read as a sound file: {reason(error)}"
        raise UserError(problem.rstrip(".") + (how_to_convert([name]) or ".")) from error
    if missing:
        raise UserError(
            f"{name} is truncated: its header promises {missing} bytes more than the file has; "
            "copy or download it again."
        )
    if info.frames == 0:
        raise UserError(f"{name} holds no samples.")
    return AudioInfo(info.samplerate, info.frames, info.channels)


def reason(error):
    """What an error of soundfile says, without the file: of one in memory, that is its address,
    which differs each time."""
    return getattr(error, "error_string", error)


def _opened(source):
    """The content of a source of sound as a binary file."""
    file = sound_file(source)
    return file if isinstance(source, SoundBytes) else open(file, "rb")


def _missing_wav_bytes(file, size):
    """How many bytes of its data chunk a WAV file lacks, where it has ``size``; 0 for whole files
    and other formats.

    libsndfile reads a WAV file that was cut off without complaint, as a shorter one.
    """
    header = file.read(12)
    if len(header) < 12 or header[:4] != b"RIFF" or header[8:] != b"WAVE":
        return 0
    while True:
        chunk = file.read(8)
        if len(chunk) < 8:
            return 0
        name, length = struct.unpack("<4sI", chunk)
        if name == b"data":
            if length in _UNKNOWN_WAV_SIZES:
                return 0
            return max(0, file.tell() + length - size)
        # Chunks are padded to an even number of bytes.
        file.seek(length + length % 2, 1)
