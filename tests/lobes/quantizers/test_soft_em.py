import copy
import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.lobes.quantizers.statistics import (
    participating_dimensions,
    second_moments,
)

import pytest
import torch

from tests.lobes.quantizers.quantizer_tools import (
    BOTH,
    assert_same,
    clusters,
    everything,
    summary,
    train,
)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


# ---- shapes, round trips, errors


@BOTH
@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_output(quantizer_class, estimator):
    quantizer = quantizer_class(16, 4, estimator=estimator)
    x = torch.randn(3, 40, 4, requires_grad=True)
    output = quantizer(x, torch.tensor([1.0, 0.5, 0.25]))
    assert output.quantized.shape == (3, 40, 4) and output.indices.shape == (3, 40)
    assert output.indices.dtype == torch.int64
    assert [int((row >= 0).sum()) for row in output.indices] == [40, 20, 10]
    assert (output.indices[1, 20:] == -1).all() and (output.quantized[1, 20:] == 0).all()
    assert "commitment" in output.losses
    assert ("codebook" in output.losses) == (quantizer_class is SoftEMQuantizer)
    assert not any(value.requires_grad for value in output.statistics.values())
    assert int(output.statistics["frames"]) == int(output.statistics["counts"].sum()) == 70


@BOTH
def test_codes_round_trip(quantizer_class):
    quantizer = quantizer_class(16, 4)
    quantizer(torch.randn(4, 40, 4))
    quantizer.eval()
    x, lengths = torch.randn(2, 30, 4), torch.tensor([1.0, 0.4])
    output = quantizer(x, lengths)
    assert torch.equal(quantizer.encode(x, lengths), output.indices)
    assert torch.equal(quantizer.decode(output.indices), output.quantized)
    codes = torch.arange(16)[None]
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


@BOTH
def test_decode_of_padding_and_foreign_indices(quantizer_class):
    quantizer = quantizer_class(16, 4)
    assert (quantizer.decode(torch.tensor([[-1, 3]]))[0, 0] == 0).all()
    for wrong in (16, -2):
        with pytest.raises(UserError, match="16 codes"):
            quantizer.decode(torch.tensor([[0, wrong]]))
    with pytest.raises(UserError, match="whole numbers"):
        quantizer.decode(torch.tensor([[0.5]]))


@BOTH
@pytest.mark.parametrize(
    "x, lengths, message",
    [
        (torch.zeros(2, 10, 5), None, "codebook_dim"),
        (torch.zeros(10, 4), None, "codebook_dim"),
        (torch.zeros(2, 0, 4), None, "no frames"),
        (torch.full((1, 3, 4), math.nan), None, "NaN"),
        (torch.full((1, 3, 4), math.inf), None, "infinite"),
        (torch.zeros(2, 10, 4), torch.tensor([5, 10]), "relative lengths"),
        (torch.zeros(2, 10, 4), torch.tensor([0.0, 1.0]), "relative lengths"),
        (torch.zeros(2, 10, 4), torch.tensor([1.0]), "relative lengths"),
    ],
)
def test_bad_input(quantizer_class, x, lengths, message):
    quantizer = quantizer_class(16, 4).eval()
    with pytest.raises(UserError, match=message):
        quantizer(x, lengths)
    with pytest.raises(UserError, match=message):
        quantizer.encode(x, lengths)


@pytest.mark.parametrize(
    "options",
    [
        {"codebook_size": 0},
        {"codebook_dim": 2.5},
        {"temperature": "warm"},
        {"beta": 0.0},
        {"beta": math.nan},
        {"beta": "high"},
        {"commitment_weight": -1.0},
        {"codebook_weight": -1.0},
        {"estimator": "gumbel"},
        {"initialization": "zeros"},
        {"restart_after": -1},
        {"step_factor": 0.0},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        SoftEMQuantizer(**{"codebook_size": 8, "codebook_dim": 4, **options})


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"epsilon": 0.0}])
def test_bad_ema_options_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        EMAQuantizer(8, 4, **options)


def test_set_codebook_refuses_another_shape():
    with pytest.raises(UserError, match="shape"):
        SoftEMQuantizer(8, 4).set_codebook(torch.zeros(8, 5))


# ---- the formula


def test_codebook_gradient_is_the_formula():
    quantizer = SoftEMQuantizer(
        5, 3, temperature="fixed", beta=0.7, codebook_weight=1.5, initialization="normal"
    ).double()
    x = torch.randn(1, 11, 3, dtype=torch.float64)
    output = quantizer(x)
    frames, codes = x[0], quantizer.codebook.detach()
    distances = (frames[:, None] - codes).square().sum(-1)
    q = torch.softmax(-0.7 * distances, dim=1)
    expected = 1.5 * (q * 0.7 * distances).sum(1).mean()
    torch.testing.assert_close(output.losses["codebook"].detach(), expected)
    output.losses["codebook"].backward()
    gradient = -2 * 0.7 * 1.5 * (q[..., None] * (frames[:, None] - codes)).mean(0)
    torch.testing.assert_close(quantizer.codebook.grad, gradient)


