"""A step is taken as a whole or not at all; options of the loop that SpeechBrain reads wrongly."""

import copy
import time

from waveglow_vq.training.base_brain import BaseBrain

import pytest
import torch
from speechbrain.utils.run_opts import RunOptions


class Brain(BaseBrain):
    """A line through the origin; the batch is what it is multiplied with."""

    def compute_forward(self, batch, stage):
        return self.modules.line(batch)

    def compute_objectives(self, predictions, batch, stage):
        return predictions.sum()


def brain_of(hparams=None, **options):
    line = torch.nn.Linear(2, 1, bias=False)
    line.weight.data.zero_()
    run_opts = {"device": "cpu", "max_grad_norm": 100.0, **options}
    brain = Brain(
        {"line": line}, lambda p: torch.optim.SGD(p, 1.0), {**(hparams or {})}, run_opts=run_opts
    )
    brain.init_optimizers()
    brain.modules.train()
    brain.nonfinite_patience = 2
    return brain


def weights(brain):
    return brain.modules.line.weight.detach()[0].tolist()


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_no_weight_moves_where_one_gradient_is_not_finite(value):
    brain = brain_of()
    brain.fit_batch(torch.tensor([[1.0, 2.0]]))
    assert brain.step_taken and brain.optimizer_step == 1 and weights(brain) == [-1.0, -2.0]
    brain.fit_batch(torch.tensor([[1.0, value]]))
    assert not brain.step_taken and brain.optimizer_step == 1 and weights(brain) == [-1.0, -2.0]
    # Nor does anything of it go into the next step.
    brain.fit_batch(torch.tensor([[3.0, 4.0]]))
    assert brain.step_taken and brain.optimizer_step == 2 and weights(brain) == [-4.0, -6.0]


def test_gradients_of_all_groups_are_clipped_together():
    brain = brain_of(max_grad_norm=1.0)
    other = torch.nn.Parameter(torch.zeros(1))
    brain.optimizer.add_param_group({"params": [other]})
    brain.modules.line.weight.grad = torch.tensor([[3.0, 0.0]])
    other.grad = torch.tensor([4.0])
    brain.optimizers_step()
    assert [*weights(brain), float(other.detach())] == pytest.approx([-0.6, 0.0, -0.8], abs=1e-5)


def test_how_many_steps_may_be_skipped():
    brain = brain_of()
    assert [brain.recovers_from(n) for n in (0, 2, 3)] == [True, True, False]
    # With a scale of the loss, it is the scale that says it.
    for scale, expected in ((1.0, True), (0.5, False)):
        brain.set_scaler(torch.amp.GradScaler("cpu", init_scale=scale))
        assert [brain.recovers_from(n) for n in (0, 99)] == [expected] * 2


def test_saving_by_steps_and_by_minutes_at_once():
    """The command line before the YAML before SpeechBrain's default."""
    by_line = RunOptions.from_dictionary(
        {"device": "cpu", "ckpt_interval_steps": 7, "ckpt_interval_minutes": 5}
    )
    for run_opts, hparams, expected in (
        (by_line, {"ckpt_interval_steps": 3}, (7, 5)),
        (None, {"ckpt_interval_steps": 3, "ckpt_interval_minutes": 2}, (3, 2)),
        (None, {}, (0, RunOptions().ckpt_interval_minutes)),
    ):
        brain = Brain({"line": torch.nn.Linear(1, 1)}, None, hparams, run_opts)
        assert (brain.ckpt_interval_steps, brain.ckpt_interval_minutes) == expected


def test_nothing_is_saved_while_gradients_are_accumulated():
    brain = brain_of({"ckpt_interval_steps": 4}, grad_accumulation_factor=3)
    brain.checkpointer, now = object(), time.time()
    asked = []
    for brain.step in range(1, 10):
        asked.append(brain._should_save_intra_epoch_ckpt(now, brain.step))
    assert asked == [False] * 5 + [True, False, False, True]


def test_the_limit_of_steps_is_a_number():
    assert brain_of(optimizer_step_limit="12").optimizer_step_limit == 12


def test_a_state_of_another_kind_of_optimizer_goes_on_fused():
    """Of a run from before, or from a device without."""
    plain, fused = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    fused.load_state_dict(plain.state_dict())
    brain = Brain(
        {"line": fused}, lambda p: torch.optim.Adam(p, 0.1, fused=True), {}, {"device": "cpu"}
    )
    optimizer = torch.optim.Adam(plain.parameters(), 0.1)

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.tensor([[1.0, 2.0]])).square().sum().backward()
        optimizer.step()

    step(plain, optimizer)
    fused.load_state_dict(plain.state_dict())
    brain.checkpointer = None
    brain.init_optimizers()
    brain.optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert not brain.optimizer.param_groups[0]["fused"]
    brain.keep_optimizer_kind()
    assert brain.optimizer.param_groups[0]["fused"]
    for _ in range(3):
        step(plain, optimizer)
        step(fused, brain.optimizer)
    assert torch.allclose(plain.weight, fused.weight, rtol=1e-6)
    assert brain.optimizer.state[fused.weight]["step"] == 4
