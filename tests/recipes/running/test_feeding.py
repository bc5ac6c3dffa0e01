"""Log-mels that the training process computes, as on a GPU, forced on the CPU."""

import pytest
import torch
import train

from tests.recipes.ljspeech_runs import (
    SMALL,
    assert_same_runs,
    final_state,
    run,
    run_interrupted,
)


def compute_log_mels_in_training(monkeypatch):
    init = train.LJSpeechBrain.__init__

    def changed(self, *arguments):
        init(self, *arguments)
        self.makes_log_mels = True

    monkeypatch.setattr(train.LJSpeechBrain, "__init__", changed)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_same_training_wherever_log_mels_are_computed(
    command, tmp_path, monkeypatch, num_workers
):
    options = ["--segments_per_epoch", 16, "--number_of_epochs", 2, "--num_workers", num_workers]
    run(command("mel", *options, preset=SMALL, output=tmp_path / "loader"))
    compute_log_mels_in_training(monkeypatch)
    run(command("mel", *options, preset=SMALL, output=tmp_path / "training"))
    states = [final_state(tmp_path / name) for name in ("loader", "training")]
    for name, value in states[0].items():
        if torch.is_tensor(value) and value.is_floating_point():
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)


def test_resumed_within_an_epoch_as_if_nothing_had_happened(command, tmp_path, monkeypatch):
    compute_log_mels_in_training(monkeypatch)
    options = ["--segments_per_epoch", 20, "--number_of_epochs", 2, "--num_workers", 1]
    options += ["--ckpt_interval_minutes", 0, "--ckpt_interval_steps", 1]
    run(command("mel", *options, preset=SMALL, output=tmp_path / "whole"))
    resumed = command("mel", *options, preset=SMALL, output=tmp_path / "resumed")
    run_interrupted(resumed, monkeypatch, 3)
    assert_same_runs(tmp_path / "whole", tmp_path / "resumed")
