"""Varies recordings, so that a few hours hold voices of 50 to 500 Hz, at any level, with noise, and
without the upper bands."""

import functools
import math

from waveglow_vq.audio.resampling import resample

import librosa
import torch

# Recordings are brought to this RMS.
RMS = 0.06
# Of what is drawn, how much gets noise, and how much loses the upper bands.
_NOISY, _CUT = 0.5, 0.3
# What is cut lies so many nepers lower, or at the floor.
_CUT_DEPTH = 12.0
_NOISE_SECONDS = 20


def at_speed(wav, f0, speed, features):
    """The log-mel ``[n_mels, frames]`` and F0 ``[frames]`` of a recording ``[N]`` that is played
    faster by a factor, from its F0 ``[1 + N // hop]``, 0 where unvoiced.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> log_mel, f0 = at_speed(torch.randn(22050), torch.full((87,), 100.0), 0.5, LogMel())
    >>> log_mel.shape, f0.shape, float(f0[3])
    (torch.Size([80, 173]), torch.Size([173]), 50.0)
    """
    rate = round(features.sample_rate * speed)
    speed = rate / features.sample_rate
    wav = resample(wav, rate, features.sample_rate)
    place = torch.arange(1 + len(wav) // features.hop_length) * speed
    before = place.long().clamp(max=len(f0) - 1)
    share = (place - before).clamp(max=1)
    here, following = f0[before], f0[(before + 1).clamp(max=len(f0) - 1)]
    nearest = torch.where(share < 0.5, here, following)
    between = here + share * (following - here)
    f0 = torch.where((here > 0) & (following > 0), between, nearest)
    return features(wav[None])[0], f0 * speed


def varied(log_mel, variety, features, generator):
    """A log-mel ``[n_mels, frames]`` of a recording of RMS 0.06, with noise, gain and band as
    drawn."""
    pitch = _centres(features)[:, None].log()
    if uniform(0, 1, generator) < _NOISY:
        level = math.log(RMS) - _nepers(uniform(*variety.noise_db, generator))
        noise = _noise(features)
        first = int(uniform(0, noise.shape[1] - log_mel.shape[1], generator))
        noise = noise[:, first : first + log_mel.shape[1]] + level
        noise = noise - uniform(0, 1, generator) * (pitch - math.log(100)).clamp_min(0)
        log_mel = torch.logaddexp(2 * log_mel, 2 * noise) / 2
    log_mel = log_mel + _nepers(uniform(*variety.gains_db, generator))
    if uniform(0, 1, generator) < _CUT:
        lowest, highest = math.log(variety.lowest_cut_hz), math.log(features.f_max)
        cut = uniform(min(lowest, highest), highest, generator)
        log_mel = log_mel - _CUT_DEPTH * (pitch > cut)
    return log_mel.clamp_min(math.log(features.floor))


def uniform(low, high, generator):
    """A number drawn from a range."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def _nepers(decibels):
    return decibels * math.log(10) / 20


@functools.lru_cache(maxsize=1)
def _centres(features):
    """Of the bands, in Hz."""
    edges = librosa.mel_frequencies(features.n_mels + 2, fmin=features.f_min, fmax=features.f_max)
    return torch.from_numpy(edges[1:-1]).float()


@functools.lru_cache(maxsize=1)
def _noise(features):
    """The log-mel of white noise of RMS 1."""
    samples = _NOISE_SECONDS * features.sample_rate
    return features(torch.randn(1, samples, generator=torch.Generator().manual_seed(0)))[0]
