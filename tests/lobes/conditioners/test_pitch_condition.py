import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.pitch_condition import (
    PITCH_LIMIT,
    PitchCondition,
    normalize_pitch,
    pitch_from_values,
    pitch_values,
    place_pitch,
    quantize_pitch,
)

import librosa
import pytest
import torch

from tests.lobes.flows.transform_base import random_tensor, randomized

STATISTICS = torch.tensor([[5.0, 0.2], [4.6, 0.15]], dtype=torch.float64)


def contour(frames, batch=2, seed=0):
    """Log-F0 within three deviations of STATISTICS, with pauses: ``[batch, frames]``."""
    mean, std = STATISTICS[:batch, :1], STATISTICS[:batch, 1:]
    log_f0 = mean + std * random_tensor(batch, frames, seed=seed).clamp(-2.9, 2.9)
    return log_f0 * (random_tensor(batch, frames, seed=seed + 1) > -0.5)


def blocks_of(values, voiced=None):
    """Pitch ``[1, frames, 2]`` of these values, voiced where there is no other word of it."""
    values = torch.tensor(values, dtype=torch.float64)
    voiced = torch.ones_like(values) if voiced is None else torch.tensor(voiced).double()
    return torch.stack([values * voiced, voiced], dim=-1)[None]


# ---- units


def test_what_is_normalized_and_placed_is_as_before():
    log_f0 = contour(50)
    pitch = normalize_pitch(log_f0, STATISTICS)
    torch.testing.assert_close(place_pitch(pitch, STATISTICS), log_f0, rtol=0, atol=1e-12)
    voiced = log_f0 > 0
    assert 0.5 < voiced.double().mean() < 0.9
    assert torch.equal(pitch[..., 1], voiced.double())
    assert not pitch[..., 0][~voiced].any()


def test_a_contour_is_placed_in_the_range_of_another_speaker():
    one_above = torch.full((1, 3), 5.0 + 0.2, dtype=torch.float64)
    placed = place_pitch(normalize_pitch(one_above, STATISTICS[:1]), STATISTICS[1:])
    assert placed.tolist() == [pytest.approx([4.6 + 0.15] * 3)]


def test_what_is_placed_is_a_voice():
    high = blocks_of([50.0, -50.0, 0.0], [1, 1, 0])
    placed = place_pitch(high, STATISTICS[:1])
    expected = torch.tensor([[math.log(800), math.log(40), 0.0]]).double()
    torch.testing.assert_close(placed, expected)


# ---- quantization


