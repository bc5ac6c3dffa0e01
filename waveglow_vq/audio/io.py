"""Reads and writes audio files, and checks what they hold.

``read_wav`` is strict, for training and scoring, where a wrong rate or a second channel means that
something is wrong with the data; ``read_for_model`` takes any audio file, mixes it to mono and
resamples it to the rate of the model. An error is one sentence that names the file.
"""

import contextlib
import logging
import math
import os
import sys

from waveglow_vq.audio.resampling import resample
from waveglow_vq.audio.sound_files import (
    LARGEST_SAMPLE,
    audio_info,
    check_peak,
    open_sound,
    reason,
    sound_name,
    warn_once,
)
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import atomic_write, user_path

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
    """Decodes an audio file with this AudioInfo block by block: the mean of the channels, float32
    [n], ``size`` samples each; the last one may have fewer. A UserError says that it cannot be
    decoded, has fewer samples than its header says, or holds NaN, infinity, or samples beyond 4."""
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
    """Writes an audio file with :class:`WavWriter`.

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
        If the samples hold NaN or infinity, or the file cannot be written.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "clip.wav")
    >>> write_wav(path, torch.tensor([0.0, 0.5, 1.5]), 22050)
    1
    >>> read_wav(path)
    tensor([0.0000, 0.5000, 1.0000])
    """
    wav = torch.as_tensor(wav)
    if wav.ndim == 2 and wav.shape[0] == 1:
        wav = wav[0]
    if wav.ndim != 1:
        raise ValueError(f"write_wav expects samples [N] or [1, N], got {tuple(wav.shape)}.")
    with WavWriter(path, sample_rate) as writer:
        writer.write(wav)
    return writer.limited


class WavWriter:
    """Writes an audio file of 16-bit PCM block by block.

    Samples are rounded to the grid of ``read_wav`` (multiples of 1/32768), so that a 16-bit file
    that is read and written again is the same file; those beyond full scale are limited, and
    reported in the log. The file appears at ``path`` when it is complete; after an error, what was
    there before stays.

    Arguments
    ---------
    path : str or Path
        Where to write; missing folders are made. The extension is the format: .wav, .flac, ...
    sample_rate : int
        In Hz.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "clip.wav")
    >>> with WavWriter(path, 22050) as writer:
    ...     writer.write(torch.tensor([0.0, 0.5]))
    ...     writer.write(torch.tensor([1.5]))
    >>> read_wav(path), writer.samples, writer.limited
    (tensor([0.0000, 0.5000, 1.0000]), 3, 1)
    """

    def __init__(self, path, sample_rate):
        self.path = user_path(path)
        self.sample_rate = sample_rate
        self.samples = 0
        self.limited = 0
        self.peak = 0.0
        self.file = None
        self._whole = contextlib.ExitStack()

    def __enter__(self):
        kind = self.path.suffix[1:].upper() or "WAV"
        try:
            part = self._whole.enter_context(atomic_write(self.path))
            self.file = self._whole.enter_context(
                soundfile.SoundFile(
                    os.fsencode(part), "w", self.sample_rate, 1, "PCM_16", format=kind
                )
            )
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            self._whole.__exit__(*sys.exc_info())
            raise self._problem(error) from error
        return self

    def write(self, block):
        """Writes the next samples, [n]; NaN, infinity, or a failure to write is a UserError."""
        block = block.detach().cpu().float()
        if not torch.isfinite(block).all():
            raise UserError(f"{self.path} was not written: the samples hold NaN or infinity.")
        pcm = (block * 32768.0).round().clamp(-32768, 32767).to(torch.int16)
        try:
            self.file.write(pcm.numpy())
        except (OSError, RuntimeError) as error:
            raise self._problem(error) from error
        self.samples += len(block)
        self.limited += int((block.abs() > 1.0).sum())
        if len(block):
            self.peak = max(self.peak, float(block.abs().max()))

    def _problem(self, error):
        why = getattr(error, "strerror", None) or reason(error)
        return UserError(f"{self.path} cannot be written: {why}")

    def __exit__(self, *error):
        try:
            self._whole.__exit__(*error)
        except OSError as problem:
            raise self._problem(problem) from problem
        if self.limited and error[0] is None:
            logger.warning(
                "%s: %d of %d samples exceed full scale (peak %.2f) and were limited.",
                self.path,
                self.limited,
                self.samples,
                self.peak,
            )
