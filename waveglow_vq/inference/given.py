"""What people hand to interfaces: arrays and tensors of any kind, numbers, sound files.

Authors
 * The waveglow-vq developers, 2026
"""

import math
import os
from pathlib import Path

from waveglow_vq.audio.sound_files import SoundBytes, check_peak
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path

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
    """Arrays, lists and tensors of numbers as a tensor, whatever their byte order and strides.

    Arguments
    ---------
    option : str
        What messages call it.
    values : torch.Tensor, numpy.ndarray or list
        Numbers.

    Returns
    -------
    torch.Tensor
        In the type of the numbers.

    Raises
    ------
    UserError
        If they are none.

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
        raise UserError(f"{option}: expected an array of numbers, {_first_line(error)}") from error
    kind = array.dtype.kind
    if kind not in "fiub":
        raise UserError(f"{option}: expected an array of numbers, got {_described(values, array)}")
    if kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _described(values, array):
    if isinstance(values, np.ndarray):
        return f"one of {array.dtype}"
    return f"{type(values).__name__}" if array.ndim == 0 else f"a {type(values).__name__} of others"


def _first_line(error):
    return str(error).partition("\n")[0]


def as_waveforms(option, values, device):
    """Waveforms as float32 on a device, full scale 1: integers are scaled by their type, as sound
    files are.

    Arguments
    ---------
    option : str
        What messages call it.
    values : torch.Tensor, numpy.ndarray or list
        Floats, or uint8, int16 or int32; any shape.
    device : str or torch.device
        Where the result goes.

    Returns
    -------
    torch.Tensor
        float32, of the same shape.

    Raises
    ------
    UserError
        If they are integers of another type: nobody knows what full scale is.

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
    waveglow_vq.errors.UserError: sigma: '0.8'; it has to be a number of at least 0
    """
    # Texts and truth values convert to floats too, but nobody means them as such.
    fits = hasattr(value, "__float__") and not isinstance(value, (str, bytes, bool, np.bool_))
    try:
        fits = fits and 0 <= float(value) < math.inf
    except (TypeError, ValueError, RuntimeError, OverflowError):
        fits = False
    if not fits:
        shown = repr(value) if isinstance(value, (str, bytes)) else value
        raise UserError(f"{option}: {shown}; it has to be a number of at least 0")
    return float(value)


def as_sound(source, option="path"):
    """A sound file as what reads it takes it.

    Arguments
    ---------
    source : str, Path, SoundBytes or binary file
        A path, in which ``~`` is the user's folder, or an open file such as ``io.BytesIO``, which
        is read from its begin to its end.
    option : str
        What messages call it.

    Returns
    -------
    Path or SoundBytes

    Raises
    ------
    UserError
        If it is neither.

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
    """A path, with ``~`` as the user's folder; a UserError if it is none.

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
