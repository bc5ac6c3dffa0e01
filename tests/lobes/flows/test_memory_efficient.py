"""Computing activations again in the backward pass against keeping them, the reference."""

import contextlib
import os
from pathlib import Path

from waveglow_vq.lobes.flows.network import gated_layers
from waveglow_vq.lobes.flows.waveglow import WaveGlow, negative_log_likelihood

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from tests.lobes.flows.transform_base import random_tensor, tiny_features

PRESETS = Path(__file__).resolve().parents[3] / "hparams"
HOP, FRAMES = 16, 3


def build(dtype=torch.float64, scale=0.4, speaker=0, **options):
    """A model whose couplings are no identities: end weights of realistic size."""
    torch.manual_seed(0)
    options = {
        "condition_channels": 5,
        "flows": 5,
        "early_every": 2,
        "layers": 2,
        "channels": 8,
        "prior": "white",
        "envelope": {"order": 6},
        **options,
    }
    model = WaveGlow(tiny_features(), speaker_channels=speaker, **options)
    with torch.no_grad():
        for parameter in model.steps.parameters():
            noise = torch.randn(parameter.shape)
            width = parameter[0].numel() if parameter.dim() > 1 else 16
            parameter += (scale if (parameter == 0).all() else 0.1) * noise / width**0.5
    return model.to(dtype)


def arguments(dtype=torch.float64, speaker=0, envelope=False, samples=None, history=False, items=2):
    def tensor(*shape, seed):
        return random_tensor(items, *shape, seed=seed).to(dtype).requires_grad_()

    found = {"wav": tensor(FRAMES * HOP, seed=1), "local": tensor(5, FRAMES + 1, seed=2)}
    if envelope:
        found["log_mel"] = tensor(8, FRAMES + 1, seed=3)
        found["history"] = tensor(6, seed=5) if history else None
    if speaker:
        found["speaker"] = tensor(speaker, seed=4)
    return {**found, "samples": samples}