def test_relative_temperature_is_the_formula_in_units_of_the_data():
    quantizer = SoftEMQuantizer(5, 3, beta=2.0, initialization="normal").double()
    x = 10 * torch.randn(1, 11, 3, dtype=torch.float64)
    output = quantizer(x)
    frames, codes = x[0], quantizer.codebook.detach().clone()
    distances = (frames[:, None] - codes).square().sum(-1)
    deviation = (frames - frames.mean(0)).square().sum(1).mean()
    errors = frames - codes[distances.argmin(1)]
    beta = (
        2.0 * participating_dimensions(second_moments(errors), 11) / (2 * distances.amin(1).mean())
    )
    q = torch.softmax(-beta * distances, dim=1)
    sum(output.losses.values()).backward()
    gradient = -2 * beta * (q[..., None] * (frames[:, None] - codes)).mean(0)
    unit = (distances.amin(1).mean() / 3).sqrt()
    torch.testing.assert_close(quantizer.codebook.grad, gradient * unit)
    torch.optim.SGD([quantizer.codebook], lr=0.1).step()
    quantizer.after_optimizer_step()
    expected = codes - 0.1 * 30 * unit * gradient * unit
    torch.testing.assert_close(quantizer.codebook.detach(), expected)
    commitment = 0.25 * distances.amin(1).mean() / deviation
    torch.testing.assert_close(output.losses["commitment"].detach(), commitment)


def test_reconstruction_gradient_reaches_frames_and_chosen_codes():
    quantizer = SoftEMQuantizer(5, 3, temperature="fixed", initialization="normal").double()
    x = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 4, 3, dtype=torch.float64)
    output = quantizer(x)
    (output.quantized * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight)
    expected = torch.zeros(5, 3, dtype=torch.float64).index_add(0, output.indices[0], weight[0])
    torch.testing.assert_close(quantizer.codebook.grad, expected)


@BOTH
def test_commitment_gradient_reaches_frames_only(quantizer_class):
    quantizer = quantizer_class(5, 3, initialization="normal", restart_after=0).double()
    before = quantizer.codebook.detach().clone()
    x = torch.randn(1, 6, 3, dtype=torch.float64, requires_grad=True)
    output = quantizer(x)
    output.losses["commitment"].backward()
    assert getattr(quantizer.codebook, "grad", None) is None or not quantizer.codebook.grad.any()
    fixed = x.detach()[0]
    deviation = (fixed - fixed.mean(0)).square().sum(1).mean()
    expected = 0.25 * 2 * (fixed - before[output.indices[0]]) / 6 / deviation
    torch.testing.assert_close(x.grad[0], expected)


def test_rotation_estimator_turns_the_gradient_as_it_turns_the_frame():
    quantizer = EMAQuantizer(
        5, 3, initialization="normal", estimator="rotation", restart_after=0
    ).double()
    codes = quantizer.codebook.clone()
    x = torch.randn(1, 1, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: quantizer.eval()(x).quantized, x
    ).reshape(3, 3)
    code = codes[quantizer.encode(x)[0, 0]]
    ratio = code.norm() / x.norm()
    torch.testing.assert_close(jacobian @ x[0, 0], code)
    torch.testing.assert_close(
        jacobian.t() @ jacobian, ratio**2 * torch.eye(3, dtype=torch.float64)
    )
    assert jacobian.det() > 0
    # What is orthogonal to both only changes its length.
    normal = torch.linalg.cross(x[0, 0], code)
    torch.testing.assert_close(jacobian @ normal, ratio * normal)


@pytest.mark.parametrize("frame", [[0.0, 0.0], [-1.0, 0.0]])
def test_rotation_estimator_where_no_rotation_is_defined(frame):
    quantizer = SoftEMQuantizer(1, 2, estimator="rotation", initialization="normal")
    quantizer.set_codebook(torch.tensor([[1.0, 0.0]]))
    x = torch.tensor([[frame]], requires_grad=True)
    output = quantizer.eval()(x)
    assert torch.equal(output.quantized, torch.tensor([[[1.0, 0.0]]]))
    (output.quantized * torch.tensor([2.0, 3.0])).sum().backward()
    assert torch.equal(x.grad, torch.tensor([[[2.0, 3.0]]]))


# ---- what takes no part


