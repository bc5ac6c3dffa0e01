"""Codes as a file: packed, with all that is needed to decode them, and proof against damage.

docs/code_file.md describes the format byte by byte.
"""

import math
import struct
import zlib
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import atomic_write, user_path

import numpy as np
import torch

# The newest; what a file of one codebook is written as is the first, which every reader knows.
VERSION = 2
# What such files are called.
SUFFIX = ".wvq"
# As that of PNG: a transfer that takes the file for text changes one of these bytes.
_MAGIC = b"\x89WVQ\r\n\x1a\n"
# Magic, version, flags, sample rate, samples per code, codebook size, samples, codes, checksum,
# bytes of the model's name.
_HEADER = struct.Struct("<8sHHIIIQQ32sH")
_PITCH = struct.Struct("<IIQ")  # levels, samples per value, values
_STATISTICS = struct.Struct("<ff")
_CHANNELS = struct.Struct("<H")
_CRC = struct.Struct("<I")
_CODEBOOKS = struct.Struct("<H")
_HAS_PITCH, _HAS_STATISTICS, _HAS_VOICE, _HAS_CODEBOOKS = 1, 2, 4, 8
# What each version may have.
_FLAGS = {1: 7, 2: 15}


class CodeFile(NamedTuple):
    """What a code file holds: a recording as a model coded it.

    Arguments
    ---------
    codes : torch.Tensor
        int64 ``[T]``, or ``[T, N]`` of N > 1 codebooks, from 0 to ``codebook_size - 1``.
    samples : int
        Length of the recording at ``sample_rate``; decoding gives as many.
    sample_rate : int
        Of the model, in Hz.
    codebook_size : int
        Number of different codes of a codebook.
    samples_per_code : int
        Samples of waveform for each code.
    model : str
        Name of the model, for people; the checksum is what is compared.
    checksum : str
        Of the model's weights, 64 hexadecimal digits, by
        :func:`~waveglow_vq.utils.files.model_checksum`.
    pitch : torch.Tensor
        int64 ``[P]``: 0 where unvoiced, else 1 to ``pitch_levels``; None for models without pitch
        beside the codes.
    pitch_levels : int
        Values that the pitch is rounded to, beside unvoiced.
    samples_per_pitch : int
        Samples of waveform for each value of ``pitch``.
    f0_statistics : torch.Tensor
        Mean and standard deviation of the natural logarithm of the recording's F0 in Hz, float32
        ``[2]``; None for models without pitch.
    voice : torch.Tensor
        The speaker's vector, float32 ``[C]``, from models that hear it in the recording; else
        None.

    Example
    -------
    >>> code_file = CodeFile(torch.tensor([3, 0, 4, 1]), 1000, 22050, 5, 256, "demo", "0" * 64)
    >>> round(code_file.seconds, 3), round(code_file.bits_per_second)
    (0.045, 265)
    """

    codes: torch.Tensor
    samples: int
    sample_rate: int
    codebook_size: int
    samples_per_code: int
    model: str
    checksum: str
    pitch: torch.Tensor | None = None
    pitch_levels: int = 0
    samples_per_pitch: int = 0
    f0_statistics: torch.Tensor | None = None
    voice: torch.Tensor | None = None

    @property
    def seconds(self):
        """Length of the recording."""
        return self.samples / self.sample_rate

    @property
    def codebooks(self):
        """Indices of each code."""
        return self.codes.shape[1] if self.codes.dim() == 2 else 1

    @property
    def bits_per_second(self):
        """Bits of the packed codes and pitch, without the header, per second of the recording."""
        bits = self.codes.numel() * bits_per_value(self.codebook_size)
        if self.pitch is not None:
            bits += len(self.pitch) * bits_per_value(self.pitch_levels + 1)
        return bits / self.seconds


def bits_per_value(count):
    """Bits that each of ``count`` different values takes in a file: the least whole number that
    suffices, and at least one.

    Example
    -------
    >>> [bits_per_value(count) for count in (1, 2, 500, 512, 513)]
    [1, 1, 9, 9, 10]
    """
    return max(1, (count - 1).bit_length())


