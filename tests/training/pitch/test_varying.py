import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.training.pitch.variety import Variety
from waveglow_vq.training.pitch.varying import at_speed, varied

import pytest
import torch

FEATURES = LogMel()


@pytest.mark.parametrize("speed", [0.6, 1.5])
def test_faster_recordings_have_higher_voices(speed):
    time = torch.arange(22050) / 22050
    wav = (2 * math.pi * (150 * time + 20 * time.square())).sin()
    f0 = 150 + 40 * torch.arange(87) * 256 / 22050
    f0[:10] = 0
    log_mel, faster = at_speed(wav, f0, speed, FEATURES)
    assert log_mel.shape == (80, len(faster)) and len(faster) == 1 + int(22050 / speed) // 256
    assert not faster[: int(9.4 / speed)].any()
    place = torch.arange(len(faster)) * 256 / 22050 * speed
    voiced = faster > 0
    expected = speed * (150 + 40 * place)
    # Edges of what is voiced are the nearest frame's.
    assert (faster / expected - 1)[voiced][2:-2].abs().max() < 1e-3
    loudest = log_mel[:, voiced][:, 3:-3].argmax(0).float()
    lowest = at_speed(wav, f0, 1.0, FEATURES)[0][:, 30].argmax()
    assert (loudest.mean() > lowest) == (speed > 1)


def drawn(variety, seed=0):
    log_mel = torch.full((80, 12), -3.0)
    return varied(log_mel, variety, FEATURES, torch.Generator().manual_seed(seed))


def test_ranges():
    quiet = {"noise_db": (90.0, 90.0), "lowest_cut_hz": 8000.0}
    gained = drawn(Variety(gains_db=(6.0, 6.0), **quiet))
    assert torch.allclose(gained, torch.tensor(-3.0 + math.log(10) * 0.3), atol=1e-3)
    clean, noisy = (Variety(gains_db=(0.0, 0.0), noise_db=(r, r)) for r in (90.0, -20.0))
    many = [drawn(clean, seed) for seed in range(20)]
    cut = [one for one in many if one[-1, 0] < -11]
    assert 1 < len(cut) < 12
    assert all(abs(float(one[30].mean()) + 3) < 1e-3 for one in many)
    loud = [
        drawn(Variety(gains_db=(0.0, 0.0), noise_db=(-20.0, -20.0)), seed) for seed in range(20)
    ]
    assert 4 < sum(float(one[:20].mean()) > -2.5 for one in loud) < 16


@pytest.mark.parametrize(
    "change",
    [{"copies": -1}, {"speeds": (2.0, 1.0)}, {"speeds": (0.0, 1.0)}, {"noise_db": (0.0, math.inf)}],
)
def test_out_of_range(change):
    with pytest.raises(UserError, match=next(iter(change))):
        Variety(**change).check()
