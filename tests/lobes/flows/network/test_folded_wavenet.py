"""What is prepared for inference against the plain path; see test_wavenet.py for the latter."""

from waveglow_vq.lobes.flows.inference_cache import prepare_inference
from waveglow_vq.lobes.flows.network import folded_wavenet
from waveglow_vq.lobes.flows.network.wavenet import WaveNet
from waveglow_vq.lobes.flows.transforms import FlowContext
from waveglow_vq.lobes.flows.waveglow import WaveGlow

import pytest
import torch

from tests.lobes.flows.transform_base import (
    flow_context,
    ragged,
    random_tensor,
    randomized,
    tiny_features,
)


def network(**options):
    options = {"channels": 6, "layers": 3, "condition_channels": 5, **options}
    return randomized(WaveNet(3, 4, **options), 0.3).eval()


def both(net, x, context, dtype=None):
    """What the network computes as it is defined, and prepared."""
    with torch.no_grad():
        plain = net(x, context)
        prepare_inference(net, dtype)
        assert isinstance(net.prepared(), folded_wavenet.FoldedWaveNet)
        fast = net(x, context)
    if context.mask is not None:
        assert bool(torch.isfinite(fast).all())
        plain, fast = plain * context.mask, fast * context.mask
    assert plain.std() > 0.1
    return plain, fast


@pytest.fixture(params=["whole", "chunks"])
def chunks(request, monkeypatch):
    """All groups at once, or few of them, not dividing their number."""
    monkeypatch.setattr(folded_wavenet, "CHUNK_BYTES", 2**30 if request.param == "whole" else 1200)


@pytest.mark.parametrize("use_weight_norm", [True, False])
@pytest.mark.parametrize("per_frame", [0, 1, 8])
@pytest.mark.parametrize("speaker", [0, 2])
@pytest.mark.parametrize("is_ragged", [False, True])
def test_equals_the_plain_path(chunks, use_weight_norm, per_frame, speaker, is_ragged):
    net = network(
        use_weight_norm=use_weight_norm,
        condition_channels=5 if per_frame else 0,
        speaker_channels=speaker,
    )
    frames = 48 // (per_frame or 8)
    context = flow_context(5 if per_frame else 0, frames, per_frame or 1, speaker)
    context = ragged(context, 48, 24) if is_ragged else context
    plain, fast = both(net, random_tensor(2, 3, 48), context)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 5, 40, 43])
def test_segments_that_end_within_a_frame_or_whose_next_frame_is_known(chunks, groups):
    net = network()
    context = flow_context(5, frames=6, per_frame=8)
    plain, fast = both(net, random_tensor(2, 3, groups), context)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"layers": 1}, {"kernel_size": 1}, {"kernel_size": 5}])
def test_other_shapes(chunks, options):
    plain, fast = both(network(**options), random_tensor(2, 3, 48), flow_context(5, 6, 8))
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)


def test_network_with_speakers_that_is_given_none():
    net = network(speaker_channels=2)
    plain, fast = both(net, random_tensor(2, 3, 48), flow_context(5, 6, 8))
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("is_ragged", [False, True])
@pytest.mark.parametrize("per_frame", [1, 8])
def test_batch_as_a_whole_equals_item_by_item(is_ragged, per_frame):
    """As on a GPU."""
    net = network(speaker_channels=2)
    context = flow_context(5, 48 // per_frame, per_frame, speaker=2)
    context = ragged(context, 48, 24) if is_ragged else context
    x = random_tensor(2, 3, 48)
    plain, _ = both(net, x, context)
    with torch.no_grad():
        whole = net.prepared()._run(x, context)
    whole = whole if context.mask is None else whole * context.mask
    torch.testing.assert_close(whole, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "dtype, error", [(torch.float32, 1e-6), (torch.bfloat16, 0.02), (torch.float16, 2e-3)]
)
def test_precision_is_that_of_the_convolutions(dtype, error):
    net = network(channels=16, speaker_channels=2).float()
    context = FlowContext(
        *(t.float() for t in flow_context(5, 40, 8, speaker=2)[:2]), groups_per_frame=8
    )
    plain, fast = both(net, random_tensor(2, 3, 320).float(), context, dtype)
    assert fast.dtype == torch.float32
    off = ((fast - plain).norm() / plain.norm()).item()
    assert off < error
    if dtype != torch.float32:
        assert off > error / 100  # it is what was asked for


@pytest.mark.parametrize("mask_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masks_of_any_type_are_counted_in_full(mask_dtype):
    """Half precision cannot tell 2307 from 2308, or 2304."""
    net, groups, own = network(layers=1, condition_channels=0), 2311, 2307
    context = ragged(FlowContext(), groups, own)
    context = context._replace(mask=context.mask.to(mask_dtype))
    x = random_tensor(2, 3, groups)
    with torch.no_grad():
        prepare_inference(net)
        batch, alone = net(x, context), net(x[1:, :, :own], FlowContext())
    assert torch.equal(batch[1:, :, :own], alone)


def test_autocast_does_not_reach_it():
    net = network().float()
    x, context = random_tensor(1, 3, 48).float(), flow_context(5, 6, 8)
    context = context._replace(local=context.local[:1].float())
    _, fast = both(net, x, context)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x, context), fast)


def test_gradients_take_the_plain_path():
    net = network()
    prepare_inference(net)
    x = random_tensor(1, 3, 16).requires_grad_()
    net(x, flow_context(5, 2, 8)._replace(local=random_tensor(1, 5, 2))).sum().backward()
    assert x.grad is not None and net.dilated[1].bias.grad is not None


@pytest.mark.parametrize(
    "options",
    [
        {"prior": "white", "condition_geometry": "sample"},
        {"prior": "white", "condition_geometry": "group"},
        {"use_film": True, "speaker_channels": 3},
        {"use_weight_norm": False},
    ],
    ids=["published", "group", "film", "plain"],
)
def test_whole_chain_both_ways(options):
    features = tiny_features()
    model = WaveGlow(
        features,
        condition_channels=5,
        flows=4,
        early_every=2,
        layers=2,
        channels=6,
        envelope={"order": 6},
        **options,
    )
    model = randomized(model).eval()
    local, mel = random_tensor(2, 5, 6), random_tensor(2, 8, 6, seed=1)
    speaker = random_tensor(2, 3) if "speaker_channels" in options else None
    z, samples = random_tensor(2, 8, 12), torch.tensor([96, 64])
    results = []
    for fast in (False, True):
        with torch.no_grad():
            if fast:
                prepare_inference(model)
            wav = model.inverse(z, local, mel, speaker, samples)
            back, logdet = model(wav, local, mel, speaker, samples)
        results.append((wav, back, logdet))
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)
    mask = torch.ones(2, 1, 12, dtype=torch.float64)
    mask[1, :, 8:] = 0
    torch.testing.assert_close(results[1][1], z * mask, rtol=0, atol=1e-8)


@pytest.mark.slow
def test_compiled_it_is_the_same():
    """As prepare_inference(compile=True) does it on a GPU; here by the CPU's compiler."""
    net = network(channels=16).float()
    x, context = random_tensor(1, 3, 48).float(), flow_context(5, 6, 8)
    context = context._replace(local=context.local[:1].float())
    _, fast = both(net, x, context)
    compiled = torch.compile(lambda x, local: net(x, context._replace(local=local)))
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, context.local), fast, rtol=0, atol=1e-5)
