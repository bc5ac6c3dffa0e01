import math

from waveglow_vq.evaluation.metrics import log_mel_l1
from waveglow_vq.evaluation.time_alignment import (
    _refine,
    _spectrogram_delay,
    _waveform_delay,
    align,
    match_level,
)

import pytest
import torch

from tests.evaluation.signals import speech_like


@pytest.fixture(scope="module")
def wav():
    return speech_like(1.5)


def late(wav, delay):
    """``wav`` that comes ``delay`` samples late, or early where negative."""
    return torch.cat([torch.zeros(delay), wav]) if delay >= 0 else wav[-delay:]


@pytest.mark.parametrize("delay", [0, 1, 37, -37, 1500, -2048])
@pytest.mark.parametrize("gain", [1.0, 0.1, -2.0])
def test_delay_is_found_exactly(wav, delay, gain):
    shifted = gain * late(wav, delay)
    assert _waveform_delay(wav, shifted, 2048) == delay
    first, second, found = align(wav, shifted)
    assert found == delay
    assert len(first) == len(second) == len(wav) - max(0, -delay)
    assert torch.equal(gain * first, second)


def test_delay_beyond_the_limit_is_not_taken(wav):
    assert abs(align(wav, late(wav, 900), max_shift_samples=500)[2]) <= 500
    assert align(wav, late(wav, 900), max_shift_samples=0)[2] == 0


def test_delay_is_found_where_the_phase_is_another(wav):
    # Random phases at every frequency of every frame: the waveform no longer correlates.
    spectrum = torch.stft(wav, 1024, 256, window=torch.hann_window(1024), return_complex=True)
    generator = torch.Generator().manual_seed(0)
    phase = 2 * math.pi * torch.rand(spectrum.shape, generator=generator)
    scrambled = torch.istft(
        torch.polar(spectrum.abs(), phase), 1024, 256, window=torch.hann_window(1024)
    )
    assert abs(_spectrogram_delay(wav, late(scrambled, 1024), 2048) - 1024) <= 64
    _, _, delay = align(wav, late(scrambled, 1000))
    assert abs(delay - 1000) <= 64
    first, second, delay = align(wav, scrambled)
    assert abs(delay) <= 64
    aligned = log_mel_l1(first, second)
    assert aligned <= 1.05 * log_mel_l1(wav, scrambled)


@pytest.mark.parametrize("best", [341, -341, 2040])
def test_a_coarse_delay_is_refined_to_a_few_samples(best):
    assert abs(_refine(0, lambda delay: abs(delay - best), 2048) - best) <= 4
    assert 192 < abs(_refine(0, lambda delay: abs(delay - best), 200)) <= 200


def test_short_signals_keep_what_scoring_needs(wav):
    first, second, delay = align(wav[:2100], late(wav[:2100], 40))
    assert len(first) == len(second) >= 2048 and abs(delay) <= 52


def test_level_is_matched(wav):
    scaled, gain = match_level(wav, 0.125 * wav)
    assert gain == 8.0 and torch.equal(scaled, wav)
    assert match_level(wav, wav.clone())[1] == 1.0
    assert match_level(wav, -0.5 * wav)[1] == pytest.approx(2.0)


def test_silence_gets_no_gain(wav):
    assert match_level(wav, torch.zeros_like(wav))[1] == 1.0
    assert match_level(torch.zeros_like(wav), wav)[1] == 1.0
