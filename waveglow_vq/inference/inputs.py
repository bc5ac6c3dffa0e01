"""Checks of what users pass to interfaces: arrays and tensors of any kind, numbers, audio files."""

import math
import os
from pathlib import Path

from waveglow_vq.audio.sound_files import SoundBytes, check_peak
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path
from waveglow_vq.utils.masking import fill_padding

import numpy as np
import torch

# Integers of sound as files have them: what full scale is, and where zero is.
_FULL_SCALE = {
    torch.uint8: (2.0**7, 2**7),
    torch.int8: (2.0**7, 0),
    torch.int16: (2.0**15, 0),
    torch.int32: (2.0**31, 0),
}


def as_numbers(option, values):
    """Arrays, lists and tensors of numbers as a tensor in their type, whatever their byte order and
    strides. If they are no numbers, a UserError names the option.

    Example
    -------
    >>> as_numbers("codes", np.array([3, 1, 2], dtype=">i2")[::-1])
    tensor([2, 1, 3], dtype=torch.int16)
    """
    if isinstance(values, torch.Tensor):
        return values
    try:
        array = np.asarray(values)
    except Exception as error:  # lists of tensors that are on a GPU, or differ in length
        reason = str(error).partition("\n")[0]
        raise UserError(f"{option}: expected an array of numbers, {reason}") from error
    kind = array.dtype.kind
    if kind not in "fiub":
        raise UserError(f"{option}: expected an array of numbers, got {_kind_of(values, array)}")
    if kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _kind_of(values, array):
    if isinstance(values, np.ndarray):
        return f"one of {array.dtype}"
    return f"{type(values).__name__}" if array.ndim == 0 else f"a {type(values).__name__} of others"


def as_waveforms(option, values, device):
    """Waveforms of any shape as float32 on a device, full scale 1.

    Integers (uint8, int16 or int32) are scaled by their type, as sound files are; others, whose
    full scale is unknown, are a UserError that names the option.

    Example
    -------
    >>> as_waveforms("wavs", np.array([[0, -16384]], dtype=np.int16), "cpu")
    tensor([[ 0.0000, -0.5000]])
    """
    wavs = as_numbers(option, values)
    given = getattr(values, "dtype", wavs.dtype)
    if wavs.dtype in _FULL_SCALE:
        scale, zero = _FULL_SCALE[wavs.dtype]
        wavs = (wavs.to(torch.float32) - zero) / scale
    elif not wavs.is_floating_point():
        raise UserError(
            f"{option}: {str(given).removeprefix('torch.')} has no full scale; give samples "
            "as floats in [-1, 1], or as int16, int32 or uint8, which are scaled by their type"
        )
    return wavs.to(torch.float32).to(device)


def check_samples(option, wavs):
    """A UserError if waveforms hold NaN or infinity, or are no waveforms at full scale 1."""
    if not bool(torch.isfinite(wavs).all()):
        raise UserError(f"{option}: the samples hold NaN or infinity")
    check_peak(option, float(wavs.abs().max()))


def as_number(option, value):
    """A finite number of at least 0, as a float; a UserError if it is none.

    Example
    -------
    >>> as_number("sigma", "0.8")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: sigma: '0.8'; it must be a number of at least 0
    """
    # Strings and booleans convert to floats too, but are mistakes.
    fits = hasattr(value, "__float__") and not isinstance(value, (str, bytes, bool, np.bool_))
    try:
        fits = fits and 0 <= float(value) < math.inf
    except (TypeError, ValueError, RuntimeError, OverflowError):
        fits = False
    if not fits:
        shown = repr(value) if isinstance(value, (str, bytes)) else value
        raise UserError(f"{option}: {shown}; it must be a number of at least 0")
    return float(value)


