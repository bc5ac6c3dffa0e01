import copy
import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizer_placement import choose_spread_frames, move_idle_codes
from waveglow_vq.lobes.quantizer_statistics import (
    CodeStatistics,
    distinct_codes,
    merged_codes,
    participating_dimensions,
    second_moments,
    squared_distances,
)
from waveglow_vq.lobes.quantizers import EMAQuantizer, SoftEMQuantizer

import pytest
import torch

BOTH = pytest.mark.parametrize("quantizer_class", [SoftEMQuantizer, EMAQuantizer])


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def clusters(count=16, dim=8, subspace=4, noise=0.1, scale=1.0, seed=3):
    """A function that draws [n, dim] frames from `count` Gaussians in a subspace."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(count, subspace, generator=generator)
    basis = torch.linalg.qr(torch.randn(dim, subspace, generator=generator))[0].t()

    def draw(n):
        which = torch.randint(count, (n,), generator=generator)
        latent = centres[which] + noise * torch.randn(n, subspace, generator=generator)
        return scale * latent @ basis

    return draw


def train(quantizer, draw, steps=150, batch=128, lr=1e-2):
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr) if parameters else None
    quantizer.train()
    restarted = 0
    for _ in range(steps):
        output = quantizer(draw(batch)[None])
        if optimizer:
            optimizer.zero_grad()
            sum(output.losses.values()).backward()
            optimizer.step()
        restarted += quantizer.after_optimizer_step(optimizer)
    return restarted


def dimensions(frames):
    return participating_dimensions(second_moments(frames), len(frames))


def summary(quantizer, frames):
    quantizer.eval()
    epoch = CodeStatistics()
    epoch.accumulate(quantizer(frames[None]).statistics)
    return epoch.summary(quantizer.codebook, frames_per_second=50.0)


def everything(quantizer):
    """All that a quantiser carries from step to step."""
    state = {key: value.clone() for key, value in quantizer.state_dict().items()}
    for key, value in vars(quantizer).items():
        if isinstance(value, torch.Tensor):
            state[key] = value.clone()
    for age, (frames, _) in enumerate(quantizer._recent):
        state[f"recent {age}"] = frames.clone()
    return state


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


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
    frames, codes = x[0], quantizer.codebook.detach()
    distances = (frames[:, None] - codes).square().sum(-1)
    deviation = (frames - frames.mean(0)).square().sum(1).mean()
    errors = frames - codes[distances.argmin(1)]
    beta = 2.0 * dimensions(errors) / (2 * distances.amin(1).mean())
    q = torch.softmax(-beta * distances, dim=1)
    sum(output.losses.values()).backward()
    gradient = -2 * beta * (q[..., None] * (frames[:, None] - codes)).mean(0)
    torch.testing.assert_close(quantizer.codebook.grad, gradient * (deviation / 3).sqrt())
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


@pytest.mark.parametrize("offset, scale", [(0.0, 10.0), (1000.0, 1.0), (0.0, 1e-3)])
def test_distances_are_accurate(offset, scale):
    codes = offset + scale * torch.randn(512, 64)
    frames = codes[torch.randint(512, (400,))] + 0.5 * scale * torch.randn(400, 64)
    exact = (frames.double()[:, None] - codes.double()).square().sum(-1)
    error = (squared_distances(frames, codes).double() - exact).abs()
    assert error.max() < 1e-5 * exact.max()
    quantizer = SoftEMQuantizer(512, 64, initialization="normal")
    quantizer.set_codebook(codes)
    assert torch.equal(quantizer.encode(frames[None])[0], exact.argmin(1))


# ---- initialisation and restarts


@BOTH
def test_initialization_takes_frames_over_several_forwards(quantizer_class):
    quantizer = quantizer_class(16, 4)
    seen = []
    for expected in (5, 10, 15, 16):
        x = 100 + torch.randn(1, 20, 4)
        seen.append(x[0])
        output = quantizer(x)
        assert int(quantizer.filled) == expected
        assert output.indices.max() < expected
        assert output.statistics["normalized_mse"] < 2
        if quantizer_class is SoftEMQuantizer:
            assert torch.isin(quantizer.codebook[:expected], torch.cat(seen)).all()
            assert torch.isfinite(output.losses["codebook"])
    assert (quantizer.codebook - 100).abs().max() < 10


def test_normal_initialization_is_left_alone():
    quantizer = SoftEMQuantizer(16, 4, initialization="normal")
    before = quantizer.codebook.detach().clone()
    quantizer(100 + torch.randn(1, 200, 4))
    assert torch.equal(before, quantizer.codebook)


def test_spread_frames_cover_the_clusters():
    draw = clusters(count=64, dim=16, subspace=8, noise=0.05)
    chosen, distances, gains = choose_spread_frames(draw(512), 64)
    assert (gains >= 0).all() and gains[0] > gains[-1]
    assert chosen.shape == (64, 16) and distances.shape == (64,)
    frames = draw(2000)
    nearest = squared_distances(frames, chosen).amin(1)
    assert (nearest > 1.0).double().mean() < 0.02


def test_dimensions_of_a_spread():
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    for scale in (1e-6, 1.0, 1e6):
        frames = scale * torch.randn(4000, 5) * weights
        assert float(dimensions(frames)) == pytest.approx(3.0, abs=0.1)
    # Few frames do not hide the dimensions that they cannot fill.
    few = torch.stack([dimensions(torch.randn(40, 64)) for _ in range(50)])
    assert 45 < few.mean() <= 64
    assert float(dimensions(torch.zeros(10, 5))) <= 5.0


def test_idle_codes_move_where_they_are_missed():
    centres = 10 * torch.eye(6)
    frames = centres.repeat(50, 1) + 0.1 * torch.randn(300, 6)
    # The last centre has no code, the first has two: they share its frames, so none is dead.
    codes = torch.cat([centres[:1] + 0.05 * torch.randn(2, 6), centres[1:5]])
    rows, places = move_idle_codes(frames, codes, limit=3)
    assert rows.tolist() in ([0], [1])
    assert (places - centres[5]).norm() < 1.0
    # With a code for each there is nothing to gain, and noise alone is no reason to move.
    rows, places = move_idle_codes(frames, centres, limit=3)
    assert len(rows) == 0 and places.shape == (0, 6)
    noise = torch.randn(400, 16)
    codes = torch.stack([part.mean(0) for part in noise.split(50)])
    assert len(move_idle_codes(noise, codes, limit=4)[0]) <= 1


@BOTH
def test_shared_clusters_are_given_up_for_missed_ones(quantizer_class):
    centres = 10 * torch.eye(8)
    quantizer = quantizer_class(8, 8, initialization="normal", restart_after=10)
    quantizer.set_codebook(torch.cat([centres[:4], centres[:4] + 0.1 * torch.randn(4, 8)]))
    # Beyond what dead and merged codes explain: no cluster loses all its codes meanwhile.
    train(
        quantizer,
        lambda n: centres[torch.randint(8, (n,))] + 0.3 * torch.randn(n, 8),
        steps=100,
    )
    nearest = squared_distances(centres, quantizer.codebook.detach()).amin(1)
    assert (nearest < 20.0).all()


def test_ema_codes_do_not_shrink_after_initialization():
    quantizer = EMAQuantizer(16, 4)
    x = 50 + torch.randn(1, 100, 4)
    quantizer(x)
    for _ in range(1000):
        quantizer(x[:, :3])
    assert (quantizer.codebook - 50).abs().max() < 5


@BOTH
def test_dead_codes_restart_once_they_are_due(quantizer_class):
    quantizer = quantizer_class(8, 4, initialization="normal", restart_after=3)
    far = torch.full((8, 4), 1000.0)
    far[0] = 0.0
    quantizer.set_codebook(far + torch.randn(8, 4))
    x = torch.randn(1, 200, 4)
    restarted = []
    for _ in range(3):
        quantizer(x)
        restarted.append(quantizer.after_optimizer_step())
    assert restarted == [0, 0, 7]
    assert torch.isin(quantizer.codebook[1:], x).all()
    placed = quantizer.codebook.detach().clone()
    # They stick: a step in which no frame chooses them leaves them in their places.
    quantizer(x[:, :1])
    unchosen = quantizer.unused_steps > 0
    assert unchosen.sum() == 7
    torch.testing.assert_close(quantizer.codebook[unchosen], placed[unchosen])
    assert quantizer(x).statistics["used"] == 1.0


def test_no_restarts_when_switched_off():
    quantizer = SoftEMQuantizer(8, 4, initialization="normal", restart_after=0)
    quantizer.set_codebook(1000 + torch.randn(8, 4))
    for _ in range(5):
        quantizer(torch.randn(1, 200, 4))
        assert quantizer.after_optimizer_step() == 0


def test_restart_resets_the_moments_of_its_rows_only():
    quantizer = SoftEMQuantizer(8, 4, initialization="normal", restart_after=3)
    codes = torch.randn(8, 4)
    codes[5:] += 1000
    quantizer.set_codebook(codes)
    optimizer = torch.optim.Adam(quantizer.parameters(), amsgrad=True)
    draw = clusters(dim=4, subspace=4)
    train_steps = 0
    while True:
        output = quantizer(draw(100)[None])
        optimizer.zero_grad()
        (sum(output.losses.values()) + (quantizer.codebook**2).sum()).backward()
        optimizer.step()
        train_steps += 1
        if quantizer.after_optimizer_step(optimizer):
            break
    assert train_steps == 3
    state = optimizer.state[quantizer.codebook]
    for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        assert (state[key][5:] == 0).all() and (state[key][0] != 0).any()
    assert float(state["step"]) == 3


@BOTH
def test_merged_codes_restart(quantizer_class):
    draw = clusters(count=8, dim=4, subspace=4)
    quantizer = quantizer_class(8, 4, initialization="normal", restart_after=2)
    for _ in range(2):
        quantizer(draw(200)[None])
    # All in one point at once, and none of them dead.
    quantizer.set_codebook(draw(1).repeat(8, 1) + 1e-4 * torch.randn(8, 4))
    assert quantizer.after_optimizer_step() == 7
    assert distinct_codes(quantizer.codebook, data_deviation=4.0) == 8
    train(quantizer, draw)
    assert summary(quantizer, draw(1000))["distinct_codes"] == 8


def test_constant_input_neither_restarts_for_ever_nor_breaks():
    quantizer = SoftEMQuantizer(8, 4, restart_after=1)
    restarted = train(quantizer, lambda n: torch.ones(n, 4), steps=10)
    assert restarted == 0
    assert torch.isfinite(quantizer.codebook).all()


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


@BOTH
@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_learns_with_a_moving_encoder(quantizer_class, estimator):
    draw = clusters()
    encoder, decoder = torch.nn.Linear(8, 4), torch.nn.Linear(4, 8)
    quantizer = quantizer_class(16, 4, estimator=estimator)
    parameters = [p for m in (encoder, decoder, quantizer) for p in m.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(300):
        x = draw(128)
        output = quantizer(encoder(x)[None])
        error = (decoder(output.quantized[0]) - x).square().mean()
        optimizer.zero_grad()
        (error + sum(output.losses.values())).backward()
        optimizer.step()
        quantizer.after_optimizer_step(optimizer)
    quantizer.eval()
    x = draw(2000)
    output = quantizer(encoder(x)[None])
    assert output.statistics["used"] > 0.8
    assert (decoder(output.quantized[0]) - x).square().mean() / x.var() < 0.05


# ---- statistics


def test_merged_codes_are_found():
    codes = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 0.01], [5.0, 0.05], [9.0, 9.0]])
    assert merged_codes(codes, 0.02).tolist() == [False, False, True, False, False]
    assert merged_codes(codes, 0.1).tolist() == [False, False, True, True, False]
    # A chain of near neighbours is not one code.
    assert int(merged_codes(torch.arange(10.0)[:, None], 1.5).sum()) == 5
    assert not merged_codes(1e4 + torch.eye(4), 0.1).any()


def test_distinct_codes_are_not_fooled():
    merged = torch.full((64, 8), 3.0) + 1e-5 * torch.randn(64, 8)
    assert distinct_codes(merged) == 1
    assert distinct_codes(merged, data_deviation=1.0) == 1
    assert distinct_codes(torch.randn(64, 8)) == 64
    assert distinct_codes(torch.randn(64, 8), data_deviation=1e4) == 1
    # Usage and perplexity alone look excellent.
    quantizer = EMAQuantizer(64, 8, initialization="normal", restart_after=0).eval()
    quantizer.set_codebook(merged - 3.0)
    result = summary(quantizer, torch.randn(4000, 8))
    assert result["used"] > 40 and result["perplexity"] > 20
    assert result["distinct_codes"] == 1 and result["normalized_mse"] > 0.9


def test_statistics_of_a_forward():
    quantizer = EMAQuantizer(4, 2, initialization="normal", restart_after=0).eval()
    quantizer.set_codebook(torch.tensor([[0.0, 0.0], [2.0, 0.0], [50.0, 50.0], [60.0, 50.0]]))
    x = torch.tensor([[[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]]])
    statistics = quantizer(x).statistics
    assert statistics["counts"].tolist() == [2, 2, 0, 0]
    assert float(statistics["used"]) == 0.5
    assert float(statistics["perplexity"]) == pytest.approx(2.0)
    assert float(statistics["squared_error"]) == 4.0
    assert float(statistics["squared_deviation"]) == 8.0
    assert float(statistics["normalized_mse"]) == 0.5
    assert statistics["mean_frame"].tolist() == [1.0, 0.0]


def test_epoch_summary_is_that_of_all_frames_at_once():
    quantizer = SoftEMQuantizer(16, 4, initialization="normal").eval()
    frames = torch.cat([torch.randn(300, 4), 5 + 2 * torch.randn(80, 4), torch.randn(1, 4)])
    epoch = CodeStatistics()
    for part in frames.split([300, 80, 1]):
        epoch.accumulate(quantizer(part[None]).statistics)
    result = epoch.summary(quantizer.codebook, frames_per_second=43.0)
    assert all(type(value) is float for value in result.values())
    codes = quantizer.codebook.detach()
    distances = (frames[:, None] - codes).square().sum(-1)
    counts = torch.bincount(distances.argmin(1), minlength=16)
    share = counts / counts.sum()
    entropy = float(torch.special.entr(share).sum())
    deviation = (frames - frames.mean(0)).square().sum()
    assert result["used"] == float((counts > 0).sum())
    assert result["perplexity"] == pytest.approx(math.exp(entropy))
    assert result["normalized_mse"] == pytest.approx(
        float(distances.amin(1).sum() / deviation), rel=1e-5
    )
    assert result["bits_per_second"] == 4 * 43.0
    assert result["entropy_bits_per_second"] == pytest.approx(43.0 * entropy / math.log(2))
    assert 1.0 <= result["responsibility_perplexity"] <= 16.0
    assert CodeStatistics().summary(quantizer.codebook, 43.0) == {}


@BOTH
def test_usage_of_recent_training(quantizer_class):
    quantizer = quantizer_class(8, 4, initialization="normal", restart_after=0)
    assert quantizer.usage()["used"] == 0.0
    quantizer.set_codebook(torch.cat([torch.eye(4), 100 + torch.eye(4)]))
    for _ in range(3):
        quantizer(torch.eye(4).repeat(1, 10, 1) + 0.1 * torch.randn(1, 40, 4))
    usage = quantizer.usage()
    assert all(type(value) is float for value in usage.values())
    assert usage["used"] == 4.0 and usage["perplexity"] == pytest.approx(4.0, rel=1e-3)
    assert usage["unused_steps"] == 3.0 and usage["distinct_codes"] == 8.0
    assert usage["normalized_mse"] < 0.2


@BOTH
def test_state_survives_a_checkpoint(quantizer_class):
    quantizer = quantizer_class(8, 4)
    train(quantizer, clusters(dim=4), steps=5)
    other = quantizer_class(8, 4)
    other.load_state_dict(quantizer.state_dict())
    assert_same(quantizer.state_dict(), other.state_dict())
    x = torch.randn(1, 20, 4)
    assert torch.equal(other.eval().encode(x), quantizer.eval().encode(x))
    assert int(other.filled) == 8


# ---- several processes


class Encoder(torch.nn.Module):
    def __init__(self, quantizer):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
        self.quantizer = quantizer

    def forward(self, x):
        return self.quantizer(self.linear(x))


def train_in_one_of_two_processes(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    for name, quantizer_class in (("soft_em", SoftEMQuantizer), ("ema", EMAQuantizer)):
        torch.manual_seed(rank)
        model = Encoder(quantizer_class(32, 8, restart_after=5))
        quantizer = model.quantizer
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.Adam(wrapped.parameters(), lr=1e-2)
        # Each process sees data of its own, and fewer frames than there are codes.
        draw = clusters(seed=10 + rank)
        restarted = 0
        epoch = CodeStatistics()
        for step in range(40):
            output = wrapped(draw(40 + 10 * rank)[None])
            optimizer.zero_grad()
            (output.quantized.square().mean() + sum(output.losses.values())).backward()
            optimizer.step()
            restarted += quantizer.after_optimizer_step(optimizer)
            if step == 20:
                with torch.no_grad():
                    codes = quantizer.codebook.detach().clone()
                    codes[7:] += 1000.0
                    quantizer.set_codebook(codes)
            epoch.accumulate(output.statistics)
        # Only one process measures: nothing may wait for the other.
        if rank == 0:
            quantizer.eval()(draw(20)[None])
        torch.save(
            {
                "state": quantizer.state_dict(),
                "restarted": restarted,
                "summary": epoch.summary(quantizer.codebook, 50.0),
                "frames": float(epoch.totals["frames"]),
            },
            f"{folder}/{name}_{rank}.pt",
        )
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_stay_identical(tmp_path):
    torch.multiprocessing.spawn(train_in_one_of_two_processes, args=(str(tmp_path),), nprocs=2)
    for name in ("soft_em", "ema"):
        first, second = (
            torch.load(tmp_path / f"{name}_{rank}.pt", weights_only=True) for rank in (0, 1)
        )
        assert_same(first["state"], second["state"])
        assert first["restarted"] == second["restarted"] >= 20
        assert first["summary"] == second["summary"]
        assert first["summary"]["used"] > 7
        assert (first["frames"], second["frames"]) == (1600.0, 2000.0)
        # Statistics are those of both processes' frames, whichever process one asks.
        expected = 90 * (1 - 0.99**40)
        assert float(first["state"]["recent_totals"][0]) == pytest.approx(expected, rel=1e-3)
