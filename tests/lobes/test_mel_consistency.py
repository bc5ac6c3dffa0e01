from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.mel_consistency import (
    mel_consistent,
    reach,
    refine_voiced,
    shaped_noise,
)
from waveglow_vq.lobes.source.pitch_rows import PitchRows

import librosa
import numpy as np
import pytest
import torch

FEATURES = LogMel()


def sound(samples, seed=0):
    """Noise whose spectrum moves."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / 22050
    noise = torch.randn(1, samples, generator=generator) * (1 + torch.sin(40 * time))
    return 0.1 * noise.cumsum(-1).sub(noise.cumsum(-1).roll(64, -1))


def test_an_iteration_is_that_of_the_equation():
    """By librosa's transforms, which reflect too."""
    wav, log_mel = sound(8192), FEATURES(sound(8192, seed=1))
    options = {"n_fft": 1024, "hop_length": 256}
    bank = FEATURES.filter_bank.numpy()
    bins = np.arange(513) * 22050 / 1024
    centres = librosa.mel_frequencies(82, fmin=0, fmax=8000)[1:-1]
    y, before = wav[0].double().numpy(), None
    for _ in range(3):
        spectrum = librosa.stft(y, **options, pad_mode="reflect")
        moved = spectrum if before is None else spectrum + 0.9 * (spectrum - before)
        mel = np.log(np.maximum(bank @ abs(moved), 1e-5))
        gains = np.clip(log_mel[0].numpy() - mel, -np.log(10), np.log(10))
        gains = np.stack([np.interp(bins, centres, frame) for frame in gains.T], axis=1)
        gains[bins > 8000] = 0
        y, before = librosa.istft(moved * np.exp(gains), **options, length=8192), spectrum
    result = mel_consistent(wav, log_mel, FEATURES, 3)
    torch.testing.assert_close(result[0], torch.from_numpy(y).float(), rtol=0, atol=1e-5)


def test_iterations_approach_the_log_mel():
    log_mel = FEATURES(sound(20480))
    noise = shaped_noise(log_mel, FEATURES, 20480, generator=0)
    distances = [
        (FEATURES(mel_consistent(noise, log_mel, FEATURES, n)) - log_mel).abs().mean().item()
        for n in (0, 5, 20, 80)
    ]
    assert distances == sorted(distances, reverse=True) and distances[-1] < 0.1


def test_an_item_of_a_batch_is_what_it_is_alone():
    samples = torch.tensor([20480, 12900, 600])
    wav, log_mel = sound(3 * 20480).view(3, -1), FEATURES(sound(3 * 20480, 1).view(3, -1))
    together = mel_consistent(wav, log_mel, FEATURES, 5, samples)
    for item, count in enumerate(samples.tolist()):
        alone = mel_consistent(wav[item : item + 1, :count], log_mel[item : item + 1], FEATURES, 5)
        torch.testing.assert_close(together[item : item + 1, :count], alone, rtol=0, atol=1e-5)
        assert not together[item, count:].any()


def test_a_sample_depends_on_what_is_within_reach():
    wav, log_mel = sound(40 * 256), FEATURES(sound(40 * 256, 1))
    first = 20 * 256
    other = wav.clone()
    other[:, first + reach(FEATURES, 3) :] += 0.1
    changed = mel_consistent(other, log_mel, FEATURES, 3) - mel_consistent(
        wav, log_mel, FEATURES, 3
    )
    assert changed[:, : first + 1].abs().max() == 0 and changed.abs().max() > 0


def test_gradients_go_through():
    wav, log_mel = sound(4096).requires_grad_(), FEATURES(sound(4096, 1)).requires_grad_()
    mel_consistent(wav, log_mel, FEATURES, 3).square().sum().backward()
    for gradient in (wav.grad, log_mel.grad):
        assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_too_short():
    with pytest.raises(UserError, match="refine: 512 samples are too few"):
        mel_consistent(torch.ones(1, 512), torch.zeros(1, 80, 3), FEATURES, 1)


def test_reach_with_pulses():
    """A change of the pitch at one frame is heard as far as two more iterations reach."""
    wav = torch.randn(1, 120 * 256, generator=torch.Generator().manual_seed(0)) * 0.05
    log_mel = FEATURES(wav)
    f0 = torch.full((1, log_mel.shape[-1]), 90.0)
    rows = PitchRows(256, 22050).of(f0, torch.ones_like(f0))
    other = rows.clone()
    other[:, 2, 60] += 0.5
    targets = (torch.cat([log_mel, given], dim=1) for given in (rows, other))
    one, two = (refine_voiced(wav, target, FEATURES, 1) for target in targets)
    places = (one - two)[0].nonzero()[:, 0]
    furthest = max(59 * 256 - int(places.min()), int(places.max()) - 61 * 256)
    assert reach(FEATURES, 1) < furthest < reach(FEATURES, 3)