def as_sound(source, option="path"):
    """An audio file as what reads it takes it, a Path or SoundBytes.

    It is a path, in which ``~`` is the user's folder, or an open file such as ``io.BytesIO``, which
    is read from beginning to end. All else is a UserError that names the option.

    Example
    -------
    >>> import io
    >>> as_sound(io.BytesIO(b"RIFF"))
    SoundBytes(name='path (BytesIO)', data=b'RIFF')
    """
    if isinstance(source, SoundBytes):
        return source
    if isinstance(source, (str, os.PathLike)):
        return as_path(option, source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return SoundBytes(f"{option} (bytes)", bytes(source))
    if hasattr(source, "read"):
        if getattr(source, "seekable", bool)():
            source.seek(0)
        data = source.read()
        if isinstance(data, bytes):
            return SoundBytes(_file_name(option, source), data)
    raise UserError(
        f"{option}: expected a path, or a file that is open for reading bytes, got "
        f"{type(source).__name__}"
    )


def _file_name(option, file):
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"{option} ({type(file).__name__})"


def as_path(option, path):
    """A path, with ``~`` as the user's folder; a UserError for other types.

    Example
    -------
    >>> as_path("output_path", 3)
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: output_path: expected a path, got int
    """
    if not isinstance(path, (str, Path)):
        raise UserError(f"{option}: expected a path, got {type(path).__name__}")
    return user_path(path)


def as_generator(generator):
    """A seed, a ``torch.Generator`` or None; anything else is an error."""
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if isinstance(generator, bool) or not hasattr(generator, "__index__"):
        raise UserError(f"generator: {generator!r} is neither a seed nor a torch.Generator")
    seed = int(generator)
    if not -(2**63) <= seed < 2**64:
        raise UserError(f"generator: {seed}; a seed has 64 bits, from -2**63 to 2**64 - 1")
    return seed


def as_count(option, count, least):
    """A whole number of at least ``least`` as an int; else a UserError."""
    if isinstance(count, bool) or not hasattr(count, "__index__") or int(count) < least:
        raise UserError(f"{option}: {count!r}; it must be a whole number of at least {least}")
    return int(count)


def item_counts(option, lengths, batch, total):
    """Frames or samples of each item of a padded batch, int64 ``[batch]``.

    In ``lengths`` ``[batch]`` whole numbers count; fractions in (0, 1] are relative to ``total``,
    as SpeechBrain's lengths are. None: nothing is padded. Errors name the option.

    Example
    -------
    >>> item_counts("mel_lens", torch.tensor([50, 100]), 2, 100)
    tensor([ 50, 100])
    >>> item_counts("wav_lens", torch.tensor([0.5, 1.0]), 2, 100)
    tensor([ 50, 100])
    """
    if lengths is None:
        return torch.full((batch,), total)
    counts = as_numbers(option, lengths).detach().cpu().flatten()
    if counts.shape != (batch,):
        raise UserError(f"{option}: {counts.numel()} lengths for a batch of {batch}")
    if counts.is_floating_point():
        if counts.dtype.itemsize < 4:
            raise UserError(
                f"{option}: {str(counts.dtype).removeprefix('torch.')} cannot tell {total} lengths "
                "apart; give whole numbers, or fp32"
            )
        # A relative length of 1 and a count of 1 look alike; a batch of one-frame items is
        # not what anybody decodes.
        counts = counts.double()
        counts = (counts * total if bool((counts <= 1).all()) else counts).round()
    if not bool(((counts >= 1) & (counts <= total)).all()):
        raise UserError(f"{option}: {lengths} does not fit a batch that is {total} long")
    return counts.long()


def as_wav_batch(wavs, wav_lens, min_samples, device):
    """A padded batch of waveforms ``[B, N]`` on a device, zero where padded, and the samples of
    each, int64 ``[B]``.

    They are given as for :func:`as_waveforms` and :func:`item_counts`. A UserError says that they
    are of another shape, shorter than ``min_samples``, or hold NaN.
    """
    wavs = as_waveforms("wavs", wavs, device)
    if wavs.dim() == 3 and wavs.shape[1] == 1:
        wavs = wavs[:, 0]
    if wavs.dim() != 2 or not wavs.shape[0]:
        hint = "; a single waveform is wav[None]" if wavs.dim() == 1 else ""
        raise UserError(f"wavs: expected [batch, samples], got {list(wavs.shape)}{hint}")
    if wavs.shape[1] < min(min_samples, wavs.shape[0]):
        raise UserError(
            f"wavs: expected [batch, samples], got {list(wavs.shape)}; it seems to be "
            "[samples, channels]: take one channel, wavs[:, 0][None]"
        )
    counts = item_counts("wav_lens", wav_lens, *wavs.shape).to(device)
    if int(counts.min()) < min_samples:
        raise UserError(
            f"wavs: the shortest has {int(counts.min())} samples where at least {min_samples} are "
            "needed"
        )
    wavs = fill_padding(wavs, counts, 0.0)
    check_samples("wavs", wavs)
    return wavs, counts


def as_codes(option, codes, codebook_size, device):
    """Codes of any shape as int64 on a device, -1 where padded; a UserError if they are none of the
    codebook."""
    codes = as_numbers(option, codes).to(device)
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise UserError(f"{option}: expected whole numbers, got {codes.dtype}")
    codes = codes.long()
    if codes.numel() and (int(codes.min()) < -1 or int(codes.max()) >= codebook_size):
        raise UserError(
            f"{option}: they lie between {int(codes.min())} and {int(codes.max())}, but this "
            f"model has codes 0 to {codebook_size - 1}, and -1 for padding"
        )
    return codes


def as_code_batch(codes, codebook_size, device, codebooks=1):
    """Codes ``[B, T]``, of several codebooks ``[B, T, N]``, padded at the end only, and how many
    each item has, ``[B]``."""
    codes = as_numbers("codes", codes)
    own = [codebooks] if codebooks > 1 else []
    if codes.dim() != 2 + len(own) or list(codes.shape[2:]) != own or 0 in codes.shape:
        wanted = ", ".join(["batch", "codes", *map(str, own)])
        raise UserError(f"codes: expected [{wanted}], got {list(codes.shape)}")
    codes = as_codes("codes", codes, codebook_size, device)
    present = codes.reshape(*codes.shape[:2], -1) >= 0
    counts = present[..., 0].sum(1)
    if int(counts.min()) == 0:
        raise UserError("codes: an item of the batch has no codes, only padding")
    at_end = torch.arange(codes.shape[1], device=codes.device) < counts[:, None]
    if not bool((at_end[..., None] == present).all()):
        raise UserError("codes: padding (-1) must be at the end of an item, not within it")
    return codes, counts
