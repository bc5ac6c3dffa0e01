"""Coupling networks of the same shape share what is compiled."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.lobes.flows import WaveGlow
from waveglow_vq.training.compilation import compile_coupling_networks

import torch
from torch._dynamo.utils import counters


def test_one_graph_for_each_shape_and_the_same_numbers():
    torch._dynamo.reset()
    torch.manual_seed(0)
    flow = WaveGlow(LogMel(), condition_channels=80, prior="white", flows=6, layers=2, channels=8)
    names = list(flow.state_dict())
    x, condition = torch.randn(1, 1024) * 0.1, torch.randn(1, 80, 4)
    expected = flow(x, condition)
    counters.clear()
    # Early outputs leave the last two flows a smaller half.
    assert compile_coupling_networks(flow, backend="eager") == 6
    for value, other in zip(flow(x, condition), expected, strict=True):
        torch.testing.assert_close(value, other)
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"]
    assert list(flow.state_dict()) == names
