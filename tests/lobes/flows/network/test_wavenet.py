from waveglow_vq.lobes.flows.network.wavenet import WaveNet
from waveglow_vq.lobes.flows.transforms import FlowContext
from waveglow_vq.lobes.flows.upsampling import frames_to_groups, interpolate_frames

import pytest
import torch

from tests.lobes.flows.transform_base import flow_context, ragged, random_tensor, randomized


def network(**options):
    options = {"channels": 6, "layers": 3, "condition_channels": 5, **options}
    return randomized(WaveNet(3, 4, **options), 0.3)


def plain_forward(net, x, local, per_frame, speaker=None, mask=1):
    """The network as the papers write it: interpolate the condition, then project it; no fold."""
    weight = torch.nn.functional.conv1d
    h, skips, channels = net.start(x * mask), 0, net.channels
    if local is not None:
        local = frames_to_groups(local, x.shape[-1], per_frame)
    for i, (dilated, out) in enumerate(zip(net.dilated, net.residual_skip, strict=True)):
        rows = slice(2 * channels * i, 2 * channels * (i + 1))
        h = h * mask
        u = weight(h, dilated.weight, dilated.bias, padding=dilated.padding, dilation=2**i)
        if local is not None:
            u = u + weight(local, net.local.weight[rows], net.local.bias[rows])
        if speaker is not None:
            u = u + (speaker @ net.speaker.weight[rows].T + net.speaker.bias[rows])[..., None]
        y = out(u[:, :channels].tanh() * u[:, channels:].sigmoid())
        if i < len(net.dilated) - 1:
            h, skips = h + y[:, :channels], skips + y[:, channels:]
        else:
            skips = skips + y
    return net.end(skips)


@pytest.mark.parametrize("use_weight_norm", [True, False])
@pytest.mark.parametrize("speaker", [0, 2])
def test_projection_at_frame_rate_equals_interpolation_first(use_weight_norm, speaker):
    net = network(use_weight_norm=use_weight_norm, speaker_channels=speaker)
    context = flow_context(5, frames=4, per_frame=8, speaker=speaker)
    for groups in (32, 24):  # 24: a frame follows the segment
        x = random_tensor(2, 3, groups)
        expected = plain_forward(net, x, context.local, 8, context.speaker)
        torch.testing.assert_close(net(x, context), expected, rtol=0, atol=1e-12)