@BOTH
def test_padding_changes_nothing(quantizer_class):
    torch.manual_seed(1)
    x = torch.randn(2, 40, 4)
    lengths = torch.tensor([1.0, 0.5])
    quantizer = quantizer_class(16, 4, restart_after=1)
    results = []
    for filler in (0.0, 1e6, math.nan):
        torch.manual_seed(2)
        copied = copy.deepcopy(quantizer)
        padded = x.clone()
        padded[1, 20:] = filler
        padded.requires_grad_()
        outputs = []
        for _ in range(4):
            output = copied(padded, lengths)
            outputs += [output.quantized.detach(), output.indices, *output.statistics.values()]
            outputs += [value.detach() for value in output.losses.values()]
            copied.after_optimizer_step()
        (output.quantized.square().sum() + sum(output.losses.values())).backward()
        outputs.append(padded.grad)
        assert (padded.grad[1, 20:] == 0).all()
        results.append({**everything(copied), **dict(enumerate(outputs))})
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])
    # The same frames without any padding.
    torch.manual_seed(2)
    copied = copy.deepcopy(quantizer)
    flat = torch.cat([x[0], x[1, :20]])[None]
    for _ in range(4):
        copied(flat)
        copied.after_optimizer_step()
    state = everything(copied)
    assert_same(state, {key: results[0][key] for key in state})


@BOTH
def test_eval_mutates_nothing(quantizer_class):
    quantizer = quantizer_class(8, 4, restart_after=1)
    for trained in (False, True):
        if trained:
            train(quantizer, clusters(dim=4, subspace=2), steps=5)
        quantizer.eval()
        x = torch.randn(2, 50, 4)
        before, rng = everything(quantizer), torch.get_rng_state()
        quantizer(x)
        quantizer.encode(x)
        quantizer.usage()
        assert quantizer.after_optimizer_step() == 0
        assert_same(before, everything(quantizer))
        assert torch.equal(rng, torch.get_rng_state())


@BOTH
def test_frozen_mutates_nothing_in_training_mode(quantizer_class):
    quantizer = quantizer_class(8, 4, restart_after=1)
    encoder = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *quantizer.parameters()], lr=0.1)

    def step():
        output = quantizer(encoder(torch.randn(2, 50, 4)))
        optimizer.zero_grad()
        (output.quantized.square().mean() + sum(output.losses.values())).backward()
        optimizer.step()
        return quantizer.after_optimizer_step(optimizer)

    for _ in range(3):
        step()
    quantizer.freeze()
    before = everything(quantizer)
    weight = encoder.weight.detach().clone()
    for _ in range(3):
        assert step() == 0
    assert_same(before, everything(quantizer))
    assert not torch.equal(weight, encoder.weight)


# ---- precision


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_full_precision_under_autocast(quantizer_class, dtype):
    quantizer = quantizer_class(64, 16, initialization="normal", restart_after=0).eval()
    x = 10 * torch.randn(2, 100, 16)
    plain = quantizer(x)
    with torch.autocast("cpu", dtype=dtype):
        mixed = quantizer(x)
        assert torch.equal(quantizer.encode(x), plain.indices)
    assert torch.equal(mixed.indices, plain.indices)
    assert torch.equal(mixed.quantized, plain.quantized)
    for key, value in plain.losses.items():
        assert torch.equal(mixed.losses[key], value)
    assert quantizer(x.to(dtype)).quantized.dtype == torch.float32


# ---- learning


@BOTH
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_learns_at_every_scale(quantizer_class, scale):
    draw = clusters(scale=scale)
    quantizer = quantizer_class(16, 8)
    train(quantizer, draw)
    result = summary(quantizer, draw(2000))
    assert result["used"] == result["distinct_codes"] == 16
    assert result["normalized_mse"] < 0.005


@BOTH
def test_recovers_from_a_far_initialization(quantizer_class):
    draw = clusters()
    quantizer = quantizer_class(16, 8, restart_after=20)
    quantizer.set_codebook(100 + torch.randn(16, 8))
    train(quantizer, draw, steps=200)
    result = summary(quantizer, draw(2000))
    assert result["used"] == result["distinct_codes"] == 16
    assert result["normalized_mse"] < 0.005


def test_steps_are_relative_to_the_scale_of_the_data():
    codebooks = []
    for scale in (2.0**-6, 1.0, 2.0**6):
        torch.manual_seed(5)
        quantizer = SoftEMQuantizer(16, 8)
        train(quantizer, clusters(scale=scale), steps=20)
        codebooks.append(quantizer.codebook.detach() / scale)
    torch.testing.assert_close(codebooks[0], codebooks[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(codebooks[2], codebooks[1], rtol=1e-3, atol=1e-3)


def test_published_form_merges_at_small_scale_and_the_statistics_tell():
    draw = clusters(scale=0.01)
    quantizer = SoftEMQuantizer(
        16, 8, temperature="fixed", beta=1.0, initialization="normal", restart_after=0
    )
    quantizer.set_codebook(0.3 * torch.randn(16, 8))
    # Plain gradient descent: the codes go where the loss sends them, without Adam's jitter.
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=4.0)
    for _ in range(100):
        optimizer.zero_grad()
        quantizer(draw(128)[None]).losses["codebook"].backward()
        optimizer.step()
    result = summary(quantizer, draw(2000))
    assert result["responsibility_perplexity"] > 15
    assert result["distinct_codes"] <= 2
    assert result["normalized_mse"] > 0.9
