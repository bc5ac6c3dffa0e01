from waveglow_vq.errors import UserError
from waveglow_vq.lobes.layers import ResidualStack

import pytest
import torch

from tests.lobes.conditioners.conditioner_base import ready, same
from tests.lobes.flows.transform_base import random_tensor


@pytest.mark.parametrize("speaker_channels", [0, 3])
def test_residual_stack_holds_padding_at_zero(speaker_channels):
    stack = ready(ResidualStack(6, 2, speaker_channels=speaker_channels))
    x = random_tensor(1, 6, 9)
    speaker = random_tensor(1, 3, seed=1) if speaker_channels else None
    mask = torch.arange(9).lt(5)[None, None]
    same(stack(x, mask, speaker)[..., :5], stack(x[..., :5], None, speaker), atol=1e-12)


def test_residual_stack_follows_its_speaker():
    """Not at first: a model that knows no speaker yet is one without speakers."""
    stack = ResidualStack(6, 2, speaker_channels=3)
    x, speakers = torch.randn(1, 6, 9), torch.randn(2, 1, 3)
    assert torch.equal(stack(x, None, speakers[0]), stack(x, None, speakers[1]))
    stack = ready(stack).float()
    assert not torch.allclose(stack(x, None, speakers[0]), stack(x, None, speakers[1]), atol=1e-3)


def test_residual_stack_is_its_formula():
    """Of one block with a kernel of one tap: h + W2 gelu(W1 (s gelu(h) + t))."""
    stack = ready(ResidualStack(2, 1, kernel_size=1, speaker_channels=3))
    x, speaker = random_tensor(1, 2, 5), random_tensor(1, 3, seed=1)
    scale, shift = stack.modulation(speaker)[0].chunk(2)
    gelu = torch.nn.functional.gelu
    hidden = gelu(x) * (1 + scale[:, None]) + shift[:, None]
    same(stack(x, None, speaker), x + stack.narrow[0](gelu(stack.wide[0](hidden))), atol=1e-12)


def test_bad_options():
    with pytest.raises(UserError, match="kernel_size: 2"):
        ResidualStack(6, 1, kernel_size=2)
