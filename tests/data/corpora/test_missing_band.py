from waveglow_vq.audio.resampling import resample
from waveglow_vq.data.corpora.missing_band import fill_band, own_band

import numpy as np
import pytest
import torch

RATE = 22050


def breath(rate, seconds=2.0, seed=0):
    """Noise that falls by 6 dB per octave from 500 Hz on, in bursts."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * rate))
    spectrum = np.fft.rfft(noise)
    hz = np.fft.rfftfreq(len(noise), 1 / rate)
    wav = np.fft.irfft(spectrum / np.maximum(hz / 500, 1), len(noise))
    bursts = 0.1 + np.sin(2 * np.pi * 2 * np.arange(len(wav)) / rate) ** 2
    return torch.from_numpy(0.1 * wav * bursts).float()


def band_db(wav, low, high):
    """Mean power of a band per bin, in dB."""
    power = torch.stft(wav, 1024, 256, window=torch.hann_window(1024), return_complex=True)
    power = power.abs().square()
    hz = torch.arange(513) * RATE / 1024
    return 10 * power[(hz >= low) & (hz < high)].mean(0).log10()


@pytest.mark.parametrize(
    ("rate", "low", "high"), [(8000, 3500, 4000), (16000, 7200, 8000), (48000, 9922, 11025)]
)
def test_the_edge_is_found_by_rate_and_by_spectrum(rate, low, high):
    wav = resample(breath(rate), rate, RATE)
    assert low < own_band(wav, RATE, rate) <= high
    # Somebody else has resampled it, to 16 bits.
    wav = (wav * 32768).round() / 32768
    assert low < own_band(wav, RATE, RATE) <= high


def test_noise_continues_the_band_below_in_every_frame():
    wav = resample(breath(16000), 16000, RATE)
    filled = fill_band(wav, RATE, -3.0, 16000, key="a")
    below, above = band_db(filled, 6200, 7200), band_db(filled, 8200, 10_000)
    assert abs(float((above - below).mean())) < 10
    assert float((above - below).std()) < 2
    assert float(below.std()) > 4  # the bursts
    # Nothing of what was recorded is changed, not even where it ends.
    change = (band_db(filled, 0, 6900) - band_db(wav, 0, 6900)).abs()
    assert float(change.max()) < 0.05
    # And no gap, nor a ridge, stays where the two meet.
    meeting = [float(band_db(filled, hz, hz + 150).mean()) for hz in range(6800, 8800, 150)]
    assert max(np.abs(np.diff(meeting))) < 4


def test_slope_and_draw():
    wav = resample(breath(16000), 16000, RATE)

    def drop(slope):
        filled = fill_band(wav, RATE, slope, 16000, key="a")
        return float((band_db(filled, 8400, 8600) - band_db(filled, 9900, 10_100)).mean())

    assert drop(-24.0) - drop(0.0) == pytest.approx(24 * np.log2(10 / 8.5), abs=0.7)
    one, again, other = (fill_band(wav, RATE, -3.0, 16000, key=key) for key in "aab")
    assert torch.equal(one, again) and not torch.equal(one, other)
    levels = [
        float(band_db(fill_band(wav, RATE, -3.0, 16000, key=str(key)), 8200, 10_000).mean())
        for key in range(40)
    ]
    assert 2 < np.std(levels) < 4


@pytest.mark.parametrize("rate", [22050, 48000])
def test_what_is_whole_stays(rate):
    wav = resample(breath(rate), rate, RATE)
    assert fill_band(wav, RATE, -3.0, rate) is wav


@pytest.mark.parametrize("length", [1, 1024, 5000])
def test_short_and_silent_signals(length):
    assert torch.equal(fill_band(torch.zeros(length), RATE, -3.0, 16000), torch.zeros(length))
