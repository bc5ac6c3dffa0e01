import math
from pathlib import Path

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows.inference_cache import prepare_inference
from waveglow_vq.lobes.flows.transforms import FlowContext, Transform, squeeze, sum_over_groups
from waveglow_vq.lobes.flows.waveglow import WaveGlow, negative_log_likelihood

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from tests.lobes.flows.transform_base import (
    TransformContract,
    random_tensor,
    randomized,
    tiny_features,
)

HOP, FRAMES = 16, 2


class WholeWaveGlow(torch.nn.Module):
    """A whole WaveGlow under the contract of a transform; its context is the dictionary of its
    other arguments."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, context):
        z, logdet = self.model(x.flatten(1), **context._asdict())
        return z.reshape(x.shape), logdet

    def inverse(self, y, context):
        size = self.model.group_size
        return self.model.inverse(y.reshape(len(y), size, -1), **context._asdict()).view(y.shape)


class Scaling(Transform):
    """A transform of one's own: a learned gain for every channel."""

    def __init__(self, channels):
        super().__init__()
        self.log_gain = torch.nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x, context=FlowContext()):
        return self.log_gain.exp() * x, sum_over_groups(self.log_gain.expand_as(x), context.mask)

    def inverse(self, y, context=FlowContext()):
        return (-self.log_gain).exp() * y


class Arguments:
    """Stands for a context: the arguments of WaveGlow.forward."""

    def __init__(self, **values):
        self.values = values

    def _asdict(self):
        return self.values

    def _replace(self, **changes):
        return Arguments(**{**self.values, **changes})


def tiny(**options):
    options = {
        "condition_channels": 5,
        "group_size": 8,
        "flows": 3,
        "early_every": 1,
        "early_size": 2,
        "layers": 2,
        "channels": 4,
        "envelope": {"order": 6},
        **options,
    }
    return WaveGlow(tiny_features(), **options)


def chain_case(samples=None, history=False, speaker=0, **options):
    model = randomized(tiny(speaker_channels=speaker, **options), 0.15)
    enveloped = model.envelope is not None
    context = Arguments(
        local=random_tensor(2, 5, FRAMES + history, seed=31),
        log_mel=random_tensor(2, 8, FRAMES + history, seed=32) - 1.0 if enveloped else None,
        speaker=random_tensor(2, speaker, seed=33) if speaker else None,
        samples=None if samples is None else torch.tensor(samples),
        history=random_tensor(2, 6, seed=34) if history and enveloped else None,
    )
    return WholeWaveGlow(model), random_tensor(2, FRAMES * HOP, seed=35), context


class TestWaveGlow(TransformContract):
    fp32_tolerance = 2e-3
    cases = {
        "white": lambda: chain_case(prior="white"),
        "envelope": lambda: chain_case(),
        "segment with history": lambda: chain_case(history=True),
        "no early outputs": lambda: chain_case(early_every=0),
        "film": lambda: chain_case(use_film=True),
        "group geometry": lambda: chain_case(condition_geometry="group", prior="white"),
        "sample geometry": lambda: chain_case(condition_geometry="sample"),
        "sample geometry, film": lambda: chain_case(condition_geometry="sample", use_film=True),
        "speaker": lambda: chain_case(speaker=3, use_film=True, use_weight_norm=False),
        "own transform": lambda: chain_case(transform=Scaling, use_film=True),
        "group of 4": lambda: chain_case(group_size=4, early_every=2, early_size=1),
    }