def backpropagated(model, inputs, memory_efficient, autocast=None, scale=1.0):
    """z, logdet and the gradient of everything, by name."""
    model.memory_efficient = memory_efficient
    model.zero_grad()
    inputs = {
        name: t.detach().requires_grad_(t.requires_grad) if torch.is_tensor(t) else t
        for name, t in inputs.items()
    }
    low = torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext()
    with low:
        z, logdet = model(**inputs)
    (scale * negative_log_likelihood(z, logdet, z[0].numel()).mean()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    gradients |= {name: t.grad for name, t in inputs.items() if torch.is_tensor(t)}
    return z, logdet, gradients


def greatest_difference(found, expected):
    """Relative, of each tensor's norm."""
    assert found.keys() == expected.keys()
    differences = {}
    for name, reference in expected.items():
        if reference is None:
            assert found[name] is None, name
        else:
            assert found[name].dtype == reference.dtype and reference.norm() > 0, name
            differences[name] = float((found[name] - reference).norm() / reference.norm())
    return max(differences.values())


def assert_agrees(model, inputs, tolerance):
    z, logdet, expected = backpropagated(model, inputs, False)
    z_again, logdet_again, found = backpropagated(model, inputs, True)
    assert torch.equal(z, z_again) and torch.equal(logdet, logdet_again)
    assert z_again.grad_fn is not None
    difference = greatest_difference(found, expected)
    print(f"greatest relative difference of a gradient: {difference:.1e}")
    assert difference < tolerance


@pytest.mark.parametrize("geometry", ["frame", "group", "sample"])
@pytest.mark.parametrize("extras", [{}, {"use_film": True, "speaker": 3}], ids=["plain", "film"])
@pytest.mark.parametrize("samples", [None, torch.tensor([48, 32])], ids=["full", "ragged"])
def test_gradients_are_those_of_plain_autograd(geometry, extras, samples):
    model = build(condition_geometry=geometry, **extras)
    inputs = arguments(speaker=extras.get("speaker", 0), samples=samples)
    assert_agrees(model, inputs, 1e-14)


@pytest.mark.parametrize(
    "options",
    [
        {"use_weight_norm": False},
        {"early_every": 0},
        {"early_every": 1, "flows": 3},
        {"speaker": 3},
        {"use_film": True},
        {"prior": "envelope"},
        {"prior": "envelope", "use_film": True, "speaker": 2},
    ],
    ids=str,
)
def test_gradients_of_other_options(options):
    enveloped = options.get("prior") == "envelope"
    inputs = arguments(speaker=options.get("speaker", 0), envelope=enveloped, history=enveloped)
    assert_agrees(build(**options), inputs, 1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_restored_in_the_backward_pass(dtype, monkeypatch):
    model, inputs, seen = build(torch.float32, use_film=True), arguments(torch.float32), []
    truth = backpropagated(model, inputs, False)[2]
    z, logdet, plain = backpropagated(model, inputs, False, dtype)
    run = gated_layers._run
    noted = lambda x, *more: (seen.append(x.dtype), run(x, *more))[1]  # noqa: E731
    monkeypatch.setattr(gated_layers, "_run", noted)
    z_again, logdet_again, found = backpropagated(model, inputs, True, dtype)
    assert seen == [dtype] * 2 * len(model.steps)
    assert torch.equal(z, z_again) and torch.equal(logdet, logdet_again)
    assert z_again.dtype == logdet_again.dtype == torch.float32
    assert 0 < greatest_difference(plain, truth) < 0.1
    assert greatest_difference(found, plain) < 1e-6


def test_backward_within_autocast():
    model, inputs = build(torch.float32), arguments(torch.float32)
    expected = backpropagated(model, inputs, True, torch.bfloat16)[2]
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        z, logdet = model(**inputs)
        negative_log_likelihood(z, logdet, z[0].numel()).mean().backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    assert greatest_difference(found, {name: expected[name] for name in found}) < 0.04


def test_each_network_is_evaluated_once_in_each_pass():
    model, calls = build(), []
    for step in model.steps:
        step.coupling.network.register_forward_hook(lambda *a: calls.append(1))
    backpropagated(model, arguments(), True)
    assert len(calls) == 2 * len(model.steps)


def test_keeps_the_inputs_of_the_steps_only():
    """Bytes that the graph holds between the passes, weights left out."""

    def kept(memory_efficient):
        model, held = build(torch.float32, channels=32), {}
        model.memory_efficient = memory_efficient
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                held[storage.data_ptr()] = (storage.nbytes(), tensor)
            return tensor

        wav, local = torch.randn(4, 64 * HOP), torch.randn(4, 5, 64)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(wav, local)
        return sum(size for size, _ in held.values())

    assert kept(True) < 0.1 * kept(False)


def test_without_gradient_nothing_is_different():
    model, inputs = build(), arguments()
    model.memory_efficient = True
    with torch.no_grad():
        z, logdet = model(**inputs)
    assert z.grad_fn is None and not z.requires_grad
    model.memory_efficient = False
    torch.testing.assert_close(z, model(**inputs)[0], rtol=0, atol=1e-12)


def test_only_what_needs_a_gradient_gets_one():
    model, inputs = build(speaker=3), arguments(speaker=3)
    inputs["wav"].requires_grad_(False)
    inputs["speaker"].requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("dilated.0" not in name)
    assert_agrees(model, inputs, 1e-14)
    found = backpropagated(model, inputs, True)[2]
    assert found["wav"] is None and found["speaker"] is None and found["local"] is not None
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    inputs["local"].requires_grad_(False)
    assert not model(**inputs)[0].requires_grad


def test_two_uses_in_one_graph_and_two_backward_passes():
    def gradients(memory_efficient):
        model, inputs = build(), arguments()
        model.memory_efficient = memory_efficient
        losses = []
        for factor in (1.0, 0.5):
            z, logdet = model(factor * inputs["wav"], inputs["local"])
            losses.append(negative_log_likelihood(z, logdet, 48).mean())
        sum(losses).backward(retain_graph=True)
        losses[0].backward()
        return {n: p.grad for n, p in model.named_parameters()} | {"wav": inputs["wav"].grad}

    assert greatest_difference(gradients(True), gradients(False)) < 1e-10


def test_hooks_see_the_whole_gradient_once():
    model, seen = build(), []
    weight = model.steps[1].coupling.network.end.weight
    weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    gradients = backpropagated(model, arguments(), True)[2]
    assert len(seen) == 1
    assert torch.equal(seen[0], gradients["steps.1.coupling.network.end.weight"])


def test_loss_scaling():
    model, inputs = build(torch.float32), arguments(torch.float32)
    plain = backpropagated(model, inputs, True)[2]
    scaled = backpropagated(model, inputs, True, scale=1024.0)[2]
    scaled = {name: g if g is None else g / 1024 for name, g in scaled.items()}
    assert greatest_difference(scaled, plain) < 1e-6


@pytest.mark.parametrize("preset", ["mel", "mel_vq", "wav_vq"])
def test_presets_hand_the_switch_on(preset):
    with open(PRESETS / f"{preset}.yaml", encoding="utf-8") as stream:
        model = load_hyperpyyaml(stream, {"memory_efficient": True})["model"]
    assert model.vocoder.memory_efficient


def _train_one_of_two(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    model = build(use_film=True, speaker=2)
    model.memory_efficient = True
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    inputs = arguments(speaker=2, items=4)
    own = {n: t[rank::2].detach() for n, t in inputs.items() if t is not None}
    for accumulating in (True, False):
        with wrapped.no_sync() if accumulating else contextlib.nullcontext():
            z, logdet = wrapped(**own)
            negative_log_likelihood(z, logdet, 48).mean().backward()
    torch.save({n: p.grad for n, p in model.named_parameters()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path):
    torch.multiprocessing.spawn(_train_one_of_two, (str(tmp_path),), nprocs=2)
    model, inputs = build(use_film=True, speaker=2), arguments(speaker=2, items=4)
    expected = backpropagated(model, inputs, False)[2]
    expected = {name: 2 * expected[name] for name, _ in model.named_parameters()}
    for rank in range(2):
        found = torch.load(os.path.join(tmp_path, f"{rank}.pt"), weights_only=True)
        assert greatest_difference(found, expected) < 1e-10
