import math

from waveglow_vq.lobes.conditioners.disentanglement import (
    instance_norm,
    random_warp,
    time_jitter,
    warp_bands,
)

import pytest
import torch

from tests.lobes.flows.transform_base import random_tensor

# ---- instance normalization


def mask_of(*frames):
    return (torch.arange(max(frames)) < torch.tensor(frames)[:, None])[:, None]


def test_every_channel_has_zero_mean_and_unit_variance():
    x = random_tensor(2, 5, 40) * torch.tensor([1.0, 10.0, 3.0, 0.5, 100.0])[:, None] + 7
    y = instance_norm(x)
    assert y.mean(-1).abs().max() < 1e-10
    # Of the variance of the smallest channel, the constant beneath the root is half a thousandth.
    assert (y.var(-1, unbiased=False) - 1).abs().max() < 1e-3


def test_what_is_constant_over_an_utterance_is_lost():
    """A gain and an offset of each channel, as a voice or a microphone has them."""
    x, gain, offset = random_tensor(2, 5, 40), random_tensor(2, 5, 1, seed=1).exp(), 3
    same = instance_norm(gain * x + offset * random_tensor(2, 5, 1, seed=2), epsilon=1e-12)
    torch.testing.assert_close(same, instance_norm(x, epsilon=1e-12), rtol=0, atol=1e-9)


def test_items_of_a_padded_batch_are_normalized_by_themselves():
    x, frames = random_tensor(3, 5, 9), (9, 4, 1)
    x[1, :, 4:], x[2, :, 1:] = 1e6, math.pi
    y = instance_norm(x, mask_of(*frames))
    for b, count in enumerate(frames):
        alone = instance_norm(x[b : b + 1, :, :count])
        torch.testing.assert_close(y[b : b + 1, :, :count], alone, rtol=0, atol=1e-12)
        assert not y[b, :, count:].any()


@pytest.mark.parametrize("frames", [1, 30])
def test_constant_channels_stay_at_zero_with_finite_gradients(frames):
    x = torch.full((2, 3, frames), -11.5, requires_grad=True)
    y = instance_norm(x)
    (y * torch.randn_like(y)).sum().backward()
    assert y.abs().max() < 1e-2 and torch.isfinite(x.grad).all()


def test_statistics_are_at_least_fp32():
    x = (torch.randn(1, 2, 500) + 100).bfloat16()
    y = instance_norm(x)
    assert y.dtype == torch.float32 and y.mean(-1).abs().max() < 1e-4
    assert instance_norm(random_tensor(1, 2, 9)).dtype == torch.float64


# ---- time jitter


def jittered_places(codes, probability, lengths=None, batch=1):
    """For each code of the result, the place in the sequence that it comes from."""
    torch.manual_seed(0)
    places = torch.arange(float(codes)).view(1, codes, 1).repeat(batch, 1, 2)
    result = time_jitter(places, probability, lengths)
    assert torch.equal(result[..., 0], result[..., 1])  # whole vectors
    return result[..., 0].long()


@pytest.mark.parametrize("probability", [0.12, 0.5])
def test_codes_are_replaced_by_neighbours_at_the_rate_that_was_asked_for(probability):
    codes = 40000
    step = jittered_places(codes, probability)[0] - torch.arange(codes)
    assert set(step.tolist()) == {-1, 0, 1}
    # Four standard deviations of the share are 0.01 at most.
    for direction in (-1, 1):
        assert abs((step == direction).float().mean() - probability / 2) < 0.01


def test_every_code_of_a_batch_has_its_own_draw():
    places = jittered_places(200, 0.5, batch=2)
    assert not torch.equal(places[0], places[1])


@pytest.mark.parametrize("lengths", [[12, 5, 1], [12, 12, 12], None])
def test_neither_padding_nor_the_other_side_of_an_edge_enters(lengths):
    relative = None if lengths is None else torch.tensor(lengths) / 12
    for seed in range(50):
        torch.manual_seed(seed)
        x = torch.arange(12.0).view(1, 12, 1).repeat(3, 1, 1)
        y = time_jitter(x, 0.9, relative)[..., 0]
        for b, count in enumerate(lengths or [12] * 3):
            assert y[b, :count].min() >= 0 and y[b, :count].max() <= count - 1
            # Padding stays where it is.
            assert torch.equal(y[b, count:], x[b, count:, 0])


def test_without_probability_nothing_is_replaced():
    x = torch.randn(2, 50, 3)
    assert torch.equal(time_jitter(x, 0.0), x)


def test_the_gradient_goes_to_the_code_that_was_heard():
    x = torch.randn(1, 30, 1, requires_grad=True)
    torch.manual_seed(1)
    time_jitter(x, 0.5).sum().backward()
    torch.manual_seed(1)
    heard = time_jitter(torch.arange(30.0).view(1, 30, 1), 0.5).flatten().long()
    assert torch.equal(x.grad.flatten(), torch.bincount(heard, minlength=30).float())


# ---- warping of bands


def peak_at(band, bands=80):
    return torch.exp(-0.5 * ((torch.arange(bands) - band) / 2.0).square())[None, :, None]


def test_a_factor_of_one_is_the_identity():
    x = torch.randn(2, 80, 7)
    torch.testing.assert_close(warp_bands(x, torch.ones(2)), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_formants_move_by_the_factor(factor):
    warped = warp_bands(peak_at(40), torch.tensor([factor]))
    assert int(warped[0, :, 0].argmax()) == 40 * factor
    assert warped.max() == pytest.approx(1.0)


def test_every_item_has_its_own_factor():
    both = warp_bands(peak_at(40).repeat(2, 1, 3), torch.tensor([0.9, 1.1]))
    assert both.argmax(1).tolist() == [[36] * 3, [44] * 3]


def test_above_the_last_band_it_is_held():
    ramp = torch.arange(80.0).view(1, 80, 1)
    warped = warp_bands(ramp, torch.tensor([0.5]))[0, :, 0]
    assert torch.equal(warped[:40], torch.arange(0.0, 80.0, 2)) and (warped[40:] == 79).all()


def test_factors_are_drawn_evenly_on_both_sides():
    torch.manual_seed(0)
    ramp = torch.arange(80.0).view(1, 80, 1).repeat(2000, 1, 1)
    before = ramp.clone()
    factors = 40 / random_warp(ramp, 0.1)[:, 40, 0]
    assert torch.equal(ramp, before)
    assert factors.min() >= math.exp(-0.1) - 1e-4 and factors.max() <= math.exp(0.1) + 1e-4
    log = factors.log()
    # Uniform: standard deviation 0.1 / sqrt(3).
    assert log.mean().abs() < 0.006 and abs(log.std() - 0.1 / 3**0.5) < 0.003
