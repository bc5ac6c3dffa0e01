"""Tests of the sum over all ways to read a text: against all of them, one by one."""

import itertools

from waveglow_vq.lobes.text_to_codes.alignment_loss import forward_sum

import torch


def all_paths(codes, tokens):
    """Places of the tokens in every way to read them in order, each at least once."""
    for cuts in itertools.combinations(range(1, codes), tokens - 1):
        edges = [0, *cuts, codes]
        yield [s for s in range(tokens) for _ in range(edges[s + 1] - edges[s])]


def by_hand(scores):
    """Likelihood and places of one item without padding."""
    codes, tokens = scores.shape
    total, places = 0.0, torch.zeros(codes, tokens, dtype=torch.float64)
    for path in all_paths(codes, tokens):
        weight = float(scores[range(codes), path].double().sum().exp())
        total += weight
        places[range(codes), path] += weight
    return torch.tensor(total).log(), places / total


def batch():
    torch.manual_seed(0)
    # Not normalized in either direction.
    return torch.randn(4, 7, 4) * 3 - 5, torch.tensor([7, 5, 4, 6]), torch.tensor([3, 4, 4, 1])


def test_it_is_the_sum_over_all_paths():
    scores, codes, tokens = batch()
    likelihood, places = forward_sum(scores, codes, tokens)
    for item in range(4):
        t, s = int(codes[item]), int(tokens[item])
        expected, where = by_hand(scores[item, :t, :s])
        torch.testing.assert_close(likelihood[item].double(), expected.double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(places[item, :t, :s].double(), where, atol=1e-5, rtol=0)
        assert not places[item, t:].any() and not places[item, :, s:].any()


def test_its_slope_is_where_the_tokens_are_read():
    scores, codes, tokens = batch()
    scores.requires_grad_()
    likelihood, places = forward_sum(scores, codes, tokens)
    (slope,) = torch.autograd.grad(likelihood.sum(), scores)
    torch.testing.assert_close(slope, places, atol=1e-5, rtol=0)
    assert not places.requires_grad


def test_padding_is_not_looked_at():
    scores, codes, tokens = batch()
    before = forward_sum(scores, codes, tokens)
    for item in range(4):
        scores[item, codes[item] :] = 1e3
        scores[item, :, tokens[item] :] = -1e3
    after = forward_sum(scores, codes, tokens)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other)


def test_more_tokens_than_codes_count_for_nothing():
    scores = torch.randn(2, 3, 4).requires_grad_()
    counts = torch.tensor([3, 3]), torch.tensor([4, 2])
    likelihood, places = forward_sum(scores, *counts)
    assert likelihood[0] == 0 and not places[0].any() and likelihood[1] != 0
    likelihood.sum().backward()
    assert scores.grad.isfinite().all() and not scores.grad[0].any()


def test_it_works_where_no_gradients_are_wanted_and_in_half_precision():
    scores, codes, tokens = batch()
    with torch.no_grad():
        likelihood, places = forward_sum(scores.bfloat16(), codes, tokens)
    assert likelihood.dtype == places.dtype == torch.float32
    torch.testing.assert_close(places.sum(2), (torch.arange(7) < codes[:, None]).float())
