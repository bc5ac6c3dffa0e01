from waveglow_vq.lobes.filters.blockwise import recursive_filter_blocks
from waveglow_vq.lobes.filters.steps import STEP

import pytest
import torch

from tests.lobes.flows.transform_base import random_tensor


def case(block, order, blocks=3, batch=2):
    """driven, coefficients of stable recursions (their magnitudes sum to less than 1), history."""
    coefficients = random_tensor(batch, blocks, order, seed=31)
    coefficients = 0.9 * coefficients / coefficients.abs().sum(-1, keepdim=True)
    return random_tensor(batch, blocks * block), coefficients, random_tensor(batch, order, seed=32)


def plain_recursion(driven, coefficients, history):
    """Sample by sample, differentiable by autograd."""
    order, block = coefficients.shape[-1], driven.shape[-1] // coefficients.shape[1]
    x = list(history.unbind(1))
    for n in range(driven.shape[-1]):
        before = torch.stack(x[: -order - 1 : -1], dim=-1)
        x.append(driven[:, n] - (coefficients[:, n // block] * before).sum(-1))
    return torch.stack(x[order:], dim=-1)


# Orders below and above a step and a block; blocks of several steps; blocks that STEP does not
# divide.
SHAPES = [(16, 1), (16, 7), (8, 20), (2 * STEP, 5), (2 * STEP, STEP + 9), (STEP + 6, 12)]


@pytest.mark.parametrize("block,order", SHAPES)
def test_equals_the_plain_recursion(block, order):
    inputs = case(block, order)
    torch.testing.assert_close(
        recursive_filter_blocks(*inputs), plain_recursion(*inputs), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("block,order", SHAPES)
def test_gradients_equal_those_of_the_plain_recursion(block, order):
    inputs = [x.requires_grad_() for x in case(block, order)]
    weight = random_tensor(*inputs[0].shape, seed=33)
    found = torch.autograd.grad((recursive_filter_blocks(*inputs) * weight).sum(), inputs)
    expected = torch.autograd.grad((plain_recursion(*inputs) * weight).sum(), inputs)
    for name, a, b in zip(("driven", "coefficients", "history"), found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


def test_goes_on_from_portion_to_portion():
    """More blocks than have their matrices made at once, in both directions of time."""
    inputs = [x.requires_grad_() for x in case(4, 3, blocks=75, batch=2)]
    x = recursive_filter_blocks(*inputs)
    plain = plain_recursion(*inputs)
    torch.testing.assert_close(x, plain, rtol=0, atol=1e-12)
    found = torch.autograd.grad(x.square().sum(), inputs)
    expected = torch.autograd.grad(plain.square().sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_inputs_stay_as_they_are():
    inputs = case(16, 7)
    copies = [x.clone() for x in inputs]
    recursive_filter_blocks(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
