"""Fills the band that a recording lacks, above its own, with noise.

A recording at 16 kHz that is brought to 22.05 kHz has nothing above 8 kHz, and neither has one that
was brought there before. Nothing is what a likelihood rewards without bound: a flow spends itself
on it, and learns that such a voice is mute up there, which the log-mel (up to 8 kHz) then does not
tell from a voice that was recorded whole. In recordings that have the band, it follows the one
below frame by frame: at 8.2 to 10 kHz the level is that of 6 to 7.3 kHz within 2 dB on the mean of
a corpus, and differs by 2 to 4 dB (standard deviation) between recordings.
"""

import math

from waveglow_vq.utils.seeding import seeded

import torch

# Shares of the own band's edge: what is just below it.
_BELOW = (0.8, 0.96)
# Of what differs between recordings.
_SPREAD_DB = 3.0
# Beyond this share of half the rate a recording is whole: there the resampling begins to fall off.
_WHOLE = 0.9
_LOWEST_EDGE_HZ = 3000.0  # below, formants end as steeply
_STEEP_DB = 20.0
_FRAME_SECONDS = 0.046


def own_band(wav, sample_rate, recorded_rate=None):
    """Finds up to which frequency, in Hz, a recording `wav` [N] has a band of its own.

    That is where the spectrum of its louder frames falls by 20 dB within 0.6 kHz and stays down;
    else half of `recorded_rate`, the rate it was recorded at (None: `sample_rate`), less an edge.

    Example
    -------
    >>> from waveglow_vq.audio.resampling import resample
    >>> noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    >>> 7200 < own_band(resample(noise, 16000, 22050), 22050) < 8000
    True
    >>> own_band(noise, 16000) > 0.9 * 8000
    True
    """
    by_rate = 0.94 * min(recorded_rate or sample_rate, sample_rate) / 2
    n_fft = _n_fft(sample_rate)
    if len(wav) <= n_fft:
        return by_rate
    return _edge(_long_term(_stft(wav, n_fft)), sample_rate / n_fft, by_rate)


def fill_band(wav, sample_rate, slope_db, recorded_rate=None, key=""):
    """Adds noise to `wav` [N] above its own band, if that ends before 0.9 of half the rate.

    In each frame its level is that of the band just below, and falls from there by `slope_db`
    (negative) per octave; it is moved by a draw of 3 dB (standard deviation) for the recording.
    Towards half the rate it falls off as resampled recordings do. Noise and draw depend on `key`
    alone. What the recording has of its own is not changed.

    Example
    -------
    >>> from waveglow_vq.audio.resampling import resample
    >>> noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    >>> low = resample(noise, 16000, 22050)
    >>> filled = fill_band(low, 22050, -3.0, 16000, key="a")
    >>> own_band(low, 22050) < 8000, own_band(filled, 22050) > 10_000
    (True, True)
    """
    n_fft = _n_fft(sample_rate)
    if len(wav) <= n_fft:
        return wav
    spectrum = _stft(wav, n_fft)
    long_term, hz_per_bin = _long_term(spectrum), sample_rate / n_fft
    by_rate = 0.94 * min(recorded_rate or sample_rate, sample_rate) / 2
    edge = _edge(long_term, hz_per_bin, by_rate)
    if edge > _WHOLE * sample_rate / 2:
        return wav
    hz = torch.arange(len(long_term)) * hz_per_bin
    below = (hz >= _BELOW[0] * edge) & (hz <= _BELOW[1] * edge)
    centre = math.sqrt(_BELOW[0] * _BELOW[1]) * edge
    generator = seeded("band", key)
    moved = _SPREAD_DB * float(torch.randn((), generator=generator))
    octaves = (hz.clamp_min(1.0) / centre).log2()
    shape = 10 ** ((moved + slope_db * octaves) / 10)  # of the power, relative to the band below
    # Only what the recording's own edge leaves missing.
    shape = shape * (1 - long_term / (shape * long_term[below].mean()).clamp_min(1e-20)).clamp(0, 1)
    shape[hz < edge] = 0
    fall = ((hz / (sample_rate / 2) - 0.93) / 0.07).clamp(0, 1)
    shape = shape * (math.pi / 2 * fall).cos() ** 2
    noise = _stft(torch.randn(len(wav), generator=generator), n_fft)
    level = spectrum[below].abs().square().mean(0)
    # The noise has the power of the window, sum w^2 = 3/8 n_fft, in each bin.
    noise = noise * (shape[:, None] * level / (0.375 * n_fft)).sqrt()
    return wav + torch.istft(noise, n_fft, n_fft // 4, window=_window(n_fft), length=len(wav))


def _n_fft(sample_rate):
    return 1 << round(math.log2(_FRAME_SECONDS * sample_rate))


def _window(n_fft):
    return torch.hann_window(n_fft)


def _stft(wav, n_fft):
    return torch.stft(wav, n_fft, n_fft // 4, window=_window(n_fft), return_complex=True)


def _long_term(spectrum):
    """Power [bins] of the frames that are louder than half of them."""
    power = spectrum.abs().square()
    energy = power.sum(0)
    return power[:, energy >= energy.median()].mean(1)


def _edge(power, hz_per_bin, by_rate):
    decibels = 10 * power.clamp_min(1e-12).log10()
    bins = [round(hz / hz_per_bin) for hz in (1000, 200, 400)]
    # The loudest that is still to come, from each bin on.
    above = decibels.flip(0).cummax(0).values.flip(0)
    for bin_ in range(round(_LOWEST_EDGE_HZ / hz_per_bin), len(decibels) - bins[2]):
        below = decibels[bin_ - bins[0] : bin_ - bins[1]].mean()
        if below - above[bin_ + bins[2]] > _STEEP_DB:
            own = (decibels[: bin_ + bins[2]] > below - 6).nonzero()
            return min(by_rate, float(own.max()) * hz_per_bin)
    return by_rate
