import math

from waveglow_vq.evaluation.f0_accuracy import compare_f0

import pytest
import torch

from tests.evaluation.signals import RATE, noise_like, pulse_train, speech_like


def test_errors_of_a_copy_a_transposition_and_a_whisper():
    wav = speech_like(1.5)
    errors = compare_f0(wav, wav.clone())
    assert errors.pop("voiced_ratio") == 1.0 and 0.3 < errors.pop("voiced_share") < 0.9
    assert errors == {"log_f0_rmse": 0.0, "voicing_error": 0.0, "f0_error_cents": 0.0}
    low, high = pulse_train(150, 1.0), pulse_train(200, 1.0)
    errors = compare_f0(low, high)
    assert errors["log_f0_rmse"] == pytest.approx(math.log(200 / 150), abs=0.01)
    assert errors["voicing_error"] < 0.05
    assert compare_f0(low, noise_like(low, 0))["voicing_error"] > 0.9
    assert errors["f0_error_cents"] == pytest.approx(1200 * math.log2(200 / 150), abs=10)
    assert math.isnan(compare_f0(low, torch.zeros(RATE))["log_f0_rmse"])
    assert math.isnan(compare_f0(torch.zeros(RATE), low)["voiced_ratio"])


def test_voiced_frames_are_those_of_the_estimate_and_as_a_share_of_the_recording():
    tone = pulse_train(150, 2.0)
    whisper = noise_like(tone, 0)
    recording, estimate = (
        torch.cat([tone[:voiced], whisper[voiced:]])
        for voiced in (int(1.6 * RATE), int(0.8 * RATE))
    )
    scores = compare_f0(recording, estimate)
    assert scores["voiced_share"] == pytest.approx(0.4, abs=0.03)
    assert scores["voiced_ratio"] == pytest.approx(0.5, abs=0.03)
    # One frame that is off does not move the median.
    assert scores["f0_error_cents"] == 0


def test_errors_grow_with_noise():
    wav = speech_like(1.5)
    scores = [
        compare_f0(wav, wav + noise_like(wav, snr))["voicing_error"] for snr in (40, 10, 0, -10)
    ]
    assert scores == sorted(scores) and scores[0] < 0.15 < scores[-1]


def test_longer_signal_is_cut():
    wav = speech_like(1.0)
    assert compare_f0(wav, torch.cat([wav, wav]))["voicing_error"] == 0.0