@pytest.mark.parametrize("prior", ["white", "envelope"])
@pytest.mark.parametrize("geometry", ["frame", "group", "sample"])
def test_item_of_a_ragged_batch_equals_itself_alone(prior, geometry):
    model = randomized(tiny(prior=prior, condition_geometry=geometry, use_film=True), 0.15)
    local, log_mel = random_tensor(2, 5, 4), random_tensor(2, 8, 4, seed=1) - 1
    wav = random_tensor(2, 4 * HOP, seed=2)
    # As the whole model hands them over: behind the end, the last frame is held.
    local[1, :, 2:], log_mel[1, :, 2:] = local[1, :, 1:2], log_mel[1, :, 1:2]
    both, logdet = model(wav, local, log_mel, samples=torch.tensor([4 * HOP, 2 * HOP]))
    alone, logdet_alone = model(wav[1:, : 2 * HOP], local[1:, :, :2], log_mel[1:, :, :2])
    groups = alone.shape[-1]
    torch.testing.assert_close(both[1:, :, :groups], alone, rtol=0, atol=1e-9)
    torch.testing.assert_close(logdet[1:], logdet_alone, rtol=0, atol=1e-9)
    assert not both[1, :, groups:].any()
    noise = random_tensor(2, 8, 4 * HOP // 8, seed=3)
    samples = torch.tensor([4 * HOP, 2 * HOP])
    drawn = model.inverse(noise, local, log_mel, samples=samples)
    single = model.inverse(noise[1:, :, :groups], local[1:, :, :2], log_mel[1:, :, :2])
    torch.testing.assert_close(drawn[1:, : 2 * HOP], single, rtol=0, atol=1e-9)
    assert not drawn[1, 2 * HOP :].any()


def test_without_flows_only_the_envelope_is_left():
    wav, log_mel = random_tensor(2, 4 * HOP), random_tensor(2, 8, 4, seed=1)
    model = tiny(flows=0)
    z, logdet = model(wav, random_tensor(2, 5, 4), log_mel)
    assert torch.equal(z, squeeze(z.transpose(1, 2).flatten(1), 8))
    back = model.inverse(z, random_tensor(2, 5, 4), log_mel)
    torch.testing.assert_close(back, wav, rtol=0, atol=1e-9)
    plain = tiny(flows=0, prior="white")
    z, logdet = plain(wav, random_tensor(2, 5, 4))
    assert torch.equal(z, squeeze(wav, 8)) and torch.equal(logdet, torch.zeros(2))


def test_a_transform_of_ones_own_is_named_in_yaml():
    preset = Path(__file__).resolve().parents[3] / "hparams" / "mel.yaml"
    with open(preset, encoding="utf-8") as stream:
        model = load_hyperpyyaml(stream, f"flow: {{transform: !name:{__name__}.Scaling }}")["model"]
    assert [len(step.own.log_gain) for step in model.vocoder.steps] == [8] * 4 + [6] * 2


def nvidia256(**options):
    return WaveGlow(
        LogMel(),
        condition_channels=80,
        prior="white",
        group_size=8,
        flows=12,
        early_every=4,
        early_size=2,
        layers=8,
        channels=256,
        kernel_size=3,
        condition_geometry="sample",
        **options,
    )


@pytest.mark.parametrize("use_weight_norm,expected", [(False, 87731816), (True, 87879272)])
def test_published_architecture_parameter_for_parameter(use_weight_norm, expected, monkeypatch):
    # The values are of no interest, and drawing 88 million of them takes seconds.
    for name in ("kaiming_uniform_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
    model = nvidia256(use_weight_norm=use_weight_norm)
    assert sum(p.numel() for p in model.parameters()) == expected
    assert [s.conv.weight.shape[0] for s in model.steps] == [8] * 4 + [6] * 4 + [4] * 4
    network = model.steps[0].coupling.network
    # Which layers the published model normalizes: all but the last.
    names = [n for n, _ in network.named_parameters() if "original0" in n]
    assert len(names) == (2 * 8 + 2 if use_weight_norm else 0)
    # 24,480 samples, known from the arithmetic of its layers.
    assert model.receptive_field == 24480


def test_sample_geometry_depends_on_no_later_frame():
    """The published model cuts the tail of its upsampling off, so a frame that follows a segment
    changes nothing."""
    model = randomized(tiny(condition_geometry="sample", prior="white"))
    wav, local = random_tensor(2, 2 * HOP), random_tensor(2, 5, 3)
    longer, shorter = model(wav, local)[0], model(wav, local[..., :2])[0]
    torch.testing.assert_close(longer, shorter, rtol=0, atol=1e-12)


def test_early_outputs_stand_first():
    model = randomized(tiny(prior="white"))
    wav, local = random_tensor(1, 2 * HOP), random_tensor(1, 5, 2)
    z, _ = model(wav, local)
    x, _ = model.steps[0](squeeze(wav, 8), model._flow_context(local, None, None, 2 * HOP))
    torch.testing.assert_close(z[:, :2], x[:, :2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_size,layers", [(3, 2), (5, 1)])
def test_receptive_field_is_the_measured_one(kernel_size, layers):
    model = randomized(tiny(prior="white", kernel_size=kernel_size, layers=layers, flows=2), 0.3)
    frames = 24
    wav, local = random_tensor(1, frames * HOP), random_tensor(1, 5, frames)
    z, middle = model(wav, local)[0], frames * HOP // 2
    moved = wav.clone()
    moved[:, middle] += 1
    changed = (model(moved, local)[0] - z).abs().sum(dim=(0, 1)).nonzero().flatten() * 8
    assert middle - changed.min() == model.receptive_field
    assert changed.max() - middle == model.receptive_field


def train(model, wav, local, log_mel, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr)
    losses = []
    for _ in range(steps):
        z, logdet = model(wav, local, log_mel)
        loss = negative_log_likelihood(z, logdet, wav.shape[1]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def speech_like(samples, items=2):
    time = torch.arange(samples) / 22050
    pitch = 2 * math.pi * torch.tensor([[110.0], [180.0]][:items]) * time
    wav = sum(torch.sin(k * pitch) / k for k in range(1, 12)) * (0.6 + 0.4 * torch.sin(40 * time))
    generator = torch.Generator().manual_seed(0)
    return 0.1 * wav + 0.003 * torch.randn(wav.shape, generator=generator)


def assert_inverts_after_training(model, samples, steps, lr):
    features, wav = LogMel(), speech_like(samples)
    log_mel = features(wav)
    local = (log_mel + 5) / 2
    losses = train(model, wav, local, log_mel, steps, lr)
    assert losses[-1] < losses[0] - 0.02
    with torch.no_grad():
        z, logdet = model(wav, local, log_mel)
        torch.testing.assert_close(model.inverse(z, local, log_mel), wav, rtol=0, atol=1e-4)
    assert z.dtype == logdet.dtype == torch.float32


@pytest.mark.parametrize("prior", ["white", "envelope"])
def test_inverts_in_fp32_after_training_steps(prior):
    torch.manual_seed(0)
    model = WaveGlow(LogMel(), 80, prior=prior, flows=6, layers=3, channels=16, use_film=True)
    assert_inverts_after_training(model, 2048, steps=20, lr=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("prior,lr", [("white", 1e-4), ("envelope", 3e-4)])
def test_base_size_inverts_in_fp32_after_training_steps(prior, lr):
    torch.manual_seed(0)
    model = WaveGlow(LogMel(), 80, prior=prior, flows=12, layers=8, channels=256)
    assert_inverts_after_training(model, 4096, steps=6, lr=lr)


@pytest.mark.parametrize("sigma", [1.0, 0.7])
def test_likelihood_is_that_of_a_distribution(sigma):
    """On one affine layer: the wave is then a Gaussian with known covariance."""
    model = randomized(tiny(prior="white", flows=1, early_every=0), 0.3)
    with torch.no_grad():
        model.steps[0].coupling.network.end.weight.zero_()
    wav, local = random_tensor(3, HOP), random_tensor(3, 5, 1)
    z, logdet = model(wav, local)
    constant = 0.5 * math.log(2 * math.pi * sigma**2)
    found = negative_log_likelihood(z, logdet, HOP, sigma) + constant
    jacobian = torch.autograd.functional.jacobian(
        lambda x: model(x[None], local[:1])[0].flatten(), wav[0]
    )
    inverse = torch.linalg.inv(jacobian)
    mean = inverse @ -model(torch.zeros(1, HOP).double(), local[:1])[0].flatten()
    law = torch.distributions.MultivariateNormal(mean, sigma**2 * inverse @ inverse.T)
    torch.testing.assert_close(found, -law.log_prob(wav) / HOP, rtol=0, atol=1e-9)


def test_likelihood_of_ragged_items_is_per_own_sample():
    z = torch.ones(2, 8, 4)
    z[1, :, 2:] = 0
    nll = negative_log_likelihood(z, torch.tensor([0.0, 8.0]), torch.tensor([32, 16]))
    assert nll.tolist() == [0.5, 0.0]


@pytest.mark.parametrize(
    "options,message",
    [
        ({"prior": "gaussian"}, "prior: 'gaussian'.*envelope, white"),
        ({"condition_geometry": "mel"}, "condition_geometry: 'mel'.*frame, group, sample"),
        ({"group_size": 5}, "group_size: 5 does not divide"),
        ({"condition_hop": 12}, "group_size: 8 does not divide"),
        ({"flows": 4, "early_size": 3}, "too many early outputs"),
        ({"kernel_size": 2}, "kernel_size: 2"),
        ({"envelope": {"updates_per_frame": 5}}, "updates_per_frame: 5 does not divide"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        tiny(**options)


@pytest.mark.parametrize("geometry", ["frame", "group", "sample"])
@pytest.mark.parametrize("is_prepared", [False, True])
@pytest.mark.parametrize("reach", [0, 1, 2])
def test_spare_frames_are_left_out_and_what_is_left_is_exact(geometry, is_prepared, reach):
    """Of the result, and of the computation; with as many of them as the layers see, a slice is
    what it is in the whole, and with fewer it is what it would be without leaving any out."""
    model = randomized(
        tiny(condition_geometry=geometry, prior="white", layers=3, flows=3, use_film=True)
    ).eval()
    frames, per_frame = 40, HOP // 8
    z, local = random_tensor(2, 8, frames * per_frame), random_tensor(2, 5, frames + 1, seed=1)
    overlap = math.ceil(model.receptive_field / HOP) + model.condition_reach[0] if reach else 2
    assert math.ceil(model.receptive_field / HOP) == 11
    first, last = 17, 20
    # One more stands for the frame that follows, towards which the last one is interpolated.
    overlap += reach == 2
    begin, end = first - overlap, last + overlap
    part = z[..., begin * per_frame : end * per_frame]
    own, lengths = local[..., begin : end + (reach != 2)], []
    network = model.steps[0].coupling.network
    network.register_forward_hook(lambda _, inputs, output: lengths.append(output.shape[-1]))
    with torch.no_grad():
        if is_prepared:
            prepare_inference(model)
        whole = model.inverse_flows(z if reach else part, local if reach else own)
        found = model.inverse_flows(part, own, spare=(overlap, overlap))
    expected = whole[:, first * HOP : last * HOP] if reach else whole[:, 2 * HOP : -2 * HOP]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert lengths[1] < part.shape[-1] or not reach  # the last flow has less to do


def test_spare_frames_of_padded_batches():
    model = randomized(tiny(prior="white")).eval()
    z, local = random_tensor(2, 8, 10), random_tensor(2, 5, 5, seed=1)
    samples = torch.tensor([5 * HOP, 3 * HOP])
    with torch.no_grad():
        whole = model.inverse_flows(z, local, samples=samples)
        found = model.inverse_flows(z, local, samples=samples, spare=(0, 1))
    assert found.shape == (2, 4 * HOP) and not found[1, 3 * HOP :].any()
    torch.testing.assert_close(found[1], whole[1, : 4 * HOP], rtol=0, atol=1e-10)
