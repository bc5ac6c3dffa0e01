from waveglow_vq.lobes.flows.conv1x1 import InvertibleConv1x1
from waveglow_vq.lobes.flows.coupling import AffineCoupling, FlowStep
from waveglow_vq.lobes.flows.film import FiLM
from waveglow_vq.lobes.flows.network.wavenet import WaveNet
from waveglow_vq.lobes.flows.transforms import FlowContext, squeeze, sum_over_groups, unsqueeze
from waveglow_vq.lobes.flows.upsampling import frames_to_groups, interpolate_frames

import pytest
import torch

from tests.lobes.flows.transform_base import (
    TransformContract,
    flow_context,
    ragged,
    random_tensor,
    randomized,
)

GROUPS = 6


def conv(determinant=1, channels=4):
    flow = randomized(InvertibleConv1x1(channels), 0.3)
    with torch.no_grad():
        if torch.linalg.det(flow.weight) * determinant < 0:
            flow.weight[:, 0] *= -1
        assert torch.linalg.det(flow.weight) * determinant > 0
    return flow


def coupling(channels=4, kept=2, condition=6, speaker=0, **options):
    network = WaveNet(
        kept, 2 * (channels - kept), 6, 2, 3, condition, speaker, use_weight_norm=False
    )
    return randomized(AffineCoupling(network, kept, **options), 0.4)


def film(condition=6, speaker=0):
    return randomized(FiLM(4, condition, speaker), 0.4)


def x():
    return random_tensor(2, 4, GROUPS, seed=11)


class TestInvertibleConv1x1(TransformContract):
    cases = {
        "positive determinant": lambda: (conv(1), x(), FlowContext()),
        "negative determinant": lambda: (conv(-1), x(), FlowContext()),
        "ragged": lambda: (conv(), x(), ragged(FlowContext(), GROUPS, 4)),
    }


class TestAffineCoupling(TransformContract):
    cases = {
        "unconditional": lambda: (coupling(condition=0), x(), FlowContext()),
        "frame rate": lambda: (coupling(), x(), flow_context()),
        "group rate": lambda: (coupling(), x(), flow_context(frames=GROUPS, per_frame=1)),
        "speaker": lambda: (coupling(speaker=3), x(), flow_context(speaker=3)),
        "unequal halves": lambda: (coupling(kept=1), x(), flow_context()),
        "ragged": lambda: (coupling(), x(), ragged(flow_context(), GROUPS, 4)),
    }


class TestFiLM(TransformContract):
    cases = {
        "local": lambda: (film(), x(), flow_context()),
        "group rate": lambda: (film(), x(), flow_context(frames=GROUPS, per_frame=1)),
        "speaker": lambda: (film(0, 3), x(), flow_context(0, speaker=3)),
        "both": lambda: (film(speaker=3), x(), flow_context(speaker=3)),
        "ragged": lambda: (film(speaker=3), x(), ragged(flow_context(speaker=3), GROUPS, 4)),
    }


class TestFlowStep(TransformContract):
    cases = {
        "plain": lambda: (FlowStep(conv(), coupling()), x(), flow_context()),
        "film": lambda: (FlowStep(conv(-1), coupling(), film()), x(), flow_context()),
        "ragged": lambda: (
            FlowStep(conv(), coupling(), film()),
            x(),
            ragged(flow_context(), GROUPS, 3),
        ),
    }


def test_squeeze_puts_sample_i_times_size_plus_r_into_channel_r_of_group_i():
    wav = torch.arange(2 * 24.0).view(2, 24)
    squeezed = squeeze(wav, 8)
    assert squeezed.shape == (2, 8, 3)
    for r in range(8):
        for i in range(3):
            assert squeezed[1, r, i] == wav[1, i * 8 + r]
    assert torch.equal(unsqueeze(squeezed), wav)


def test_interpolation_meets_the_centres_of_parts():
    frames = random_tensor(2, 3, 5)
    for per_frame in (1, 2, 3, 8):
        found = interpolate_frames(frames, per_frame)
        assert found.shape == (2, 3, 5 * per_frame) and found.dtype == frames.dtype
        position = (torch.arange(5 * per_frame) + 0.5) / per_frame
        left = position.long().clamp(max=4)
        right = (left + 1).clamp(max=4)
        weight = position.double() - left
        expected = frames[..., left] * (1 - weight) + frames[..., right] * weight
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_following_frame_is_interpolated_to_and_cut_off():
    frames = torch.tensor([[0.0, 8.0, 0.0]])
    assert frames_to_groups(frames, 4, 2).tolist() == [[2.0, 6.0, 6.0, 2.0]]
    assert frames_to_groups(frames, 2, 1).tolist() == [[0.0, 8.0]]


def test_conv_starts_as_a_rotation():
    weight = InvertibleConv1x1(8).weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), rtol=0, atol=1e-5)
    assert torch.det(weight) > 0


def test_coupling_and_film_start_as_identities():
    values, context = x().float(), flow_context(speaker=3)
    context = context._replace(local=context.local.float(), speaker=context.speaker.float())
    network = WaveNet(2, 4, 6, 2, condition_channels=6, speaker_channels=3)
    for flow in (AffineCoupling(network, 2), FiLM(4, 6, 3)):
        y, logdet = flow(values, context)
        assert torch.equal(y, values) and torch.equal(logdet, torch.zeros(2))


def test_log_scale_is_bounded():
    flow = coupling(condition=0, log_scale_bound=1.5)
    with torch.no_grad():
        flow.network.end.bias += 1000.0
    values = x()
    y, logdet = flow(values)
    torch.testing.assert_close(logdet, torch.full((2,), 1.5 * 2 * GROUPS).double())
    torch.testing.assert_close(flow.inverse(y), values, rtol=0, atol=1e-9)


def test_film_has_no_activation_behind_it():
    """Scales shrink as well as grow, shifts go down as well as up."""
    flow, context = film(), flow_context()
    y, logdet = flow(torch.zeros_like(x()), context)
    opposite = FlowContext(-context.local, groups_per_frame=2)
    with torch.no_grad():
        flow.local.bias.zero_()
    plus, logdet_plus = flow(torch.zeros_like(x()), context)
    minus, logdet_minus = flow(torch.zeros_like(x()), opposite)
    torch.testing.assert_close(plus, -minus)
    torch.testing.assert_close(logdet_plus, -logdet_minus)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mask_of_low_precision_counts_groups_exactly(dtype):
    """Under autocast the condition, and with it the mask, may come in half precision, in which
    2049 is not a number."""
    groups, flow = 4100, InvertibleConv1x1(2)
    with torch.no_grad():
        flow.weight *= 2.0
    mask = (torch.arange(groups) < 4099).to(dtype).expand(1, 1, -1)
    _, logdet = flow(torch.zeros(1, 2, groups), FlowContext(mask=mask))
    assert logdet.item() == pytest.approx(4099 * 2 * torch.tensor(2.0).log().item(), rel=1e-6)


def test_sum_over_groups_leaves_padding_out_even_where_it_is_not_finite():
    values = torch.ones(1, 3, 4)
    values[..., 2:] = float("nan")
    assert sum_over_groups(values, torch.tensor([[[1, 1, 0, 0]]])).tolist() == [6.0]
