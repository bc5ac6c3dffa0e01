from waveglow_vq.lobes.source.pulses import pulse_train

import pytest
import torch


def contour(frames, seed=0):
    steps = torch.randn(2, frames, generator=torch.Generator().manual_seed(seed))
    return 120 * (0.03 * steps.cumsum(1)).exp()


def test_pulses_fall_where_periods_end():
    """Against sums of periods in Python; each pulse's centre of gravity is between two samples."""
    f0 = torch.full((1, 9), 100.3)
    pulses, phase = pulse_train(f0, 256, 22050)
    period = 22050 / 100.3
    expected = [k * period - 1 for k in range(1, int(2048 / period) + 1)]
    places = torch.arange(2048.0)
    for k, place in enumerate(expected):
        near = (places - place).abs() < 1
        weight = pulses[0, near]
        assert weight.sum() == pytest.approx(period**0.5, rel=1e-5)
        assert (weight * places[near]).sum() / weight.sum() == pytest.approx(place, abs=1e-3), k
    assert (pulses > 0).sum() <= 2 * len(expected) + 1
    assert phase.item() == pytest.approx(2048 / period)


@pytest.mark.parametrize("parts", [(1,) * 12, (5, 7), (3, 1, 8)])
def test_parts_are_the_whole(parts):
    f0 = contour(13)
    whole, _ = pulse_train(f0, 256, 22050)
    first, phase, pieces = 0, None, []
    for count in parts:
        piece, phase = pulse_train(f0[:, first : first + count + 1], 256, 22050, phase)
        pieces.append(piece)
        first += count
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-5)


def test_energy_is_one_per_sample():
    """Where pulses fall on samples; between them, at least half of it."""
    pulses, _ = pulse_train(torch.full((1, 401), 22050 / 200), 256, 22050)
    assert pulses.square().mean().item() == pytest.approx(1, rel=0.02)
    pulses, _ = pulse_train(contour(401), 256, 22050)
    assert 0.5 < pulses.square().mean().item() < 1
