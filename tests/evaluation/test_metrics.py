import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.metrics import (
    dtw_mean_distance,
    log_mel_l1,
    mel_cepstral_distortion,
    mel_cepstrum,
    multi_resolution_stft_distance,
    spectral_convergence,
)

import numpy as np
import pytest
import torch

from tests.evaluation.signals import speech_like

ALL = [
    log_mel_l1,
    spectral_convergence,
    multi_resolution_stft_distance,
    mel_cepstral_distortion,
]


@pytest.fixture(scope="module")
def wav():
    return speech_like(1.5)


@pytest.mark.parametrize("metric", ALL)
def test_copy_scores_exactly_zero(metric, wav):
    assert metric(wav, wav.clone()) == 0.0


@pytest.mark.parametrize("metric", ALL)
def test_more_noise_scores_worse(metric, wav):
    noise = torch.randn(len(wav), generator=torch.Generator().manual_seed(1)) * wav.std()
    scores = [metric(wav, wav + 10 ** (-snr / 20) * noise) for snr in (60, 40, 30, 20, 10, 0)]
    assert all(better < worse for better, worse in zip(scores, scores[1:], strict=False)), scores


@pytest.mark.parametrize("metric", ALL)
def test_longer_signal_is_cut_or_warped(metric, wav):
    longer = torch.cat([wav, torch.zeros(100)])
    if metric is mel_cepstral_distortion:
        assert metric(wav, longer) < 0.2
    else:
        assert metric(wav, longer) == 0.0
        assert metric(longer, wav) == 0.0


@pytest.mark.parametrize("metric", ALL)
def test_too_short_and_wrong_shape(metric, wav):
    with pytest.raises(UserError, match="estimate is too short.*2047"):
        metric(wav, wav[:2047])
    with pytest.raises(ValueError, match="reference must be samples"):
        metric(wav[None], wav)


def test_log_mel_l1_of_a_gain_is_its_logarithm(wav):
    noise = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    assert log_mel_l1(noise, 3 * noise) == pytest.approx(math.log(3), abs=1e-4)


def test_log_mel_l1_uses_the_given_features(wav):
    other = wav + 0.01 * torch.randn(len(wav), generator=torch.Generator().manual_seed(0))
    coarse = LogMel(n_mels=20)
    first, second = coarse(wav[None]), coarse(other[None])
    assert log_mel_l1(wav, other, coarse) == pytest.approx(float((first - second).abs().mean()))


def test_spectral_convergence_is_relative_to_the_reference(wav):
    assert spectral_convergence(wav, 0.7 * wav) == pytest.approx(0.3, abs=1e-5)
    assert spectral_convergence(0.7 * wav, wav) == pytest.approx(0.3 / 0.7, abs=1e-5)
    assert spectral_convergence(10 * wav, 7 * wav) == pytest.approx(0.3, abs=1e-5)
    assert spectral_convergence(wav, -wav) == 0.0


def test_multi_resolution_distance_of_a_gain():
    noise = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    expected = 0.5 + math.log(2)
    assert multi_resolution_stft_distance(noise, 0.5 * noise) == pytest.approx(expected, abs=1e-3)


def test_silence_gives_finite_scores():
    silence, noise = torch.zeros(8192), torch.randn(8192)
    for metric in ALL:
        assert metric(silence, silence) == 0.0
        assert math.isfinite(metric(silence, noise)) and math.isfinite(metric(noise, silence))


def test_mel_cepstrum_recovers_a_cosine_series():
    bands = torch.arange(80, dtype=torch.float64) + 0.5
    spectrum = 5.0 + 0.7 * torch.cos(math.pi * 3 * bands / 80)
    spectrum += 0.2 * torch.cos(math.pi * 13 * bands / 80)
    spectrum += 4.0 * torch.cos(math.pi * 14 * bands / 80)
    expected = torch.zeros(1, 13, dtype=torch.float64)
    expected[0, 2], expected[0, 12] = 0.7, 0.2
    assert torch.allclose(mel_cepstrum(spectrum[:, None]), expected, atol=1e-12)


def test_distortion_is_the_rms_difference_in_decibels(wav):
    class Tilted(torch.nn.Module):
        """Log-mels of which every second call gets 0.5 cos(...) on top."""

        calls = 0

        def forward(self, wav):
            bands = torch.arange(80) + 0.5
            ripple = 0.5 * torch.cos(math.pi * 2 * bands / 80)[None, :, None]
            self.calls += 1
            return torch.zeros(1, 80, 40) + (ripple if self.calls % 2 == 0 else 0.0)

    rms_db = 20 / math.log(10) * 0.5 / math.sqrt(2)
    assert mel_cepstral_distortion(wav, wav, Tilted()) == pytest.approx(rms_db, rel=1e-6)


def test_distortion_does_not_hear_loudness_but_timbre(wav):
    noise = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    assert mel_cepstral_distortion(noise, 0.3 * noise) < 1e-3
    assert mel_cepstral_distortion(noise, noise.diff(prepend=noise[:1])) > 3


def test_warping_forgives_a_pause(wav):
    paused = torch.cat([wav[:9000], torch.zeros(6000), wav[9000:]])
    cepstra = [mel_cepstrum(LogMel()(each[None])[0]).numpy() for each in (wav, paused[: len(wav)])]
    frame_by_frame = np.linalg.norm(cepstra[0] - cepstra[1], axis=1).mean()
    in_decibels = 10 * math.sqrt(2) / math.log(10) * frame_by_frame
    assert mel_cepstral_distortion(wav, paused) < 0.5 * in_decibels


def _slow_dtw(first, second):
    """The textbook recursion, (cost, steps) per cell; ties prefer the diagonal."""
    table = {(-1, -1): (0.0, 0)}
    for i in range(len(first)):
        for j in range(len(second)):
            before = [table.get(key) for key in ((i - 1, j - 1), (i - 1, j), (i, j - 1))]
            cost, steps = min((b for b in before if b is not None), key=lambda b: b[0])
            table[i, j] = (cost + np.linalg.norm(first[i] - second[j]), steps + 1)
    cost, steps = table[len(first) - 1, len(second) - 1]
    return cost / steps


@pytest.mark.parametrize("rows,columns", [(1, 1), (1, 5), (7, 1), (6, 9), (12, 4)])
def test_time_warping_agrees_with_the_textbook(rows, columns):
    rng = np.random.default_rng(rows * columns)
    first, second = rng.normal(size=(rows, 3)), rng.normal(size=(columns, 3))
    assert dtw_mean_distance(first, second) == pytest.approx(_slow_dtw(first, second))


def test_time_warping_agrees_with_librosa():
    from librosa.sequence import dtw

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(60, 13)), rng.normal(size=(85, 13))
    cost, path = dtw(first.T, second.T)
    assert dtw_mean_distance(first, second) == pytest.approx(cost[-1, -1] / len(path))