@pytest.mark.parametrize("levels", [2, 3, 4, 7, 31])
def test_so_many_levels_as_asked_for_evenly_between_the_limits(levels):
    ramp = blocks_of(torch.linspace(-4, 4, 2001).tolist())
    rounded = quantize_pitch(ramp, 1, levels)[0, :, 0]
    found = rounded.round(decimals=9).unique()
    expected = torch.linspace(-PITCH_LIMIT, PITCH_LIMIT, levels, dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    # The nearest of them.
    error = (rounded - ramp[0, :, 0].clamp(-3, 3)).abs()
    assert error.max() <= 3 / (levels - 1) + 1e-9


@pytest.mark.parametrize("stride", [2, 4])
def test_a_block_has_one_value_the_mean_of_its_voiced_frames(stride):
    values = [[0.7, 1.3], [0.2, 1.2, 1.2, 9.0]][stride == 4]
    voiced = [[1, 1], [1, 1, 1, 0]][stride == 4]
    mean = sum(v for v, w in zip(values, voiced, strict=True) if w) / sum(voiced)
    found = quantize_pitch(blocks_of(values, voiced), stride, 6001)[0]
    torch.testing.assert_close(found[:, 0], torch.full_like(found[:, 0], mean), rtol=0, atol=5e-4)
    assert found[:, 1].tolist() == [1.0] * stride


def test_a_block_is_voiced_if_half_of_its_frames_are():
    voiced = [1, 0, 0, 0] + [1, 0, 0, 1] + [0, 0, 0, 0] + [0, 1]
    found = quantize_pitch(blocks_of([1.0] * 14, voiced), 4, 31)[0]
    # Of the last block there are two frames only.
    assert found[:, 1].tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 2
    assert found[:, 0].tolist() == pytest.approx([0] * 4 + [1] * 4 + [0] * 4 + [1] * 2)


def test_between_blocks_the_value_is_interpolated():
    """A straight line stays one, but before the first and after the last centre of a block."""
    line = torch.linspace(-1, 1, 24, dtype=torch.float64)
    found = quantize_pitch(blocks_of(line.tolist()), 4, 60001)[0, :, 0]
    torch.testing.assert_close(found[2:-2], line[2:-2], rtol=0, atol=1e-4)
    assert found[0] == found[1] and found[-1] == found[-2]


def test_values_are_held_towards_what_is_unvoiced():
    values = [1.0] * 4 + [0.0] * 4 + [2.0] * 4
    found = quantize_pitch(blocks_of(values, [1] * 4 + [0] * 4 + [1] * 4), 4, 7)
    assert found[0, :, 0].tolist() == pytest.approx(values)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
def test_what_is_quantized_is_quantized(stride):
    """Blocks of one value each are left alone where they are far from each other."""
    pitch = normalize_pitch(contour(23), STATISTICS)
    once = quantize_pitch(pitch, stride, 31)
    assert torch.equal(quantize_pitch(once, stride, 31)[..., 1], once[..., 1])
    if stride == 1:
        torch.testing.assert_close(quantize_pitch(once, 1, 31), once)
    # Voicing is one decision of each block.
    for first in range(0, 23, stride):
        voiced = once[:, first : first + stride, 1]
        assert (voiced == voiced[:, :1]).all()


@pytest.mark.parametrize("levels", [2, 3, 30, 31, 1001])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7])
def test_whole_numbers_say_all_that_is_left_of_the_pitch(stride, levels):
    """For 32 bits too, as they are used."""
    pitch = normalize_pitch(contour(61), STATISTICS).float()
    values = pitch_values(pitch, stride, levels)
    assert values.dtype == torch.int64 and values.shape == (2, -(-61 // stride))
    assert values.min() == 0 and levels / 2 < values.max() <= levels
    again = pitch_from_values(values, stride, levels, 61)
    assert again.shape == (2, 61, 2)
    assert torch.equal(quantize_pitch(again, stride, levels), quantize_pitch(pitch, stride, levels))
    # Also where the intonation is then taken away.
    flat = torch.tensor([0.0, 1.0])
    assert torch.equal(
        quantize_pitch(again * flat, stride, levels), quantize_pitch(pitch * flat, stride, levels)
    )


def test_whole_numbers_of_extremes():
    pitch = blocks_of([-9.0, -3.0, 0.0, 0.0, 3.0, 9.0], [1, 1, 1, 0, 1, 1])
    assert pitch_values(pitch, 1, 31).tolist() == [[1, 1, 16, 0, 31, 31]]


def padded(pitch, frames):
    """A batch of the item's first so many frames, with what would be heard behind them."""
    mask = torch.arange(pitch.shape[1]) < torch.tensor(frames)[:, None]
    return pitch.masked_fill(~mask[..., None], 3.0), mask[:, None]


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("voiced", ["some", "all"])
def test_items_of_a_padded_batch_equal_themselves_alone(stride, voiced):
    frames, log_f0 = (13, 9, 6, 1), contour(13, 1).repeat(4, 1)
    if voiced == "all":
        log_f0 = log_f0.clamp_min(4.7)
    statistics = STATISTICS[:1].repeat(4, 1)
    pitch, mask = padded(normalize_pitch(log_f0, statistics), frames)
    condition = randomized(PitchCondition(LogMel(), 6, stride), 0.1)
    both = condition.quantize(pitch, mask)
    hidden, harmonics = condition(pitch, statistics, mask)
    for b, count in enumerate(frames):
        one = pitch[b : b + 1, :count]
        torch.testing.assert_close(both[b, :count], condition.quantize(one)[0])
        alone = condition(one, statistics[:1])
        torch.testing.assert_close(hidden[b, :, :count], alone[0][0], rtol=0, atol=1e-9)
        torch.testing.assert_close(harmonics[b, :, :count], alone[1][0], rtol=0, atol=1e-9)


# ---- the condition


def template(f0, frames=3):
    """Harmonics ``[n_mels]`` of a voice at f0, rounded to what a code says, and the bands' Hz."""
    condition = PitchCondition(LogMel(), 6, stride=1, levels=3)
    pitch = torch.tensor([[[0.0, 1.0]]]).expand(1, frames, 2)
    statistics = torch.tensor([[math.log(f0), 0.2]])
    return condition(pitch, statistics)[1][0, :, 0], condition.centres


@pytest.mark.parametrize("f0", [150.0, 220.0])
def test_harmonics_lie_at_multiples_of_f0(f0):
    values, centres = template(f0)
    # Below a kilohertz, bands are narrower than the distance of harmonics.
    for multiple in (1, 2, 3):
        at = int((centres - multiple * f0).abs().argmin())
        between = int((centres - (multiple + 0.5) * f0).abs().argmin())
        assert values[at] > 0.3 and values[between] < -0.3
        nearby = values[at - 2 : at + 3]
        assert nearby.argmax() in (1, 2, 3)  # a band next to the nearest may be narrower


def test_bands_that_hold_several_harmonics_see_none():
    values, centres = template(80.0)
    assert values[centres > 4000].abs().max() < 0.05 < values[centres < 400].abs().max()


@pytest.mark.parametrize("f0", [130.0, 180.0, 260.0])
def test_another_f0_moves_them(f0):
    values, centres = template(f0)
    first = values[centres < 1.5 * f0].argmax()
    # Bands are 37 Hz apart here.
    assert abs(float(centres[first]) - f0) < 20


def test_the_template_is_its_formula():
    f0 = 190.0
    values, _ = template(f0)
    features = LogMel()
    edges = librosa.mel_frequencies(features.n_mels + 2, fmin=features.f_min, fmax=features.f_max)
    for band in (0, 5, 12, 40):
        centre, width = edges[band + 1], (edges[band + 2] - edges[band]) / 2
        expected = math.exp(-((width / f0) ** 2)) * math.cos(2 * math.pi * centre / f0)
        assert float(values[band]) == pytest.approx(expected, abs=1e-4)


def test_unvoiced_stays_unvoiced_whoever_speaks():
    condition = randomized(PitchCondition(LogMel(), 6), 0.1)
    pitch = normalize_pitch(torch.zeros(2, 9).double(), STATISTICS)
    hidden, harmonics = condition(pitch, STATISTICS)
    assert not pitch.any() and not harmonics.any()
    assert torch.equal(hidden[0], hidden[1])


def test_the_condition_follows_contour_and_target():
    condition = randomized(PitchCondition(LogMel(), 6), 0.1)
    pitch = normalize_pitch(contour(16), STATISTICS)
    changed = pitch * torch.tensor([-1.0, 1.0])
    for other in (condition(changed, STATISTICS), condition(pitch, STATISTICS.flip(0))):
        for found, before in zip(other, condition(pitch, STATISTICS), strict=True):
            assert (found - before).abs().max() > 0.05


@pytest.mark.parametrize(
    ("stride", "levels", "bits"), [(4, 31, 107.666), (1, 31, 430.664), (8, 15, 43.066)]
)
def test_bits_per_second(stride, levels, bits):
    """22050 / 256 / stride values in a second, each of the levels or unvoiced."""
    condition = PitchCondition(LogMel(), 6, stride, levels)
    assert condition.bits_per_second == pytest.approx(bits, abs=1e-3)


def test_arithmetic_of_pitch_is_fp32_under_autocast():
    condition = PitchCondition(LogMel(), 6, stride=1)
    pitch = normalize_pitch(contour(20), STATISTICS).float()
    plain = condition(pitch, STATISTICS)[1]
    with torch.autocast("cpu", torch.bfloat16):
        low = condition(pitch, STATISTICS)[1]
    assert low.dtype == torch.float32 and torch.equal(low, plain)


@pytest.mark.parametrize("options", [{"stride": 0}, {"levels": 1}])
def test_bad_options(options):
    with pytest.raises(UserError, match="pitch_stride, pitch_levels"):
        PitchCondition(LogMel(), 6, **options)
