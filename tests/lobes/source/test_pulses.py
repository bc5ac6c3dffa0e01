import math

from waveglow_vq.lobes.source.pitch_rows import PitchRows, followed_phase
from waveglow_vq.lobes.source.pulses import continued, pulse_train

import pytest
import torch


def contour(frames, seed=0):
    steps = torch.randn(2, frames, generator=torch.Generator().manual_seed(seed))
    return 120 * (0.03 * steps.cumsum(1)).exp()


def rows_of(f0):
    return PitchRows(256, 22050).of(f0, torch.ones_like(f0))


def test_pulses_fall_where_periods_end():
    """Against multiples of the period; each pulse's centre of gravity is between two samples."""
    pulses = pulse_train(rows_of(torch.full((1, 9), 100.3)), 256, 22050)
    period = 22050 / 100.3
    expected = [k * period for k in range(1, math.ceil(2048 / period))]
    places = torch.arange(2048.0)
    for k, place in enumerate(expected):
        near = (places - place).abs() < 1
        weight = pulses[0, near]
        assert weight.sum() == pytest.approx(period**0.5, rel=1e-5)
        assert (weight * places[near]).sum() / weight.sum() == pytest.approx(place, abs=1e-3), k
    assert (pulses > 0).sum() <= 2 * len(expected)


@pytest.mark.parametrize("parts", [(1,) * 12, (5, 7), (3, 1, 8)])
def test_parts_are_the_whole(parts):
    """Rows made part by part, and pulses of cut rows, but for the sample that a pulse before the
    cut shares."""
    f0 = contour(13)
    whole = pulse_train(rows_of(f0), 256, 22050)
    maker = PitchRows(256, 22050)
    pieces = [maker.of(part, torch.ones_like(part)) for part in f0.split([*parts, 1], dim=1)]
    rows = torch.cat(pieces, dim=-1)
    torch.testing.assert_close(rows, rows_of(f0), rtol=0, atol=1e-5)
    first = 0
    for count in parts:
        piece = pulse_train(rows[..., first : first + count + 1], 256, 22050)
        expected = whole[:, first * 256 : (first + count) * 256]
        torch.testing.assert_close(piece[:, 1:], expected[:, 1:], rtol=0, atol=1e-3)
        first += count


def test_pulses_follow_a_recording():
    """They fall on the maxima of a fundamental whose F0 is known roughly."""
    hertz, places = 108.0, torch.arange(256 * 40.0)
    wav = torch.cos(2 * torch.pi * hertz / 22050 * (places - 77)) + 0.5 * torch.cos(
        4 * torch.pi * hertz / 22050 * (places - 77)
    )
    f0 = torch.full((1, 41), 111.0)
    phase = followed_phase(wav[None], f0, 256, 22050)
    pulses = pulse_train(torch.stack([f0, torch.ones_like(f0), phase], dim=1), 256, 22050)[0]
    found = places[(pulses > 0.4 * pulses.max()) & (places > 1024) & (places < 256 * 36)]
    off = (found - 77) / 22050 * hertz
    assert len(found) > 30 and float((off - off.round()).abs().max()) < 0.015


def test_continued_goes_on():
    rows = rows_of(torch.full((1, 9), 131.0))
    torch.testing.assert_close(continued(rows[..., :8], 256, 22050), rows, rtol=0, atol=1e-5)


def test_energy_is_one_per_sample():
    """Where pulses fall on samples; between them, at least half of it."""
    pulses = pulse_train(rows_of(torch.full((1, 401), 22050 / 200)), 256, 22050)
    assert pulses.square().mean().item() == pytest.approx(1, rel=0.02)
    pulses = pulse_train(rows_of(contour(401)), 256, 22050)
    assert 0.5 < pulses.square().mean().item() < 1
