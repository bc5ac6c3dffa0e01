"""The layers in [batch, time, channels] against the network in channels first, with the
convolutions of a CPU and with those of phases, as on a GPU."""

from waveglow_vq.lobes.flows.network import gated_layers
from waveglow_vq.lobes.flows.network.wavenet import WaveNet
from waveglow_vq.lobes.flows.transforms import FlowContext

import pytest
import torch

from tests.lobes.flows.transform_base import flow_context, ragged, random_tensor, randomized


@pytest.fixture(params=["cpu", "phases"])
def way(request, monkeypatch):
    """Of computing dilated convolutions."""
    if request.param == "phases":
        monkeypatch.setattr(gated_layers, "PHASED", {"cpu"})


def results(compute, net, x, context):
    """The output, and the gradients of everything."""
    leaves = [t for t in (x, context.local, context.speaker) if t is not None]
    leaves = [t.requires_grad_() for t in leaves]
    y = compute(x, context)
    y = y if context.mask is None else y * context.mask
    loss = (y * random_tensor(*y.shape, seed=9).to(y.dtype)).sum()
    return [y.detach(), *torch.autograd.grad(loss, [*leaves, *net.parameters()])]


def assert_equals_channels_first(net, x, context, bound):
    found = results(net, net, x, context)
    expected = results(net.channels_first, net, x, context)
    for a, b in zip(found, expected, strict=True):
        # The direction of a normalized weight of one input has no gradient but rounding.
        assert (a - b).norm() <= bound * max(b.norm(), 1e-3)


@pytest.mark.parametrize("groups", [64, 53])
@pytest.mark.parametrize("per_frame", [0, 1, 8])
@pytest.mark.parametrize("is_ragged", [False, True])
def test_equals_channels_first(way, groups, per_frame, is_ragged):
    """Also where time is not a multiple of the dilations, and of a frame."""
    channels = 5 if per_frame else 0
    net = WaveNet(3, 4, 6, layers=5, condition_channels=channels, speaker_channels=2)
    net = randomized(net, 0.3)
    context = flow_context(channels, 64 // (per_frame or 8), per_frame or 1, speaker=2)
    context = ragged(context, groups, 24) if is_ragged else context
    assert_equals_channels_first(net, random_tensor(2, 3, groups), context, 1e-9)


@pytest.mark.parametrize("layers, channels", [(5, 64), (7, 128), (8, 256)])
def test_sizes_in_fp32(way, layers, channels):
    """Coupling networks of tiny, small, and base."""
    net = WaveNet(4, 8, channels, layers, condition_channels=80).float()
    torch.nn.init.normal_(net.end.weight, std=0.1)
    context = FlowContext(torch.randn(2, 80, 5), groups_per_frame=32)
    assert_equals_channels_first(net, torch.randn(2, 4, 160), context, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inference_is_the_same_by_phases(way, dtype):
    net = randomized(WaveNet(3, 4, 6, layers=5, condition_channels=5), 0.3).to(dtype)
    context = flow_context(5, 8, 8)
    context = context._replace(local=context.local.to(dtype))
    x = random_tensor(2, 3, 61).to(dtype)
    with torch.no_grad():
        found, expected = net(x, context), net.channels_first(x, context)
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)


def test_accumulated_gradients_are_sums_and_share_no_memory():
    net = randomized(WaveNet(3, 4, 6, layers=3, condition_channels=5, speaker_channels=2), 0.3)
    context = flow_context(5, 4, 8, speaker=2)
    xs = [random_tensor(2, 3, 32, seed=seed) for seed in (1, 2)]
    separate = [torch.autograd.grad(net(x, context).sum(), list(net.parameters())) for x in xs]
    for x in xs:
        net(x, context).sum().backward()
    for parameter, *parts in zip(net.parameters(), *separate, strict=True):
        torch.testing.assert_close(parameter.grad, sum(parts), rtol=1e-12, atol=1e-12)
    before = [p.grad.clone() for p in net.parameters()]
    for parameter in net.parameters():
        parameter.grad.mul_(2)  # as clipping does it
    for parameter, was in zip(net.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, 2 * was)
