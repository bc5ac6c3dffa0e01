"""The second stage of the mel vocoder's recipe, after a first that takes a second or two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.training.samples.samples_brain import SamplesBrain

import pytest
import torch

from tests.recipes.command_line import error_of
from tests.recipes.ljspeech_runs import (
    SMALL,
    assert_same_runs,
    final_state,
    logged,
    quick_command,
    run,
    run_interrupted,
)
from tests.training.samples.tiny_discriminator import TinyDiscriminator

SCRIPT = Path(__file__).with_name("with_tiny_discriminator.py")
TERMS = ("nll", "sample_mel", "sample_stft", "adversarial", "features", "discriminator")


@pytest.fixture(autouse=True)
def tiny_discriminator(monkeypatch):
    monkeypatch.setattr(SamplesBrain, "make_discriminator", lambda self: TinyDiscriminator())


@pytest.fixture(scope="module")
def first(demo_corpus, manifests, tmp_path_factory):
    """The folder of a finished run of the first stage."""
    folder = tmp_path_factory.mktemp("first") / "run"
    run(quick_command(demo_corpus, manifests, folder, "mel"))
    return folder


@pytest.fixture
def second(command, first):
    """Builds a command line of the second stage."""

    def build(*options, start=first, **more):
        stage = ["--stage", "samples", "--init_from", start, "--adversary_after", 2]
        return command("mel", *stage, *options, **more)

    return build


def test_it_begins_with_the_weights_and_reports_all_terms(second, first, tmp_path):
    brain = run(second("--learning_rate", 1e-9))
    export = torch.load(first / "export" / "model.ckpt", weights_only=True)
    for name, value in brain.evaluated.state_dict().items():
        assert torch.allclose(value, export[name], atol=1e-6), name
    run_folder = tmp_path / "run"
    for term in TERMS:
        assert len(logged(run_folder, f"train {term}")) == 3, term
    assert len(logged(run_folder, "valid sample_mel")) == 3
    # Three steps make an epoch.
    assert logged(run_folder, "train discriminator")[1] > 0
    results = json.loads((run_folder / "test_results.json").read_text("utf-8"))
    before = json.loads((first / "test_results.json").read_text("utf-8"))
    assert results["nll_at_start"] == pytest.approx(before["nll"], abs=1e-5)
    assert results["nll"] == pytest.approx(before["nll"], abs=1e-4)
    assert (run_folder / "export" / "model.ckpt").is_file()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--precision", "bf16", "--batch_size", 2, "--grad_accumulation_factor", 2],
        ["--adversary", False, "--use_averaging", False],
    ],
)
def test_interrupted_and_resumed_it_is_the_same_run(second, monkeypatch, tmp_path, options):
    options = ["--ckpt_interval_minutes", 0, "--ckpt_interval_steps", 1, *options]
    run(second(*options, output=tmp_path / "straight"))
    broken = second(*options, output=tmp_path / "broken")
    run_interrupted(broken, monkeypatch, step=5)
    assert_same_runs(tmp_path / "straight", tmp_path / "broken")
    if "--adversary" not in options:
        kept = [max((tmp_path / name / "save").glob("CKPT*")) for name in ("straight", "broken")]
        for file in ("discriminator", "discriminator_optimizer"):
            ours, theirs = (torch.load(f / f"{file}.ckpt", weights_only=True) for f in kept)
            assert repr(ours) == repr(theirs)


def test_a_resumed_run_needs_its_start_no_more(second, tmp_path):
    run(second("--number_of_epochs", 1))
    trained = final_state(tmp_path / "run")
    run(second("--number_of_epochs", 2, start=tmp_path / "gone"))
    assert final_state(tmp_path / "run")["schedule.steps"] == 2 * trained["schedule.steps"]


def test_what_does_not_fit_is_said_in_a_sentence(second, first, command, capsys, tmp_path):
    wider = SMALL.replace("conditioner_channels: 16", "conditioner_channels: 24")
    error = error_of(capsys, run, second(preset=wider))
    assert "holds another model: its " in error and "[16, 80, 3], and here it is [24, 80" in error
    error = error_of(capsys, run, second("--preset", f"{{{SMALL.replace('16}', '32}')}}}"))
    assert "its order is 16, and here it is 32" in error
    assert "does not exist" in error_of(capsys, run, second(start=tmp_path / "none"))
    alone = command("mel", "--stage", "samples")
    assert "give --init_from RUN" in error_of(capsys, run, alone)
    assert "stage: 'both'" in error_of(capsys, run, command("mel", "--stage", "both"))
    assert not (tmp_path / "run").exists()
    error = error_of(capsys, run, second(output=first))
    assert "holds a run of the stage likelihood; give another --output_folder" in error
    error = error_of(capsys, run, second("--segment_frames", 4))
    assert "the stage of samples takes at least 2048" in error


def test_a_gradient_that_is_not_finite_leaves_out_both_steps(second, monkeypatch, tmp_path):
    losses = SamplesBrain.compute_objectives

    def poisoned(self, predictions, batch, stage):
        loss = losses(self, predictions, batch, stage)
        if self.modules.training and self.hparams.schedule.steps == 4 and not self.seen:
            self.seen = True
            for parameter in self.discriminator.parameters():
                loss = loss + parameter.sum() * float("inf")
        return loss

    monkeypatch.setattr(SamplesBrain, "seen", False, raising=False)
    monkeypatch.setattr(SamplesBrain, "compute_objectives", poisoned)
    brain = run(second())
    assert brain.seen and brain.hparams.schedule.steps == 8
    assert sum(logged(tmp_path / "run", "skipped_steps")) == 1
    assert all(p.isfinite().all() for p in brain.discriminator.parameters())


def test_debug(second, capsys):
    run(second("--debug"))
    assert "--debug: the whole run works" in capsys.readouterr().out


def test_two_processes_train_what_one_trains(second, tmp_path):
    """With sigma 0, since each process draws noise of its own, and without iterations, which raise
    the silence of that, and with it the rounding."""
    options = ["--sample_sigma", 0, "--refine_in_training", 0]
    options += ["--segments_per_epoch", 40, "--number_of_epochs", 1]
    for processes in (1, 2):
        share = ["--batch_size", 8 // processes]
        arguments = second(*options, *share, output=tmp_path / str(processes))
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            + ["--nproc_per_node", str(processes), str(SCRIPT)]
            + [*arguments, "--distributed_backend", "gloo"],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=600,
        )
    ours, theirs = (final_state(tmp_path / number) for number in ("2", "1"))
    for name, value in theirs.items():
        if torch.is_tensor(value) and value.is_floating_point():
            error = (ours[name] - value).norm() / value.norm().clamp_min(1e-12)
            assert error < 1e-4, name
    for term in TERMS:
        pair = [logged(tmp_path / number, f"train {term}") for number in ("2", "1")]
        assert pair[0] == pytest.approx(pair[1], rel=2e-3), term


def test_the_adversary_may_join_and_leave_where_a_run_is_resumed(second, tmp_path):
    for epochs, adversary in ((1, False), (2, True), (3, False)):
        run(second("--number_of_epochs", epochs, "--adversary", adversary))
    assert len(logged(tmp_path / "run", "train nll")) == 3
    (loss,) = logged(tmp_path / "run", "train discriminator")
    assert loss > 0
