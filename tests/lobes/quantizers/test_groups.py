"""Several codebooks for a vector."""

import copy
import functools
import io
import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizers import GroupedQuantizer, SoftEMQuantizer, build_quantizer
from waveglow_vq.lobes.quantizers.statistics import CodeStatistics, distinct_codes

import pytest
import torch

from tests.lobes.quantizers.quantizer_tools import clusters, summary, train
from tests.lobes.quantizers.test_quantizers_distributed import Autoencoder, make_batches, padded
from tests.lobes.quantizers.test_rollback import Run, batches, same

CASES = [(u, g) for u in ("soft_em", "ema") for g in ("product", "residual")]
EACH = pytest.mark.parametrize(("update", "grouping"), CASES)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def grouped(update, grouping, codebooks=3, size=16, dim=12, **options):
    options = {"codebook_size": size, "codebook_dim": dim, **options}
    return build_quantizer(update, codebooks, grouping, **options)


def test_one_codebook_is_the_quantizer_itself_bit_for_bit():
    states = []
    for build in (
        lambda **options: build_quantizer("soft_em", codebooks=1, grouping="product", **options),
        SoftEMQuantizer,
    ):
        torch.manual_seed(3)
        quantizer = build(codebook_size=16, codebook_dim=8)
        assert type(quantizer) is SoftEMQuantizer and quantizer.codebooks == 1
        train(quantizer, clusters(), steps=60)
        states.append(quantizer.state_dict())
    assert states[0].keys() == states[1].keys() and "codebook" in states[0]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@EACH
def test_decoding_what_is_encoded_gives_what_is_quantized(update, grouping):
    quantizer, draw = grouped(update, grouping), clusters(dim=12, noise=0.5)
    train(quantizer, draw, steps=40)
    quantizer.eval()
    x = draw(60).view(3, 20, 12)
    output = quantizer(x)
    assert output.indices.shape == (3, 20, 3) and output.indices.dtype == torch.int64
    assert torch.equal(quantizer.encode(x), output.indices)
    assert torch.equal(quantizer.decode(output.indices), output.quantized)
    # By hand: the nearest code of each part, or of what is left.
    left, total = x.reshape(60, 12), 0
    for n, codes in enumerate(quantizer.codebook):
        part = left[:, 4 * n : 4 * n + 4] if grouping == "product" else left
        chosen = torch.cdist(part, codes).argmin(1)
        assert torch.equal(chosen, output.indices[..., n].flatten())
        if grouping == "residual":
            left, total = left - codes[chosen], total + codes[chosen]
        else:
            assert torch.equal(output.quantized.view(60, 12)[:, 4 * n : 4 * n + 4], codes[chosen])
    if grouping == "residual":
        torch.testing.assert_close(output.quantized.view(60, 12), total)


@EACH
def test_more_codebooks_leave_less(update, grouping):
    draw, errors = clusters(64, 12, 12, noise=1.0), []
    frames = draw(2000)
    for codebooks in (1, 2, 4):
        quantizer = grouped(update, grouping, codebooks)
        train(quantizer, draw, steps=120)
        found = summary(quantizer, frames)
        quantizer.eval()
        left = (frames - quantizer(frames[None]).quantized[0]).detach()
        spread = frames - frames.mean(0)
        error = float(left.square().sum() / spread.square().sum())
        assert found["normalized_mse"] == pytest.approx(error, rel=1e-4)
        # Codes at 50 Hz, 16 of each codebook.
        assert found["bits_per_second"] == 200 * codebooks
        assert 0.8 * 200 * codebooks < found["entropy_bits_per_second"] <= 200 * codebooks
        assert 15 * codebooks <= found["used"] <= 16 * codebooks
        assert 15 * codebooks <= found["distinct_codes"] <= 16 * codebooks
        errors.append(error)
    assert errors[1] < 0.8 * errors[0] and errors[2] < 0.75 * errors[1]
    if grouping == "residual":
        # And so with each stage of one.
        left, falling = frames, [math.inf]
        for stage in quantizer.stages:
            left = left - stage.decode(stage.encode(left[None]))[0]
            falling.append(float(left.square().sum()))
            assert falling[-1] < 0.85 * falling[-2]