def pack_values(values, count):
    """Packs whole numbers ``[T]`` from 0 to ``count - 1``, at most 2^32 of them, the most
    significant bit first, without gaps: ``ceil(T * bits_per_value(count) / 8)`` bytes. What is left
    of the last is zero.

    Example
    -------
    >>> pack_values(torch.tensor([3, 0, 4, 1]), 5).hex()  # 011 000 100 001 and 0000
    '6210'
    """
    wide = np.ascontiguousarray(values.cpu().numpy().astype(">u4")).view(np.uint8).reshape(-1, 4)
    return np.packbits(np.unpackbits(wide, axis=1)[:, 32 - bits_per_value(count) :]).tobytes()


def unpack_values(data, length, count):
    """The inverse of :func:`pack_values`: int64 ``[length]``. Does not look whether the values are
    below ``count``.

    Example
    -------
    >>> unpack_values(bytes.fromhex("6210"), 4, 5).tolist()
    [3, 0, 4, 1]
    """
    bits = bits_per_value(count)
    narrow = np.unpackbits(np.frombuffer(data, np.uint8), count=length * bits).reshape(-1, bits)
    wide = np.zeros((length, 32), np.uint8)
    wide[:, 32 - bits :] = narrow
    return torch.from_numpy(np.packbits(wide, axis=1).view(">u4")[:, 0].astype(np.int64))


def write_code_file(path, code_file):
    """Writes a code file; it appears as a whole or not at all.

    Arguments
    ---------
    path : str or Path
        Where to write; missing folders are made. What is there is replaced.
    code_file : CodeFile
        What to write.

    Raises
    ------
    UserError
        If the values do not fit each other.

    Example
    -------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "clip.wvq"
    >>> codes = torch.tensor([3, 0, 4, 1])
    >>> write_code_file(path, CodeFile(codes, 1000, 22050, 5, 256, "demo", "0" * 64))
    >>> path.stat().st_size, read_code_file(path).codes.tolist()
    (84, [3, 0, 4, 1])
    """
    problem = _problem(code_file)
    if problem:
        raise UserError(f"{path} was not written: {problem}.")
    with atomic_write(path) as part:
        part.write_bytes(_to_bytes(code_file))


def read_code_file(path):
    """Reads a code file and checks all that it says.

    Arguments
    ---------
    path : str or Path
        The file.

    Returns
    -------
    CodeFile

    Raises
    ------
    UserError
        If the file is missing, something else, damaged, cut off, or of a newer version.
    """
    path = user_path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if not data:
        raise UserError(f"{path} is an empty file (0 bytes).")
    if not _MAGIC.startswith(data[: len(_MAGIC)]):
        raise UserError(f"{path} is not a code file; 'waveglow-vq encode' writes such files.")
    # Whatever a later version adds, the magic, the version behind it and the CRC at the end stay.
    end = len(data) - _CRC.size
    if end < len(_MAGIC) + 2 or _CRC.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
        raise UserError(f"{path} is damaged or cut off; copy or download it again.")
    version = int.from_bytes(data[8:10], "little")
    if version > VERSION:
        raise UserError(
            f"{path} is a code file of version {version}, and this version of waveglow-vq "
            f"reads up to version {VERSION}; install a newer one."
        )
    try:
        code_file, problem = _from_bytes(data[:end]), None
    except (struct.error, ValueError) as error:
        problem = str(error)
    problem = problem or _problem(code_file)
    if problem:
        raise UserError(f"{path} is not a valid code file: {problem}; encode it again.")
    return code_file


def _problem(code_file):
    """What is wrong with the values, as part of a sentence, or None."""
    f = code_file
    for name, value, size in (
        ("sample_rate", f.sample_rate, 4),
        ("codebook_size", f.codebook_size, 4),
        ("samples_per_code", f.samples_per_code, 4),
        ("samples", f.samples, 8),
    ):
        if not 1 <= value < 256**size:
            return f"{name} is {value}"
    if len(f.checksum) != 64 or not set(f.checksum) <= set("0123456789abcdef"):
        return f"the checksum is {f.checksum!r}"
    if len(f.model.encode()) >= 2**16:
        return "the model's name is longer than 65535 bytes"
    if f.codes.dim() == 2 and not 1 < f.codebooks < 2**16:
        return f"it has {f.codebooks} codebooks"
    problem = _values_problem("codes", f.codes, f.codebook_size, f.samples_per_code, f.samples)
    if problem or f.pitch is None and f.f0_statistics is None and f.voice is None:
        return problem
    if f.pitch is not None:
        if not 1 <= f.pitch_levels < 2**32 - 1 or not 1 <= f.samples_per_pitch < 2**32:
            return f"pitch has {f.pitch_levels} levels, one for every {f.samples_per_pitch} samples"
        if f.f0_statistics is None:
            return "it has pitch without the statistics of F0"
        problem = _values_problem(
            "pitch", f.pitch, f.pitch_levels + 1, f.samples_per_pitch, f.samples
        )
        if problem:
            return problem
    if f.f0_statistics is not None:
        mean, deviation = f.f0_statistics.tolist()
        if not (math.isfinite(mean) and 0 < deviation < math.inf):
            return f"the statistics of F0 are {mean:g} and {deviation:g}"
    if f.voice is not None and not (0 < len(f.voice) < 2**16 and bool(f.voice.isfinite().all())):
        return "the speaker's vector is empty, too long, or not finite"
    return None


