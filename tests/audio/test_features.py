import math

from waveglow_vq.audio.features import LogMel

import librosa
import numpy as np
import pytest
import torch


def sweep(samples=20000, rate=22050):
    time = np.arange(samples) / rate
    noise = np.random.default_rng(0).standard_normal(samples)
    wav = 0.4 * np.sin(2 * math.pi * (80 + 2500 * time) * time) + 0.01 * noise
    return wav.astype(np.float32)


def reference(wav, floor=1e-5, **changes):
    options = {
        "sr": 22050,
        "n_fft": 1024,
        "win_length": 1024,
        "hop_length": 256,
        "n_mels": 80,
        "fmin": 0.0,
        "fmax": 8000.0,
        "power": 1.0,
        "center": True,
        "pad_mode": "reflect",
        "htk": False,
        "norm": "slaney",
        **changes,
    }
    return np.log(np.maximum(librosa.feature.melspectrogram(y=wav, **options), floor))


def test_equals_librosa():
    wav = sweep()
    found = LogMel()(torch.from_numpy(wav)[None])[0].numpy()
    np.testing.assert_allclose(found, reference(wav), rtol=0, atol=2e-3)
    assert np.abs(found - reference(wav)).mean() < 1e-5


def test_equals_librosa_with_other_options():
    options = {"n_fft": 512, "win_length": 400, "hop_length": 200, "n_mels": 40}
    features = LogMel(16000, f_min=50.0, f_max=7000.0, floor=1e-4, **options)
    wav = sweep()
    expected = reference(wav, 1e-4, sr=16000, fmin=50.0, fmax=7000.0, **options)
    found = features(torch.from_numpy(wav)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("samples", [513, 1023, 1024, 2559, 2560, 2561])
def test_number_of_frames(samples):
    mel = LogMel()(torch.zeros(2, samples))
    assert mel.shape == (2, 80, 1 + samples // 256)


def test_silence_is_at_the_floor():
    assert LogMel(floor=1e-3)(torch.zeros(1, 2048)).unique().item() == pytest.approx(math.log(1e-3))


def test_items_of_a_batch_do_not_mix():
    features, wav = LogMel(), torch.from_numpy(np.stack([sweep(4096), sweep(4096)[::-1].copy()]))
    both = features(wav)
    for b in range(2):
        torch.testing.assert_close(both[b], features(wav[b : b + 1])[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("first,count", [(2, 1), (2, 6), (30, 40)])
def test_frames_of_a_slice_are_the_crop_of_the_whole(first, count):
    features, wav = LogMel(), torch.from_numpy(sweep())[None]
    start, end = first * 256 - features.margin, (first + count - 1) * 256 + features.margin
    found = features.frames(wav[:, start:end])
    expected = features(wav)[..., first : first + count]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_is_fp32_under_autocast_and_from_fp64():
    features, wav = LogMel(), torch.from_numpy(sweep(4096))[None]
    expected = features(wav)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(wav), expected)
    assert features(wav.double()).dtype == torch.float32


def test_has_nothing_to_save():
    assert not LogMel().state_dict() and not list(LogMel().parameters())