@EACH
@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_padding_takes_no_part(update, grouping, estimator):
    quantizer = grouped(update, grouping, estimator=estimator)
    twin = copy.deepcopy(quantizer)
    x = clusters(dim=12)(40).view(2, 20, 12)
    x[1, 12:] = math.nan
    x.requires_grad_()
    lengths = torch.tensor([1.0, 0.6])
    output = quantizer(x, lengths)
    assert (output.indices[1, 12:] == -1).all() and not output.quantized[1, 12:].any()
    assert (output.indices[0] >= 0).all() and (output.indices[1, :12] >= 0).all()
    (output.quantized.square().sum() + sum(output.losses.values())).backward()
    assert torch.isfinite(x.grad).all() and not x.grad[1, 12:].any() and x.grad[1, :12].any()
    # The same as without it.
    alone = twin(torch.cat([x[0], x[1, :12]]).detach()[None])
    for name in output.losses:
        torch.testing.assert_close(alone.losses[name], output.losses[name])
    for name in output.statistics:
        torch.testing.assert_close(alone.statistics[name], output.statistics[name])
    quantizer.eval()
    found = quantizer.encode(x.detach().nan_to_num(1e4), lengths)
    assert torch.equal(found < 0, output.indices < 0)
    assert not quantizer.decode(found)[1, 12:].any()


@pytest.mark.parametrize("grouping", ["product", "residual"])
def test_the_gradient_passes_straight_and_once(grouping):
    quantizer = grouped("soft_em", grouping, commitment_weight=0.0, codebook_weight=0.0)
    x = clusters(dim=12)(400).view(4, 100, 12).requires_grad_()
    weight = torch.randn(4, 100, 12)
    output = quantizer(x)
    (output.quantized * weight).sum().backward()
    assert torch.equal(x.grad, weight)
    # And reaches every chosen code.
    for stage in quantizer.stages:
        assert stage.codebook.grad.any()


@EACH
def test_losses_are_of_each_codebook_on_what_it_is_given(update, grouping):
    quantizer = grouped(update, grouping)
    draw = clusters(dim=12, noise=0.5)
    train(quantizer, draw, steps=30)
    quantizer.eval()
    x, losses = draw(100)[None], []
    output, left = quantizer(x), x
    for n, stage in enumerate(quantizer.stages):
        part = x[..., 4 * n : 4 * n + 4] if grouping == "product" else left
        own = stage(part)
        losses.append(own.losses)
        left = left - own.quantized if grouping == "residual" else left
    for name, value in output.losses.items():
        expected = torch.stack([loss[name] for loss in losses]).mean()
        torch.testing.assert_close(value, expected)


def test_merged_codes_of_a_late_codebook_are_not_distinct():
    """Also where all of its codes are as near as its residuals are small."""
    quantizer = grouped("ema", "residual", 2, dim=4)
    draw = clusters(dim=4, noise=0.02)
    train(quantizer, draw, steps=60)
    frames = draw(1000)
    assert summary(quantizer, frames)["distinct_codes"] >= 30
    quantizer.stages[1].codebook.mul_(1e-3)
    assert summary(quantizer, frames)["distinct_codes"] <= 17
    assert distinct_codes(quantizer.stages[1].codebook) > 10


@EACH
def test_statistics_of_parts_are_those_of_the_whole(update, grouping):
    quantizer, draw = grouped(update, grouping), clusters(dim=12)
    train(quantizer, draw, steps=30)
    quantizer.eval()
    frames = torch.cat([draw(100), draw(300) + 5.0])
    parts = CodeStatistics()
    for part in frames.split(100):
        parts.accumulate(quantizer(part[None]).statistics)
    found, whole = parts.summary(quantizer.codebook, 50.0), summary(quantizer, frames)
    # The temperature is of each forward's own frames.
    assert found.pop("responsibility_perplexity") > 0 and whole.pop("responsibility_perplexity")
    assert found == pytest.approx(whole, rel=1e-4)


@EACH
def test_a_step_that_is_not_taken_leaves_no_trace(update, grouping):
    build = functools.partial(build_quantizer, update, 2, grouping)
    clean, run = Run(build), Run(build)
    for x in batches():
        before, bad = run.state(), x.clone()
        bad[0, 3:5] = math.nan
        run.step(bad, taken=False)
        same(before, run.state())
        clean.step(x)
        run.step(x)
        same(clean.state(), run.state())
    assert clean.restarted == run.restarted > 0


