"""Codecs whose log-mels discriminators look at, and whose flows begin late."""

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.lobes.model_output import ModelOutput, PredictedLogMel
from waveglow_vq.training.adversarial.adversarial_brain import AdversarialBrain
from waveglow_vq.training.adversarial.log_mel_brain import LogMelBrain
from waveglow_vq.training.adversarial.log_mel_discriminator import LogMelDiscriminator

import pytest
import speechbrain as sb
import torch

from tests.recipes.command_line import error_of
from tests.recipes.ljspeech_runs import (
    SMALL_VQ,
    assert_same_runs,
    logged,
    run,
    run_interrupted,
    torchrun,
)

SMALL = SMALL_VQ + ", decoder_layers: 1, fine_layers: 2"


@pytest.fixture(autouse=True)
def tiny_discriminator(monkeypatch):
    tiny = lambda self: LogMelDiscriminator(self.n_mels, scales=2, channels=4)  # noqa: E731
    monkeypatch.setattr(LogMelBrain, "make_discriminator", tiny)


@pytest.fixture
def codec(command):
    """Builds the command line of a codec; three epochs of three steps."""

    def build(*options, after=2, **more):
        return command("vq", "--adversary_after", after, *options, preset=SMALL, **more)

    return build


def test_flows_and_discriminators_begin_when_they_are_told(codec, tmp_path):
    brain = run(codec("--flows_from", 0.5))
    assert isinstance(brain, LogMelBrain)
    played, nll = (logged(tmp_path / "run", f"train {x}") for x in ("discriminator", "nll"))
    # Of the three steps of the first epoch, one is played.
    assert 0 < played[0] < played[1]
    # Steps 0 to 4 of 9 are without flows.
    assert nll[0] == 0 and nll[1] != 0 and nll[2] != 0
    # The last checkpoint is exported, whatever the L1.
    assert logged(tmp_path / "run", "epoch loaded") == [3]


def test_flows_that_never_begin_stay_as_they_were(codec, tmp_path):
    brain = run(codec("--flows_from", 1))
    fresh = run(codec("--flows_from", 1, "--number_of_epochs", 1, output=tmp_path / "other"))
    for name, value in brain.model.vocoder.state_dict().items():
        assert torch.equal(value, fresh.model.vocoder.state_dict()[name]), name
    changed = fresh.model.conditioner.mel_head.weight
    assert not torch.equal(brain.model.conditioner.mel_head.weight, changed)
    assert (tmp_path / "run" / "export" / "model.ckpt").is_file()


@pytest.mark.parametrize("options", [[], ["--adversary", False]])
def test_interrupted_and_resumed_it_is_the_same_run(codec, monkeypatch, tmp_path, options):
    options = ["--ckpt_interval_minutes", 0, "--ckpt_interval_steps", 1, *options]
    options += ["--flows_from", 0.5]
    run(codec(*options, output=tmp_path / "straight"))
    run_interrupted(codec(*options, output=tmp_path / "broken"), monkeypatch, step=5)
    assert_same_runs(tmp_path / "straight", tmp_path / "broken")


@pytest.mark.parametrize("weight", [0, 1])
def test_each_side_of_the_game_has_its_own_gradient(codec, weight):
    weights = ["--adversarial_weight", weight, "--feature_weight", weight]
    brain = run(codec("--number_of_epochs", 1, *weights))
    # It was part of the loss.
    assert brain.optimizers_dict["discriminator"].state
    predicted = torch.randn(2, 80, 32, requires_grad=True)
    loss, played = brain.play(predicted, torch.randn(2, 80, 32))
    loss.backward()
    # The weights are the log-mel's alone.
    assert bool(predicted.grad is not None and predicted.grad.any()) == bool(weight)
    assert all(p.grad.any() for p in brain.discriminator.parameters() if p.ndim > 1)
    assert played["discriminator"].detach() > 0


def test_padding_looks_the_same(codec, monkeypatch):
    brain, seen = run(codec("--number_of_epochs", 1)), []
    predicted = PredictedLogMel(torch.zeros(2, 80, 8), torch.ones(2, 80, 8), torch.tensor([1, 0.5]))
    output = ModelOutput(torch.zeros(()), {}, {}, predicted)
    monkeypatch.setattr(AdversarialBrain, "compute_forward", lambda self, batch, stage: output)
    brain.play = lambda drawn, recorded: seen.extend([drawn, recorded]) or (torch.ones(()), {})
    assert brain.compute_forward(None, sb.Stage.TRAIN).loss == 1
    same = (seen[0] == seen[1]).all(1)
    assert same.tolist() == [[False] * 8, [False] * 4 + [True] * 4]


@pytest.mark.slow
def test_two_processes_are_as_one(codec, tmp_path):
    options = ["--flows_from", 0.5, "--number_of_epochs", 2]
    for processes in (1, 2):
        share = ["--batch_size", 4 // processes]
        torchrun(codec(*options, *share, after=0, output=tmp_path / str(processes)), processes)
    for term in ("discriminator", "adversarial", "features", "nll", "mel_l1"):
        one, two = (logged(tmp_path / name, f"train {term}") for name in ("1", "2"))
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4), term


def test_what_is_wrong_is_said_in_a_sentence(codec, capsys):
    assert "flows_from: 1.5" in error_of(capsys, run, codec("--flows_from", 1.5))
