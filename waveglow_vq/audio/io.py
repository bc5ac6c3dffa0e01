"""Reads and writes audio files, and checks what they hold.

``read_wav`` is strict, for training and scoring, where a wrong rate or a second channel means that
something is wrong with the data; ``read_for_model`` takes any audio file, mixes it to mono and
resamples it to the rate of the model. An error is one sentence that names the file.
"""

import logging
import math
import os

from waveglow_vq.audio.resampling import resample
from waveglow_vq.audio.sound_files import (
    LARGEST_SAMPLE,
    audio_info,
    check_peak,
    open_sound,
    sound_name,
    warn_once,
)
from waveglow_vq.errors import UserError
from waveglow_vq.signals import held_signals
from waveglow_vq.utils.files import user_path

import numpy as np
import soundfile
import torch

logger = logging.getLogger(__name__)

# Two channels have opposite phases if their mean has less than this share of their energy.
_OPPOSITE_PHASE = 0.1
# Samples that are decoded at once.
_BLOCK = 2**16


def read_wav(source, sample_rate=None, mono="require", min_samples=1):
    """Reads one channel of an audio file as it is, and refuses what does not fit.

    Arguments
    ---------
    source : str, Path or SoundBytes
        The audio file.
    sample_rate : int or None
        Rate in Hz that the file must have; ``None`` accepts any.
    mono : str
        ``"require"`` refuses more than one channel; ``"mix"`` averages the channels.
    min_samples : int
        The shortest length accepted.

    Returns
    -------
    torch.Tensor
        Samples, float32 [N]; full scale is 1.

    Raises
    ------
    UserError
        If the file is missing, empty, unreadable, truncated, too short or at another rate, has
        several channels where one is required, or holds NaN, infinity or samples beyond 4.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> _ = write_wav(path, torch.full((100,), 0.5), 22050)
    >>> read_wav(path, sample_rate=22050)[:3]
    tensor([0.5000, 0.5000, 0.5000])
    """
    return read_wav_and_rate(source, sample_rate, mono, min_samples)[0]


def read_wav_and_rate(source, sample_rate=None, mono="require", min_samples=1):
    """:func:`read_wav` that returns the rate of the file too.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> _ = write_wav(path, torch.zeros(100), 16000)
    >>> wav, rate = read_wav_and_rate(path)
    >>> wav.shape, rate
    (torch.Size([100]), 16000)
    """
    if mono not in ("require", "mix"):
        raise ValueError(f"mono is {mono!r}: choose 'require' or 'mix'.")
    info, name = audio_info(source), sound_name(source)
    if sample_rate is not None and info.sample_rate != sample_rate:
        raise UserError(
            f"{name} has a sample rate of {info.sample_rate} Hz where {sample_rate} Hz is "
            "expected; resample it first."
        )
    if mono == "require" and info.num_channels != 1:
        raise UserError(
            f"{name} has {info.num_channels} channels where one is expected; "
            "mix it down to mono first."
        )
    if info.num_samples < min_samples:
        raise UserError(
            f"{name} is too short: {info.num_samples} samples where at least "
            f"{min_samples} are needed."
        )
    return _decode(source, info), info.sample_rate


def _decode(source, info):
    # In blocks: a header may promise more samples than there is memory for.
    return torch.cat(list(decoded_blocks(source, info, _BLOCK)))


def decoded_blocks(source, info, size):
    """Decodes an audio file block by block.

    Arguments
    ---------
    source : str, Path or SoundBytes
        The audio file.
    info : AudioInfo
        From :func:`~waveglow_vq.audio.sound_files.audio_info`.
    size : int
        Samples in a block; the last one may have fewer.

    Yields
    ------
    torch.Tensor
        The mean of the channels, float32 [n].

    Raises
    ------
    UserError
        If the file cannot be decoded, has fewer samples than its header says, or holds NaN,
        infinity, or samples beyond 4.
    """
    name, read, bad, peak = sound_name(source), 0, 0, 0.0
    energy = mixed = 0.0  # of the channels, and of their mean
    with open_sound(source, forward=True) as file:
        while len(samples := file.read(size, dtype="float32", always_2d=True)):
            read += len(samples)
            if np.isfinite(samples).all():
                peak = max(peak, float(np.abs(samples).max()))
            else:
                bad += int((~np.isfinite(samples)).sum())
            # After wrong samples the rest is read only to count them.
            if bad or peak > LARGEST_SAMPLE or read > info.num_samples:
                continue
            wav = np.ascontiguousarray(samples[:, 0])
            if samples.shape[1] > 1:
                wav = samples.mean(axis=1)
                energy += float(np.square(samples, dtype=np.float64).mean(axis=1).sum())
                mixed += float(np.square(wav, dtype=np.float64).sum())
            yield torch.from_numpy(wav)
    if read != info.num_samples:
        raise UserError(
            f"{name} is truncated: its header promises {info.num_samples} samples, "
            f"{read} could be read; copy or download it again."
        )
    if bad:
        raise UserError(f"{name} holds {bad} samples that are NaN or infinite.")
    check_peak(name, peak)
    if info.num_channels == 2 and mixed < _OPPOSITE_PHASE * energy:
        lost = -10 * math.log10(max(mixed / energy, 1e-12))
        warn_once(
            f"{name}: its channels have opposite phases, so the mono mix is {lost:.0f} dB quieter; "
            "invert one of them, or use one alone."
        )