@EACH
@pytest.mark.parametrize("saved_after", [2, 9])
def test_a_saved_run_goes_on_bit_for_bit(update, grouping, saved_after):
    build = functools.partial(build_quantizer, update, 2, grouping)
    run, data, file = Run(build), batches(), io.BytesIO()
    for x in data[:saved_after]:
        run.step(x)
    run.quantizer(run.encoder(data[-1]))
    parts = ("encoder", "quantizer", "optimizer")
    states = {name: getattr(run, name).state_dict() for name in parts}
    torch.save({**states, "training": run.quantizer.training_state()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    torch.manual_seed(77)
    resumed = Run(build)
    for name in parts:
        getattr(resumed, name).load_state_dict(loaded[name])
    resumed.quantizer.load_training_state(loaded["training"])
    for step, x in enumerate(data[saved_after:]):
        for other in (run, resumed):
            other.step(x, taken=step > 0)
        same(run.state(), resumed.state())
    assert run.restarted > 0


def test_nothing_changes_once_frozen_or_in_evaluation():
    quantizer, draw = grouped("soft_em", "residual"), clusters(dim=12)
    train(quantizer, draw, steps=30)
    usage = quantizer.usage()
    assert usage["used"] > 30 and 0 < usage["normalized_mse"] < 1 and usage["perplexity"] > 4
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.freeze()
    output = quantizer(draw(50)[None])
    assert not output.quantized.requires_grad
    quantizer.eval()(draw(50)[None])
    assert quantizer.after_optimizer_step() == 0
    after = quantizer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("codebooks", "grouping", "sentence"),
    [
        (0, "residual", "codebooks"),
        (2.5, "residual", "codebooks"),
        (2, "tree", "grouping"),
        (5, "product", "5 equal parts do not make up the codebook_dim of 12"),
    ],
)
def test_bad_options(codebooks, grouping, sentence):
    with pytest.raises(UserError, match=sentence):
        grouped("ema", grouping, codebooks)


def test_bad_inputs():
    quantizer = grouped("ema", "residual", 2)
    assert isinstance(quantizer, GroupedQuantizer)
    with pytest.raises(UserError, match=r"\[batch, time, 12\], got \[2, 5, 6\]"):
        quantizer(torch.zeros(2, 5, 6))
    with pytest.raises(UserError, match=r"shape \[2, 5\], but there are 2 codebooks"):
        quantizer.decode(torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(UserError, match="between 16 and 16"):
        quantizer.decode(torch.tensor([[[0, 16]]]))


# ---- several processes


def train_grouped(update, grouping, rank=0, world=1):
    torch.manual_seed(rank)
    quantizer = build_quantizer(
        update, 2, grouping, codebook_size=12, codebook_dim=6, restart_after=4
    )
    model = wrapped = Autoencoder(quantizer).double()
    if world > 1:
        wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    optimizer, epoch, restarted = torch.optim.Adam(model.parameters(), lr=1e-2), CodeStatistics(), 0
    for step, items in enumerate(make_batches(torch.float64)):
        loss, output = wrapped(*padded(items[rank::world]))
        optimizer.zero_grad()
        loss.backward()
        if step != 5:
            optimizer.step()
        restarted += quantizer.after_optimizer_step(optimizer, taken=step != 5)
        epoch.accumulate(output.statistics)
    state = {name: value.detach().double() for name, value in model.state_dict().items()}
    return {
        "state": state,
        "restarted": restarted,
        "summary": epoch.summary(quantizer.codebook, 50),
        "nothing": CodeStatistics().summary(quantizer.codebook, 50),
    }


def train_in_process(rank, world, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    for update, grouping in CASES:
        found = train_grouped(update, grouping, rank, world)
        torch.save(found, f"{folder}/{update}_{grouping}_{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_do_what_one_does(tmp_path):
    torch.multiprocessing.spawn(train_in_process, args=(2, str(tmp_path)), nprocs=2)
    for update, grouping in CASES:
        alone = train_grouped(update, grouping)
        assert alone["restarted"] > 0
        for rank in range(2):
            path = tmp_path / f"{update}_{grouping}_{rank}.pt"
            found = torch.load(path, weights_only=True)
            assert found["restarted"] == alone["restarted"] and found["nothing"] == {}
            assert found["summary"] == pytest.approx(alone["summary"], rel=1e-4)
            for name, value in alone["state"].items():
                size = value.abs().max().clamp_min(1e-3)
                assert (found["state"][name] - value).abs().max() <= 1e-9 * size, name