def _values_problem(name, values, count, samples_per_value, samples):
    if not len(values):
        return f"it has no {name}"
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= count:
        return f"{name} lie between {least} and {most}, where 0 to {count - 1} are possible"
    if len(values) * samples_per_value < samples:
        return (
            f"{len(values)} {name}, one for every {samples_per_value} samples, are too few for "
            f"{samples} samples"
        )
    return None


def _to_bytes(f):
    name = f.model.encode()
    flags = (
        _HAS_PITCH * (f.pitch is not None)
        + _HAS_STATISTICS * (f.f0_statistics is not None)
        + _HAS_VOICE * (f.voice is not None)
        + _HAS_CODEBOOKS * (f.codebooks > 1)
    )
    parts = [
        _HEADER.pack(
            _MAGIC,
            VERSION if f.codebooks > 1 else 1,
            flags,
            f.sample_rate,
            f.samples_per_code,
            f.codebook_size,
            f.samples,
            len(f.codes),
            bytes.fromhex(f.checksum),
            len(name),
        ),
        name,
    ]
    if f.codebooks > 1:
        parts.append(_CODEBOOKS.pack(f.codebooks))
    if f.pitch is not None:
        parts.append(_PITCH.pack(f.pitch_levels, f.samples_per_pitch, len(f.pitch)))
    if f.f0_statistics is not None:
        parts.append(_STATISTICS.pack(*f.f0_statistics.tolist()))
    if f.voice is not None:
        parts += [_CHANNELS.pack(len(f.voice)), f.voice.cpu().numpy().astype("<f4").tobytes()]
    parts.append(pack_values(f.codes.flatten(), f.codebook_size))
    if f.pitch is not None:
        parts.append(pack_values(f.pitch, f.pitch_levels + 1))
    data = b"".join(parts)
    return data + _CRC.pack(zlib.crc32(data))


def _from_bytes(data):
    """The inverse of _to_bytes, without the CRC; a ValueError where the bytes do not add up."""
    position = 0

    def take(count):
        nonlocal position
        if count > len(data) - position:
            raise ValueError("it ends too early")
        position += count
        return data[position - count : position]

    def take_values(length, count):
        return unpack_values(take((length * bits_per_value(count) + 7) // 8), length, count)

    _, version, flags, rate, per_code, size, samples, codes, checksum, name = _HEADER.unpack(
        take(_HEADER.size)
    )
    if flags & ~_FLAGS.get(version, 0):
        raise ValueError(f"version {version} has no flags {flags:#x}")
    model = str(take(name), "utf-8")
    levels = per_pitch = pitches = 0
    books = _CODEBOOKS.unpack(take(_CODEBOOKS.size))[0] if flags & _HAS_CODEBOOKS else 1
    pitch = statistics = voice = None
    if flags & _HAS_PITCH:
        levels, per_pitch, pitches = _PITCH.unpack(take(_PITCH.size))
    if flags & _HAS_STATISTICS:
        statistics = torch.tensor(_STATISTICS.unpack(take(_STATISTICS.size)), dtype=torch.float32)
    if flags & _HAS_VOICE:
        channels = _CHANNELS.unpack(take(_CHANNELS.size))[0]
        voice = torch.from_numpy(np.frombuffer(take(4 * channels), "<f4").astype(np.float32))
    values = take_values(codes * books, size)
    codes = values.view(codes, books) if flags & _HAS_CODEBOOKS else values
    if flags & _HAS_PITCH:
        pitch = take_values(pitches, levels + 1)
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes follow its end")
    return CodeFile(
        codes,
        samples,
        rate,
        size,
        per_code,
        model,
        checksum.hex(),
        pitch,
        levels,
        per_pitch,
        statistics,
        voice,
    )
