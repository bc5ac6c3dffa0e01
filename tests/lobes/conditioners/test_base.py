from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.layers import ResidualStack
from waveglow_vq.utils.masking import code_mask, frame_mask, relative_code_lengths

import pytest
import torch

from tests.lobes.conditioners.conditioner_base import (
    HOP,
    assert_items_equal_themselves_alone,
    mels,
    ready,
    same,
)
from tests.lobes.flows.transform_base import random_tensor, tiny_features


@pytest.mark.parametrize("layers", [0, 2])
def test_mel_item_of_a_padded_batch_equals_itself_alone(layers):
    conditioner = ready(MelConditioner(tiny_features(), channels=10, layers=layers))
    items = [mels(frames, seed=frames) for frames in (9, 4, 7)]
    assert_items_equal_themselves_alone(conditioner, items, lambda x: x.shape[-1], None)


def test_mel_conditioner_without_layers_hands_the_mel_on():
    conditioner, mel = MelConditioner(tiny_features(), channels=10, layers=0), mels(5)
    condition = conditioner(mel)
    assert condition.local is mel and condition.log_mel is mel and condition.quantized is None
    assert conditioner.channels == 8 and condition.hop == HOP and not list(conditioner.parameters())


def test_masks_and_lengths():
    assert frame_mask(None, 4) is None and frame_mask(torch.ones(2), 4) is None
    # 7 of 11 frames with stride 3 are 3 of 4 codes; one of 11 is one code.
    lengths = torch.tensor([1.0, 7 / 11, 1 / 11])
    assert relative_code_lengths(lengths, 11, 3).tolist() == [1.0, 0.75, 0.25]
    assert code_mask(lengths, 11, 3).sum(-1).flatten().tolist() == [4, 3, 1]
    # Rounding in fp32 must not lose or gain a frame at any length that occurs.
    for frames in (87, 861, 1000):
        counts = torch.arange(1, frames + 1)
        mask = frame_mask(counts / frames, frames)
        assert torch.equal(mask.sum(-1).flatten(), counts)
    last = torch.tensor([220416]) / 220417  # ten seconds in samples
    assert frame_mask(last, 220417).sum() == 220416


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
