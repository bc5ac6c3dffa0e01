import math

from waveglow_vq.audio.io import read_wav
from waveglow_vq.audio.pitch import track_f0, track_log_f0

import pytest
import torch

from tests.evaluation.signals import RATE, noise_like, pulse_train, speech_like
from tests.inference.exports import voiced_speech_like


@pytest.mark.parametrize("f0_hz", [70, 100, 150, 220, 310, 450])
@pytest.mark.parametrize("snr_db", [60, 10, 5])
def test_pulse_train_in_noise(f0_hz, snr_db):
    wav = pulse_train(f0_hz, 0.6)
    track = track_f0(0.1 * (wav + noise_like(wav, snr_db)))
    inner = slice(4, -4)
    assert track.voiced[inner].float().mean() > 0.95
    f0 = track.f0[inner][track.voiced[inner]]
    assert ((f0 / f0_hz).log2().abs() < 1 / 24).float().mean() > 0.98


@pytest.mark.parametrize("f0_hz", [80, 200, 400])
def test_pure_tone_is_measured_within_five_cents(f0_hz):
    tone = torch.sin(2 * math.pi * f0_hz * torch.arange(RATE // 2) / RATE)
    f0 = track_f0(tone).f0[5:-5]
    assert (1200 * (f0 / f0_hz).log2()).abs().max() < 5


def test_frames_are_those_of_the_features_and_scale_does_not_matter():
    wav = speech_like(1.0)
    track = track_f0(wav)
    assert track.f0.shape == track.voiced.shape == (1 + len(wav) // 256,)
    assert torch.equal(track.f0 > 0, track.voiced)
    quiet = track_f0(2.0**-7 * wav)
    assert torch.equal(quiet.voiced, track.voiced)
    assert torch.allclose(quiet.f0, track.f0, rtol=1e-3)


def test_noise_and_silence_are_unvoiced():
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert track_f0(noise).voiced.float().mean() < 0.02
    assert not track_f0(torch.zeros(RATE)).voiced.any()
    assert track_f0(torch.zeros(10)).f0.shape == (1,)


def test_voicing_follows_the_signal():
    wav = torch.cat([pulse_train(180, 0.5), torch.zeros(RATE // 2), pulse_train(180, 0.5)])
    voiced = track_f0(wav + 1e-3 * torch.randn(len(wav))).voiced
    truth = torch.arange(len(voiced)) * 256 / RATE
    truth = (truth < 0.5) | (truth > 1.0)
    assert (voiced != truth).sum() <= 8


def test_glide_is_followed():
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    truth = 120 * 2**time
    phase = 2 * math.pi * truth.cumsum(0) / RATE
    wav = sum(torch.cos(k * phase) / k for k in range(1, 12)).float()
    track = track_f0(wav)
    at_frame = truth[(torch.arange(len(track.f0)) * 256).clamp(max=RATE - 1)].float()
    error = 1200 * (track.f0[5:-5] / at_frame[5:-5]).log2()
    # A tracker whose frames are centred elsewhere would be off by 1.2 cents per millisecond.
    assert error.abs().max() < 10 and error.mean().abs() < 3


@pytest.mark.parametrize("rate", [16000, 48000])
def test_other_rates(rate):
    assert float(track_f0(pulse_train(130, 0.5, rate), rate).f0[6:-6].median()) == pytest.approx(
        130, rel=0.005
    )


def test_pitch_of_a_real_speaker(real_ljspeech):
    clips = sorted((real_ljspeech / "wavs").glob("*.wav"))[:4]
    f0 = torch.cat([track_f0(read_wav(clip)).f0 for clip in clips])
    assert 170 < float(f0[f0 > 0].mean()) < 260
    assert 0.35 < float((f0 > 0).float().mean()) < 0.85


@pytest.mark.parametrize("seconds", [0.1, 5.0, 60.5, 61.5, 125.0])
def test_pitch_of_long_recordings_is_that_of_the_whole(seconds):
    wav = voiced_speech_like(round(seconds * 22050))
    track = track_log_f0(wav, 22050, 256)
    whole = track_f0(wav).f0
    assert track.shape == whole.shape == (1 + len(wav) // 256,)
    assert ((track > 0) == (whole > 0)).float().mean() > 0.995
    both = (track > 0) & (whole > 0)
    if seconds <= 60:
        assert both.any() and torch.equal(track[both], whole[both].log())
    assert both.float().mean() > 0.2
    assert (track[both] - whole[both].log()).abs().max() < 0.01
