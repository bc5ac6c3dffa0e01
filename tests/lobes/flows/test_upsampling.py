from waveglow_vq.lobes.flows.inference_cache import prepare_inference
from waveglow_vq.lobes.flows.upsampling import LearnedUpsampling

import pytest
import torch


def test_order_of_channels_is_the_published_one():
    """Upsampled to samples, cut, unfolded into groups: channel * group_size + r."""
    layer = LearnedUpsampling(3, hop=16, group_size=4).double()
    frames = torch.randn(2, 3, 5, dtype=torch.float64)
    samples = torch.nn.functional.conv_transpose1d(frames, layer.weight, layer.bias, stride=16)
    assert samples.shape[-1] == 8 * 16
    found = layer(frames)
    assert found.shape == (2, 12, 20)
    for channel, r, group in [(0, 0, 0), (2, 3, 19), (1, 2, 7)]:
        expected = samples[:, channel, 4 * group + r]
        torch.testing.assert_close(found[:, 4 * channel + r, group], expected)


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_prepared_equals_plain(frames):
    layer = LearnedUpsampling(3, hop=16, group_size=4).double().eval()
    x = torch.randn(2, 3, frames, dtype=torch.float64)
    with torch.no_grad():
        plain = layer(x)
        prepare_inference(layer)
        torch.testing.assert_close(layer(x), plain, rtol=0, atol=1e-12)


def test_keys_are_those_of_a_transposed_convolution():
    layer = LearnedUpsampling(3, hop=16, group_size=4)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {"weight": (3, 3, 64), "bias": (3,)}