def test_gradients_are_laid_out_as_parameters():
    """Otherwise DDP copies each of them into its bucket, and warns."""
    net = network(layers=2)
    loss = net(random_tensor(2, 3, 32), flow_context(5, frames=4, per_frame=8)).sum()
    parameters = list(net.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        assert gradient.stride() == parameter.stride()


@pytest.mark.parametrize("use_weight_norm", [True, False])
@pytest.mark.parametrize("per_frame", [0, 1, 8])
@pytest.mark.parametrize("speaker", [0, 2])
@pytest.mark.parametrize("is_ragged", [False, True])
def test_folds_change_nothing(use_weight_norm, per_frame, speaker, is_ragged):
    """Output and every gradient are those of the network without folds. Without condition where
    per_frame is 0."""
    net = network(
        use_weight_norm=use_weight_norm,
        condition_channels=5 if per_frame else 0,
        speaker_channels=speaker,
        layers=3 if per_frame else 1,
    )
    frames = 32 // (per_frame or 8)
    context = flow_context(5 if per_frame else 0, frames, per_frame or 1, speaker)
    context = ragged(context, 32, 24) if is_ragged else context
    x = random_tensor(2, 3, 32)
    inputs = [t for t in (x, context.local, context.speaker) if t is not None]
    names, parameters = zip(*net.named_parameters(), strict=True)
    results = []
    for folded in (True, False):
        leaves = [t.requires_grad_() for t in inputs]
        if folded:
            y = net(x, context)
        else:
            mask = 1 if context.mask is None else context.mask
            y = plain_forward(net, x, context.local, per_frame, context.speaker, mask)
        if is_ragged:
            y = y * context.mask
        loss = (y * random_tensor(*y.shape, seed=9)).sum()
        results.append([y, *torch.autograd.grad(loss, (*leaves, *parameters))])
    names = ["output", *(f"input {i}" for i in range(len(inputs))), *names]
    for name, found, expected in zip(names, *results, strict=True):
        assert expected.norm() > 0, name
        assert (found - expected).norm() < 1e-10 * expected.norm(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_folds_are_not_rounded_more_than_layers_under_autocast(dtype):
    net, context = network(channels=16), flow_context(5, frames=4, per_frame=8)
    x = random_tensor(2, 3, 32)
    truth = net(x, context)
    net, x, local = net.float(), x.float(), context.local.float()
    with torch.autocast("cpu", dtype):
        found = net(x, FlowContext(local, groups_per_frame=8))
        plain = plain_forward(net, x, local, 8)
    error, plain_error = ((y.double() - truth).norm() / truth.norm() for y in (found, plain))
    assert found.dtype == torch.float32 and error < 1.2 * plain_error < 0.05


def test_gradients_have_no_derivatives():
    net, x = network(condition_channels=0), random_tensor(2, 3, 8).requires_grad_()
    (first,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.slow
def test_compiled_network_is_the_same_network():
    net, context = network(), flow_context(5, frames=4, per_frame=8)
    compiled = torch.compile(net, fullgraph=True)
    x = random_tensor(2, 3, 32)
    results = []
    for function in (net, compiled):
        y = function(x, context)
        gradients = torch.autograd.grad(y.square().sum(), list(net.parameters()))
        results.append([y, *gradients])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_group_rate_condition_equals_frame_rate_condition():
    net, context = network(), flow_context(5, frames=4, per_frame=8)
    at_groups = FlowContext(interpolate_frames(context.local, 8))
    x = random_tensor(2, 3, 32)
    torch.testing.assert_close(net(x, context), net(x, at_groups), rtol=0, atol=1e-12)


def test_item_of_a_ragged_batch_equals_itself_alone():
    net, context = network(), flow_context(5, frames=4, per_frame=8)
    x = random_tensor(2, 3, 32)
    mask = ragged(context, 32, 16)
    # What lies in the padding is of no importance, even if it is large.
    x[1, :, 16:] = 1e3
    both = net(x, mask)
    first = net(x[:1], FlowContext(context.local[:1], groups_per_frame=8))
    second = net(x[1:, :, :16], FlowContext(context.local[1:], groups_per_frame=8))
    torch.testing.assert_close(both[:1], first, rtol=0, atol=1e-12)
    torch.testing.assert_close(both[1:, :, :16], second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_size,layers", [(1, 2), (3, 1), (3, 3), (5, 3)])
def test_receptive_field_is_the_measured_one(kernel_size, layers):
    net = network(kernel_size=kernel_size, layers=layers, condition_channels=0)
    x, middle = random_tensor(1, 3, 81), 40
    moved = x.clone()
    moved[:, :, middle] += 1.0
    changed = (net(moved) - net(x)).abs().sum(dim=(0, 1)).nonzero().flatten()
    assert changed.min() == middle - net.receptive_field
    assert changed.max() == middle + net.receptive_field


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_output_has_the_length_of_the_input(kernel_size):
    net = network(kernel_size=kernel_size, condition_channels=0)
    assert net(random_tensor(2, 3, 9)).shape == (2, 4, 9)


def test_last_projection_starts_at_zero():
    net = WaveNet(3, 4, channels=6, layers=2, condition_channels=5)
    context = FlowContext(torch.randn(2, 5, 4), groups_per_frame=2)
    assert torch.equal(net(torch.randn(2, 3, 8), context), torch.zeros(2, 4, 8))
    net.end(torch.randn(2, 6, 8)).sum().backward()
    assert net.end.weight.grad is not None


def test_weight_norm_switch():
    plain = WaveNet(3, 4, 6, 2, 3, 5, 2, use_weight_norm=False)
    normed = WaveNet(3, 4, 6, 2, 3, 5, 2, use_weight_norm=True)
    names = [n for n, _ in normed.named_parameters() if n.endswith("original0")]
    # start, local, speaker and two of each layer; never the projection that starts at zero.
    assert len(names) == 3 + 2 * 2 and not any(n.startswith("end") for n in names)
    assert not any("original" in n for n, _ in plain.named_parameters())
    gains = sum(p.numel() for n, p in normed.named_parameters() if n.endswith("original0"))
    assert gains == sum(p.numel() for p in normed.parameters()) - sum(
        p.numel() for p in plain.parameters()
    )
    # The gain starts as the norm of the weights: normalizing changes nothing at first.
    weight = normed.dilated[0].weight
    direction = normed.dilated[0].parametrizations.weight.original1
    torch.testing.assert_close(weight, direction)


def test_speaker_may_be_left_out_of_the_context():
    net = network(speaker_channels=2)
    context = flow_context(5, frames=4, per_frame=2)
    assert net(random_tensor(2, 3, 8), context).shape == (2, 4, 8)


def test_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size"):
        WaveNet(3, 4, kernel_size=4)
