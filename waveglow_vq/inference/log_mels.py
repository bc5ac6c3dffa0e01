"""Log-mels of other programs: reads files of them and recognizes the wrong kinds.

The log-mel of a model is the natural logarithm of magnitudes, clipped at a floor: it is never below
``ln(floor)``, and full scale bounds it from above. The dB, log10 or linear mels of other programs
have the same shape, but another range.
"""

import logging
import math

from waveglow_vq.errors import UserError
from waveglow_vq.inference.inputs import as_numbers
from waveglow_vq.utils.files import user_path

import numpy as np
import torch

logger = logging.getLogger(__name__)

ARRAY_SUFFIXES = (".npy", ".npz")
# How far the log-mels of other models stray below the floor that they were trained with.
BELOW_FLOOR = 3.0
# Below this, the values are hardly logarithms of any magnitudes: 1e-13.
LEAST_LOGARITHM = -30.0
# Log-mels of speech of a second and more, 86 frames, have silences; see warn_of_other_kinds.
SPEECH_FRAMES = 86


def as_log_mels(option, mel, device):
    """Log-mels of any shape as fp32 on a device; a UserError if they are no such numbers."""
    mel = as_numbers(option, mel)
    if not mel.is_floating_point():
        raise UserError(f"{option}: a log-mel has floating-point numbers, not {mel.dtype}")
    return mel.detach().to(torch.float32).to(device)


def as_log_mel_batch(option, mel, n_mels, device):
    """Log-mels ``[B, n_mels, T]`` as fp32 on a device; a UserError if they are none."""
    mel = as_log_mels(option, mel, device)
    if mel.dim() != 3 or mel.shape[1] != n_mels or 0 in mel.shape:
        transposed = mel.dim() == 3 and mel.shape[2] == n_mels
        hint = "; it seems to be transposed" if transposed else ""
        raise UserError(
            f"{option}: expected log-mels [batch, {n_mels}, frames], got {list(mel.shape)}{hint}"
        )
    return mel


def refuse_other_kinds(name, mel, features):
    """Refuses log-mels ``[..., n_mels, T]`` that certainly are no natural logarithms of magnitudes:
    NaN, values far below the floor, or not a single negative one. The UserError names the file or
    argument, what they seem to be, and what makes log-mels of them."""
    if not bool(mel.isfinite().all()):
        raise UserError(f"{name}: the log-mel holds NaN or infinity")
    least, most = _range(mel)
    floor = math.log(features.floor)
    if least < floor - BELOW_FLOOR:
        below = f"a natural log-mel of this model is never below {floor:.4g}"
        guess = f"it seems to have a lower floor: cut it off by clip({floor:.4g})"
        if least < LEAST_LOGARITHM:
            guess = "it seems to be in dB: multiply it by ln(10) / 20 = 0.1151"
        raise UserError(f"{name}: {_values(mel)}, and {below}; {guess}")
    if least >= 0 and most > 1:
        raise UserError(
            f"{name}: {_values(mel)}, and a natural log-mel has negative values; it seems to be "
            f"linear: take the logarithm, log(clip(mel, {features.floor:g}))"
        )


def warn_of_other_kinds(name, mel, features):
    """Warns in the log of mels with an unlikely range, and says whether it did; arguments as for
    :func:`refuse_other_kinds`.

    It cannot tell power from magnitude (twice the logarithm), another filter bank or window, nor a
    mel in log10 of less than a second.
    """
    least, most = _range(mel)
    lowest = math.log10(features.floor)
    remedy = None
    if least == most:
        return False
    if least >= 0:
        remedy = (
            "natural log-mels have negative values: if it is linear or normalized, take the "
            f"logarithm of the magnitudes, log(clip(mel, {features.floor:g}))"
        )
    elif most > _greatest(features):
        remedy = (
            f"those of sound at full scale are at most {_greatest(features):.3g}: if it is in dB, "
            "multiply it by ln(10) / 20 = 0.1151; if it is normalized, undo that"
        )
    elif mel.shape[-1] >= SPEECH_FRAMES and least > lowest - 0.01:
        remedy = (
            f"natural log-mels of speech reach lower, and log10 begins at {lowest:.3g}: if it is "
            "in log10, multiply it by ln(10) = 2.303"
        )
    if remedy is not None:
        logger.warning("%s: %s, and %s", name, _values(mel), remedy)
    return remedy is not None


def _range(mel):
    return mel.min().item(), mel.max().item()


def _values(mel):
    return "its values go from {:.4g} to {:.4g}".format(*_range(mel))


def _greatest(features):
    """The greatest value that a log-mel can have: of sound with a peak of 1."""
    gain = float(features.filter_bank.sum(1).max()) * float(features.window.sum())
    return math.log(gain)


def read_log_mel(path, n_mels=80):
    """Reads a log-mel, float32 ``[n_mels, T]``, without executing anything that the file may hold.

    ``.npy`` is as ``numpy.save`` writes it, ``.npz`` has one array, and ``.pt`` or ``.pth`` are as
    ``torch.save`` does. A UserError says that the file is missing, damaged, holds something else,
    another shape, NaN or infinity.

    Example
    -------
    >>> import tempfile
    >>> path = user_path(tempfile.mkdtemp()) / "mel.npy"
    >>> np.save(path, np.zeros((1, 80, 12)))
    >>> read_log_mel(path).shape
    torch.Size([80, 12])
    """
    path = user_path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file")
    mel = _only_one(path, _load(path))
    if not isinstance(mel, (np.ndarray, torch.Tensor)):
        raise UserError(f"{path} holds a {type(mel).__name__}, not a log-mel array")
    mel = as_log_mels(path, mel, "cpu")
    shape = list(mel.shape)
    if mel.dim() == 3 and len(mel) == 1:
        mel = mel[0]
    if mel.dim() != 2 or len(mel) != n_mels or not mel.shape[1]:
        transposed = mel.dim() == 2 and mel.shape[1] == n_mels
        hint = "; it seems to be transposed" if transposed else ""
        raise UserError(f"{path}: expected a log-mel [{n_mels}, frames], got {shape}{hint}")
    if not bool(mel.isfinite().all()):
        raise UserError(f"{path}: the log-mel holds NaN or infinity")
    return mel


def _load(path):
    try:
        if path.suffix.lower() not in ARRAY_SUFFIXES:
            return torch.load(path, map_location="cpu", weights_only=True)
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                return {name: content[name] for name in content.files}
        return content
    except Exception as error:  # numpy and torch raise half a dozen kinds for damaged files
        raise UserError(
            f"{path} cannot be read as a log-mel: it is damaged, or holds more than an array of "
            "numbers, and other objects are not loaded; save it by numpy.save or torch.save"
        ) from error


def _only_one(path, content):
    """The array in a dict of one."""
    if not isinstance(content, dict):
        return content
    names = ", ".join(map(repr, list(content)[:5])) + (", ..." if len(content) > 5 else "")
    if len(content) != 1:
        raise UserError(
            f"{path} holds {len(content)} arrays ({names or 'none'}), not one log-mel; save "
            "it alone by numpy.save"
        )
    return next(iter(content.values()))
