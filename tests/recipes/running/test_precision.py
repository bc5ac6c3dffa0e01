"""Steps whose gradient is not finite, the dynamic scale of the loss, and reduced precision."""

import copy
import json
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)

import pytest
import speechbrain as sb
import torch
import train

from tests.recipes.command_line import log_lines
from tests.recipes.ljspeech_runs import SMALL, SMALL_CODES, run

RESTARTING = SMALL_CODES + ", codebook_size: 32, restart_after: 2"


def everything(brain):
    """All that a skipped step must not touch."""
    return {
        "model": copy.deepcopy(brain.model.state_dict()),
        "training state": copy.deepcopy(brain.model.training_state()),
        "averaged": copy.deepcopy(brain.averaged.state_dict()),
        "optimizer": copy.deepcopy(brain.optimizer.state_dict()),
        "schedule": (brain.hparams.schedule.steps, brain.optimizer.param_groups[0]["lr"]),
        "steps": brain.optimizer_step,
        "means": copy.deepcopy(brain.progress.means.sums),
    }


def assert_equal(first, second, where=""):
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f"{where}.{number}")
    elif torch.is_tensor(first):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def spoil_loss(monkeypatch, steps, value=float("inf")):
    """Makes the loss of some batches of training infinite, or not a number."""
    objectives = train.LJSpeechBrain.compute_objectives

    def spoiled(self, predictions, batch, stage):
        loss = objectives(self, predictions, batch, stage)
        return loss * value if stage == sb.Stage.TRAIN and self.step in steps else loss

    monkeypatch.setattr(train.LJSpeechBrain, "compute_objectives", spoiled)


def watch_steps(monkeypatch):
    """Compares what there is before and after each skipped step; the list of steps that were."""
    fit_batch, skipped = train.LJSpeechBrain.fit_batch, []

    def watched(self, batch):
        before = everything(self)
        loss = fit_batch(self, batch)
        if not self.step_taken:
            skipped.append(self.step)
            assert_equal(before, everything(self))
        return loss

    monkeypatch.setattr(train.LJSpeechBrain, "fit_batch", watched)
    return skipped


@pytest.mark.parametrize(("update", "value"), [("soft_em", float("nan")), ("ema", float("inf"))])
def test_a_skipped_step_touches_nothing(command, monkeypatch, update, value):
    spoil_loss(monkeypatch, steps=(1, 4, 5), value=value)
    skipped = watch_steps(monkeypatch)
    options = ["--segments_per_epoch", 32, "--number_of_epochs", 1]
    brain = run(command("vq", *options, preset=f"{RESTARTING}, codebook_update: {update}"))
    assert skipped == [1, 4, 5]
    assert brain.hparams.schedule.steps == 5
    assert all(torch.isfinite(value).all() for value in brain.model.parameters())
    (epoch, _) = log_lines(brain)
    assert "train skipped_steps: 3" in epoch and "nan" not in epoch and "inf" not in epoch


def test_a_gradient_that_is_not_finite_in_one_weight_is_a_skipped_step(command, monkeypatch):
    forward = train.LJSpeechBrain.compute_forward

    def spoiled(self, batch, stage):
        if stage == sb.Stage.TRAIN and self.step == 2:
            weight = self.model.vocoder.steps[0].coupling.network.end.bias
            handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * 1e39)[1])
        return forward(self, batch, stage)

    monkeypatch.setattr(train.LJSpeechBrain, "compute_forward", spoiled)
    skipped = watch_steps(monkeypatch)
    run(command("mel", "--number_of_epochs", 1, preset=SMALL))
    assert skipped == [2]


def test_an_accumulated_step_is_skipped_as_a_whole(command, monkeypatch):
    spoil_loss(monkeypatch, steps=(3,))
    options = ["--segments_per_epoch", 24, "--grad_accumulation_factor", 2]
    brain = run(command("vq", *options, "--number_of_epochs", 1, preset=RESTARTING))
    assert brain.hparams.schedule.steps == 2
    assert "train skipped_steps: 1" in log_lines(brain)[0]


def use_scaler(monkeypatch):
    """A dynamic scale of the loss also on the CPU, where SpeechBrain has none."""
    init = train.LJSpeechBrain.__init__

    def scaled(self, *arguments):
        init(self, *arguments)
        scale = self.hparams.initial_loss_scale
        self.set_scaler(torch.GradScaler("cpu", init_scale=scale))

    monkeypatch.setattr(train.LJSpeechBrain, "__init__", scaled)


def test_the_scale_of_the_loss_is_found_and_goes_into_the_checkpoint(command, monkeypatch):
    use_scaler(monkeypatch)
    skipped = watch_steps(monkeypatch)
    options = ["--segments_per_epoch", 40, "--initial_loss_scale", 2.0**127, "--flows_from", 0]
    brain = run(command("vq", *options, "--number_of_epochs", 1, preset=RESTARTING))
    # Too high at first: halved until nothing overflows, at the cost of steps and nothing else.
    assert skipped[0] == 1 and len(skipped) < 8
    assert brain.hparams.schedule.steps == 10 - len(skipped)
    scale = brain.scaler.get_scale()
    assert scale == 2.0 ** (127 - len(skipped))
    again = run(command("vq", *options, "--number_of_epochs", 2, preset=RESTARTING))
    assert brain.scaler is not again.scaler
    # It went on from where it was, and did not search again.
    assert again.scaler.get_scale() >= scale and len(skipped) < 8


def test_a_scale_that_falls_without_end_is_a_run_that_has_diverged(command, monkeypatch, capsys):
    use_scaler(monkeypatch)
    spoil_loss(monkeypatch, steps=range(100), value=float("nan"))
    with pytest.raises(SystemExit):
        run(command("mel", "--segments_per_epoch", 400, "--initial_loss_scale", 8.0))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "in 4 steps" in error and "--learning_rate" in error


@pytest.mark.slow
@pytest.mark.parametrize("yaml", ["mel", "vq"])
def test_bf16_trains_like_fp32(command, tmp_path, yaml):
    losses = {}
    for precision in ("fp32", "bf16"):
        output = tmp_path / precision
        options = ["--precision", precision, "--segments_per_epoch", 800, "--learning_rate", 0.003]
        options += ["--number_of_epochs", 2, "--max_valid_utterances", 3, "--warmup_steps", 20]
        run(command(yaml, *options, preset="", output=output))
        losses[precision] = json.loads((Path(output) / "test_results.json").read_text())["nll"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.01)