def read_for_model(source, sample_rate, min_samples=1):
    """Reads any audio file as one channel at the rate of the model.

    Arguments
    ---------
    source : str, Path or SoundBytes
        The audio file, at any rate and with any number of channels.
    sample_rate : int
        Rate of the model in Hz.
    min_samples : int
        The shortest length accepted, at the rate of the model.

    Returns
    -------
    torch.Tensor
        Samples, float32 [N].

    Raises
    ------
    UserError
        If the file is missing, empty, unreadable, truncated or too short, or holds NaN, infinity or
        samples beyond 4.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> _ = write_wav(path, torch.zeros(480), 48000)
    >>> read_for_model(path, 24000).shape
    torch.Size([240])
    """
    info = audio_info_for_model(source, sample_rate, min_samples)[0]
    return resample(_decode(source, info), info.sample_rate, sample_rate)


def audio_info_for_model(source, sample_rate, min_samples=1):
    """The header of an audio file, and its number of samples at the rate of a model; arguments and
    errors as :func:`read_for_model`."""
    info = audio_info(source)
    samples = -(-info.num_samples * sample_rate // info.sample_rate)
    if samples < min_samples:
        raise UserError(
            f"{sound_name(source)} is too short: {samples} samples at {sample_rate} Hz where at "
            f"least {min_samples} are needed."
        )
    return info, samples


def write_wav(path, wav, sample_rate):
    """Writes 16-bit PCM; samples beyond full scale are limited and reported in the log.

    Rounds to the grid of ``read_wav`` (multiples of 1/32768), so that a 16-bit file that is read
    and written again is the same file.

    Arguments
    ---------
    path : str or Path
        Where to write; missing folders are made.
    wav : torch.Tensor
        Samples [N] or [1, N], full scale is 1.
    sample_rate : int
        In Hz.

    Returns
    -------
    int
        How many samples were limited.

    Raises
    ------
    UserError
        If the samples hold NaN or infinity.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "clip.wav")
    >>> write_wav(path, torch.tensor([0.0, 0.5, 1.5]), 22050)
    1
    >>> read_wav(path)
    tensor([0.0000, 0.5000, 1.0000])
    """
    wav = torch.as_tensor(wav).detach().cpu().float()
    if wav.ndim == 2 and wav.shape[0] == 1:
        wav = wav[0]
    if wav.ndim != 1:
        raise ValueError(f"write_wav expects samples [N] or [1, N], got {tuple(wav.shape)}.")
    pcm, limited = to_pcm(path, wav)
    if limited:
        warn_of_limited(path, limited, len(wav), float(wav.abs().max()))
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with held_signals():
        soundfile.write(os.fsencode(path), pcm, sample_rate, subtype="PCM_16")
    return limited


def to_pcm(path, wav):
    """Samples float32 [N] to 16 bits, a numpy array, and how many were limited; a UserError that
    names ``path`` if they hold NaN or infinity."""
    if not torch.isfinite(wav).all():
        raise UserError(f"{path} was not written: the samples hold NaN or infinity.")
    pcm = (wav * 32768.0).round().clamp(-32768, 32767).to(torch.int16)
    return pcm.numpy(), int((wav.abs() > 1.0).sum())


def warn_of_limited(path, limited, samples, peak):
    """Says in the log that samples of a file were limited."""
    logger.warning(
        "%s: %d of %d samples exceed full scale (peak %.2f) and were limited.",
        path,
        limited,
        samples,
        peak,
    )
