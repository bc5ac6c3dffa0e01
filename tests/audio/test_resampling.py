import math

from waveglow_vq.audio.resampling import resample

import pytest
import torch

RATE = 22050


def band_limited(rate, seconds, top):
    """Eleven tones below ``top`` Hz that begin and end softly, at any rate."""
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    tones = sum(torch.sin(2 * math.pi * top * k / 11.3 * time + k * k) for k in range(1, 12))
    return (0.05 * tones * torch.sin(math.pi * time / seconds) ** 4).float()


# The first four have hardly a divisor in common with the other rate.
@pytest.mark.parametrize("rate_in", [7993, 12007, 44057, 767999, 8000, 44100, 96000])
@pytest.mark.parametrize("rate_out", [16000, RATE])
def test_resampling_is_exact_at_any_rate(rate_in, rate_out):
    top = 0.3 * min(rate_in, rate_out)
    wav, expected = (band_limited(rate, 0.2, top) for rate in (rate_in, rate_out))
    error = resample(wav, rate_in, rate_out)[: len(expected)] - expected
    assert float(error.norm() / expected.norm()) < 1e-5  # -100 dB, and so no delay


def test_resampling_keeps_the_passband_and_rejects_aliases():
    time = torch.arange(48000, dtype=torch.float64) / 48000
    for hz, low, high in [(10000, 0.999, 1.001), (11030, 0.0, 1e-6), (15000, 0.0, 1e-6)]:
        tone = torch.sin(2 * math.pi * hz * time)
        out = resample(tone, 48000, RATE)[1000:-1000]
        assert low <= float(out.square().mean().mul(2).sqrt()) <= high, hz


def test_resampled_lengths_are_rounded_up():
    pairs = [(1, RATE), (3, 2), (RATE, 16000), (768000, 4000), (767999, RATE), (7993, 48000)]
    for rate_in, rate_out in pairs:
        for samples in (0, 1, 2, 3, rate_in // 10 + 17):
            out = resample(torch.ones(samples), rate_in, rate_out)
            assert len(out) == math.ceil(samples * rate_out / rate_in), (rate_in, rate_out)
    # 8388611.3 samples, a number that fp32 does not have.
    assert len(resample(torch.zeros(12582917), 3, 2)) == 8388612


def test_resampling_takes_any_shape_and_keeps_the_type():
    wavs = torch.randn(2, 3, 500, dtype=torch.float64)
    out = resample(wavs, 11025, 16000)
    assert out.shape == (2, 3, 726) and out.dtype == torch.float64
    assert torch.equal(out[1, 2], resample(wavs[1, 2], 11025, 16000))
    single = resample(wavs.float().transpose(0, 1), 11025, 16000)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.transpose(0, 1).double(), out, atol=1e-6, rtol=0)
    assert resample(wavs[:0], 11025, 16000).shape == (0, 3, 726)
