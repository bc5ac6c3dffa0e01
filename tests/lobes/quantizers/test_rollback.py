"""Steps that are not taken leave no trace, and a saved run goes on as if nothing had been."""

import copy
import io
import math

from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer

import pytest
import torch

from tests.lobes.quantizers.quantizer_tools import BOTH, assert_same, clusters

STEPS = 14
# The codebook of 16 is full after 4 steps of 20 frames; restarts are due every 5 steps.
OPTIONS = {"codebook_size": 16, "codebook_dim": 8, "restart_after": 5}


class Run:
    """An encoder, a quantizer and their optimizer, and a step of theirs."""

    def __init__(self, quantizer_class):
        torch.manual_seed(0)
        self.encoder = torch.nn.Linear(8, 8)
        self.quantizer = quantizer_class(**OPTIONS)
        parameters = [*self.encoder.parameters(), *self.quantizer.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-2)
        self.restarted = 0

    def step(self, *batches, taken=True):
        self.optimizer.zero_grad()
        for x in batches:
            output = self.quantizer(self.encoder(x), torch.tensor([1.0, 0.6]))
            loss = output.quantized.square().mean() + sum(output.losses.values())
            loss.backward()
        if taken:
            self.optimizer.step()
        self.restarted += self.quantizer.after_optimizer_step(self.optimizer, taken)
        return loss

    def state(self):
        optimizer = {
            f"{i} {key}": value
            for i, state in self.optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }
        return flat(
            {
                "encoder": self.encoder.state_dict(),
                "quantizer": self.quantizer.state_dict(),
                "training": self.quantizer.training_state(),
                "optimizer": optimizer,
            }
        )


def flat(value, name=""):
    """Nested dicts and lists as one dict of tensors, copied."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, part in items for k, v in flat(part, f"{name}/{key}").items()}
    value = torch.tensor(math.nan) if value is None else torch.as_tensor(value)
    return {name: value.detach().clone()}


def batches(seed=0):
    draw = clusters(seed=seed)
    return [draw(24).view(2, 12, 8) for _ in range(STEPS)]


def same(first, second):
    assert_same(
        {k: v.nan_to_num(123.0) for k, v in first.items()},
        {k: v.nan_to_num(123.0) for k, v in second.items()},
    )


@BOTH
@pytest.mark.parametrize("filler", [math.nan, math.inf, 1e30, 5.0])
@pytest.mark.parametrize("forwards", [1, 2])
def test_a_step_that_is_not_taken_leaves_no_trace(quantizer_class, filler, forwards):
    clean, run = Run(quantizer_class), Run(quantizer_class)
    for step, x in enumerate(batches()):
        bad = batches(seed=9)[:forwards]
        bad[-1][0, 3:5] = filler
        before = run.state()
        run.step(*bad, taken=False)
        same(before, run.state())
        clean.step(x)
        run.step(x)
        same(clean.state(), run.state())
        assert int(run.quantizer.steps) == step + 1
    assert int(run.quantizer.filled) == 16
    assert clean.restarted == run.restarted > 0


@BOTH
def test_forwards_that_are_put_back_did_change_something(quantizer_class):
    run = Run(quantizer_class)
    for x in batches():
        before = run.state()
        run.quantizer(run.encoder(x))
        after = run.quantizer.state_dict()
        assert not torch.equal(before["/quantizer/steps"], after["steps"])
        assert not torch.equal(before["/quantizer/recent_totals"], after["recent_totals"])
        filling = int(before["/quantizer/filled"]) < 16
        moved = not torch.equal(before["/quantizer/codebook"], after["codebook"])
        assert moved == (filling or quantizer_class is EMAQuantizer)
        run.quantizer.after_optimizer_step(run.optimizer, taken=False)
        run.step(x)


@BOTH
def test_frames_that_are_not_finite_raise_nothing_in_training(quantizer_class):
    """Even if somebody takes the step."""
    run = Run(quantizer_class)
    for x in batches():
        x[1, 2] = math.nan
        assert not torch.isfinite(run.step(x).detach())
    run.quantizer.usage()


@BOTH
def test_restarts_are_due_with_several_forwards_per_step(quantizer_class):
    """Also where no step ends on a multiple of restart_after."""
    codes = 0.01 * torch.randn(16, 8)
    run = Run(quantizer_class)
    run.quantizer.set_codebook(codes)
    data = batches()
    restarted = []
    for i in range(0, 12, 3):
        run.restarted = 0
        run.step(*data[i : i + 3])
        # Merged, whatever else: only a step on which they are due finds them.
        run.quantizer.unused_steps.zero_()
        restarted.append(run.restarted)
        run.quantizer.set_codebook(codes)
    assert restarted[0] == 0 and restarted[1] > 0 and restarted[2] == 0 and restarted[3] > 0


@BOTH
@pytest.mark.parametrize("saved_after", [2, 5, 9])
def test_a_saved_run_goes_on_bit_for_bit(quantizer_class, saved_after):
    run = Run(quantizer_class)
    data = batches()
    for x in data[:saved_after]:
        run.step(x)
    # A forward whose step never came, as at the end of an epoch, could still be put back.
    run.quantizer(run.encoder(data[-1]))
    file = io.BytesIO()
    parts = ("encoder", "quantizer", "optimizer")
    states = {name: getattr(run, name).state_dict() for name in parts}
    torch.save({**states, "training": run.quantizer.training_state()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    torch.manual_seed(77)
    resumed = Run(quantizer_class)
    for name in parts:
        getattr(resumed, name).load_state_dict(copy.deepcopy(loaded[name]))
    resumed.quantizer.load_training_state(loaded["training"])
    same(run.state(), resumed.state())
    for step, x in enumerate(data[saved_after:]):
        torch.manual_seed(step)
        for other in (run, resumed):
            other.step(x, taken=step > 0)
            torch.rand(7)
        same(run.state(), resumed.state())
    assert run.restarted > 0
