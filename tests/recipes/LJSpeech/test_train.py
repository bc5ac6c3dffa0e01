"""The LJSpeech recipe from the command line to the export, with models that are too small to
learn anything."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.training.model_brain import VALID_LOSS

import pytest
import torch
import train

from tests.recipes.command_line import error_of, log_lines
from tests.recipes.ljspeech_runs import (
    RECIPE,
    SMALL,
    SMALL_CODES,
    SMALL_VQ,
    assert_same_weights,
    note_steps,
    run,
    weights,
)

# ---- every switch trains


@pytest.mark.parametrize(
    ("yaml", "options", "preset"),
    [
        ("mel", ["--prior", "white"], "use_film: True, use_weight_norm: False"),
        ("mel", ["--condition_geometry", "group", "--precision", "bf16"], ""),
        ("mel", ["--condition_geometry", "sample"], "sigma: 0.7"),
        ("vq", ["--precision", "bf16"], "estimator: rotation"),
        ("vq", ["--use_averaging", "False"], "codebook_update: ema, estimator: rotation"),
        ("vq", ["--prior", "white"], "temperature: fixed, use_film: True"),
        ("vq_wav", [], ""),
        ("vq_wav", ["--prior", "envelope"], "codebook_update: ema, initialization: data"),
    ],
)
def test_switches_train(command, yaml, options, preset):
    small = SMALL if yaml == "mel" else SMALL_VQ
    brain = run(command(yaml, "--debug", *options, preset=", ".join(filter(None, [small, preset]))))
    for name, parameter in brain.model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        # Where no gradient arrives, DistributedDataParallel would stop.
        assert brain.optimizer.state.get(parameter), f"{name} is never trained"
    results = json.loads((Path(brain.hparams.output_folder) / "test_results.json").read_text())
    assert all(abs(value) < float("inf") for value in results.values())
    assert (Path(brain.hparams.output_folder) / "export" / "hyperparams.yaml").is_file()


EVERYWHERE = [
    ([], ""),
    (["--condition_geometry", "group"], ""),
    (["--condition_geometry", "sample"], ""),
    (["--precision", "bf16"], ""),
    ([], "use_film: True"),
    ([], "use_weight_norm: False"),
]
WITH_CODES = [
    ([], "codebook_update: ema"),
    ([], "estimator: rotation"),
]
FULL_SIZE = {
    "mel": [
        *EVERYWHERE,
        (["--prior", "white"], ""),
        (["--grad_accumulation_factor", "2"], ""),
        (["--use_tensorboard", "True", "--num_workers", "1"], ""),
    ],
    "vq": [
        *EVERYWHERE,
        *WITH_CODES,
        (["--prior", "white"], ""),
        ([], "temperature: fixed"),
        ([], "envelope_gradient: False"),
    ],
    "vq_wav": [
        *EVERYWHERE,
        *WITH_CODES,
        (["--prior", "envelope"], ""),
        ([], "temperature: relative"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("yaml", "options", "preset"),
    [(yaml, *switches) for yaml, every in FULL_SIZE.items() for switches in every],
)
def test_every_switch_trains_at_full_tiny_size(command, yaml, options, preset):
    brain = run(command(yaml, "--debug", "--number_of_epochs", 1, *options, preset=preset))
    assert all(torch.isfinite(value).all() for value in brain.model.parameters())


def test_switches_build_what_they_say(command):
    brain = run(command("vq", "--debug", preset=SMALL_VQ + ", codebook_update: ema"))
    assert isinstance(brain.model.quantizer, EMAQuantizer)
    assert len(brain.model.vocoder.steps) == 2
    assert brain.model.vocoder.envelope.order == 16


# ---- what a run leaves


def test_a_run_leaves_what_the_readme_promises(command, capsys, monkeypatch):
    monkeypatch.setattr("waveglow_vq.training.model_brain.SECONDS_BETWEEN_LINES", 0)
    options = ["--samples_per_epoch", 1, "--test_samples", 1, "--use_tensorboard", True]
    preset = SMALL_VQ + ", code_stride: 2"
    brain = run(command("vq", *options, "--number_of_epochs", 1, preset=preset))
    assert isinstance(brain.model.quantizer, SoftEMQuantizer)
    folder = Path(brain.hparams.output_folder)
    for file in ("hyperparams.yaml", "train_log.txt", "test_results.json", "export/model.ckpt"):
        assert (folder / file).is_file(), file
    sample = next((folder / "samples").glob("*.png")).stem
    assert (folder / "samples" / f"{sample}.wav").is_file()
    assert len(list((folder / "samples" / "epoch_0001").iterdir())) == 3
    assert list((folder / "tensorboard").iterdir())
    epoch, test = log_lines(brain)
    for name in ("nll", "mel_l1", "codebook", "commitment", "loss", "used_codes", "perplexity"):
        assert f"train {name}: " in epoch and f"valid {name}: " in epoch
    for name in ("learning_rate", "train segments_per_second", "train bits_per_second"):
        assert f"{name}: " in epoch
    results = json.loads((folder / "test_results.json").read_text())
    assert {"nll", "log_mel_l1", "mel_cepstral_distortion", "real_time_factor"} <= results.keys()
    # The clips of test.json, which are all that were evaluated.
    clips = json.loads((Path(brain.hparams.manifest_folder) / "test.json").read_text()).values()
    seconds = sum(clip["duration"] for clip in clips)
    assert (results["clips"], results["seconds"]) == (len(clips), pytest.approx(seconds, abs=1e-3))
    # 22050 / 256 / 2 codes of 4 bits in a second.
    assert results["bits_per_second"] == pytest.approx(172.265625)
    # What is said: of small splits before the first step, how far it is, and what there is then.
    printed = capsys.readouterr().out
    small, *lines = re.findall(r"test: 2 clips, 9.0 s in all|step \d of 3, loss -?[\d.]+", printed)
    steps = [line[:6] for line in lines]
    assert small.startswith("test") and steps == ["step 1", "step 2", "step 3"]
    assert not any(line.endswith("loss 0") for line in lines)
    names = [line.split(":")[0] for line in printed.splitlines()[-4:]]
    assert names == ["samples", "results", "export", "next"]


def test_the_averaged_weights_are_evaluated_and_exported(command):
    brain = run(command("mel", "--averaging_decay", 0.9))
    exported = torch.load(
        Path(brain.hparams.output_folder) / "export" / "model.ckpt", weights_only=True
    )
    assert_same_weights(exported, brain.averaged.module.state_dict())
    own = brain.model.state_dict()
    assert not all(torch.equal(exported[name], own[name]) for name in own)


def test_checkpoints_can_be_averaged_afterwards(command):
    brain = run(command("mel", "--average_checkpoints", 2))
    found = brain.checkpointer.find_checkpoints(max_num_checkpoints=2)
    saved = [torch.load(one.paramfiles["model"], weights_only=True) for one in found]
    assert len(saved) == 2
    exported = torch.load(
        Path(brain.hparams.output_folder) / "export" / "model.ckpt", weights_only=True
    )
    for name, value in exported.items():
        if value.is_floating_point():
            assert torch.allclose(value, (saved[0][name] + saved[1][name]) / 2, atol=1e-6), name


def test_every_step_has_the_rate_of_the_schedule(command, monkeypatch):
    rates, utterances = [], []

    def note(brain, batch):
        rates.append(brain.optimizer.param_groups[0]["lr"])
        utterances.extend(batch.id)

    note_steps(monkeypatch, note)
    brain = run(command("mel", "--warmup_steps", 4))
    assert rates == pytest.approx([brain.hparams.schedule.rate(step) for step in range(9)])
    # More than a tenth of nine steps is no warm-up.
    assert rates[0] == pytest.approx(0.002)
    # And every epoch has its own segments.
    assert utterances[:12] != utterances[12:24] != utterances[24:]


def test_training_lowers_the_loss(command):
    options = ["--number_of_epochs", 2, "--segments_per_epoch", 60, "--prior", "white"]
    brain = run(command("mel", *options, "--use_averaging", False))
    losses = [float(line.split("valid loss: ")[1].split(",")[0]) for line in log_lines(brain)[:2]]
    assert losses[1] < losses[0] - 0.1


def test_codes_restart_during_training(command):
    preset = SMALL_CODES + ", codebook_size: 64, restart_after: 1"
    brain = run(command("vq", "--batch_size", 1, preset=preset))
    restarted = re.findall(r"restarted_codes: ([.e+\d]+)", "\n".join(log_lines(brain)))
    assert len(restarted) == 3 and max(map(float, restarted)) > 0


def test_what_a_run_saves_repeats_it(command, tmp_path):
    options = ["--number_of_epochs", 2, "--learning_rate", 0.003]
    first = run(command("vq", *options, preset=SMALL_VQ))
    folder = Path(first.hparams.output_folder)
    assert (folder / "train.py").is_file() and not (folder / "experiment.py").exists()
    saved = shutil.copy(folder / "hyperparams.yaml", tmp_path / "saved.yaml")
    shutil.rmtree(folder)
    repeated = run([str(saved), "--device", "cpu", "--noprogressbar"])
    assert repeated.hparams.learning_rate == 0.003 and Path(folder / "export").is_dir()
    assert_same_weights(weights(first), weights(repeated))


# ---- given again, and ending


def test_a_finished_run_is_only_evaluated_again_and_says_so(command, capsys):
    first = run(command("mel"))
    assert "is finished" not in capsys.readouterr().out
    again = run(command("mel"))
    sentence = "is finished (epoch 3, step 9): it is only tested and exported again; to train on, "
    assert sentence + "give a greater --number_of_epochs" in capsys.readouterr().out
    assert_same_weights(weights(first), weights(again))
    assert len(log_lines(again)) == len(log_lines(first)) == 5
    evaluated = run(command("mel", "--test_only"))
    assert_same_weights(weights(first), weights(evaluated))


def test_training_ends_in_time(command, capsys, monkeypatch):
    arguments = command("mel", "--max_minutes", 1e-6, "--number_of_epochs", 100)
    # Stopped when the time is over and the epoch is not yet validated.
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(
            train.LJSpeechBrain, "on_stage_end", after_training(train.LJSpeechBrain.on_stage_end)
        )
        run(arguments)
    printed = capsys.readouterr().out
    assert "time limit of 1e-06 min reached after 1 step" in printed
    assert "iteration limit" not in printed
    brain = run(arguments)
    assert brain.hparams.schedule.steps == 1
    epoch, test = log_lines(brain)
    # Given again, the command only evaluates again.
    assert log_lines(run(arguments)) == [epoch, test, test]
    assert "give a greater --max_minutes (it has had 1e-06)" in capsys.readouterr().out
    assert brain.optimizer.param_groups[0]["lr"] == pytest.approx(
        brain.hparams.schedule.rate(1, time_share=1.0)
    )
    assert (Path(brain.hparams.output_folder) / "export").is_dir()


def after_training(stage_end):
    """The end of a stage, after which a signal asks the run to end."""

    def ending(self, stage, *rest):
        stage_end(self, stage, *rest)
        os.kill(os.getpid(), signal.SIGTERM)

    return ending


def test_best_checkpoint_is_chosen_by_what_can_be_compared_across_epochs(command):
    brain = run(command("vq", "--number_of_epochs", 1))
    meta = brain.checkpointer.find_checkpoint(min_key=VALID_LOSS).meta
    assert type(meta[VALID_LOSS]) is float
    log = (Path(brain.hparams.output_folder) / "train_log.txt").read_text("utf-8")
    valid = {k: float(v) for k, v in re.findall(r"valid (\w+): ([-+.e\d]+)", log.splitlines()[0])}
    # Without the quantizer's own losses, which are relative to the state of the codes.
    assert meta[VALID_LOSS] == pytest.approx(valid["nll"] + 4 * valid["mel_l1"], abs=5e-3)
    assert abs(meta[VALID_LOSS] - valid["loss"]) > 1e-2


# ---- mistakes


def test_without_data_it_names_the_three_ways_on(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    error = error_of(capsys, run, [str(RECIPE / "hparams" / "vq.yaml"), "--size", "tiny"])
    for way in ("--data_folder", "--download true", "make demo"):
        assert way in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--data_folder", "/nowhere"], "/nowhere"),
        (["--size", "huge"], "tiny, small, base, nvidia256"),
        (["--learnig_rate", 1], "learning_rate"),
        (["--max_grad_norm", -1], "max_grad_norm"),
        (["--segment_frames", 5000], "--segment_frames"),
        (["--test_only"], "no checkpoint"),
        (["--optimizer_step_limit", "many"], "optimizer_step_limit"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(capsys, command, options, named):
    assert named in error_of(capsys, run, command("mel", *options))


def test_damaged_files_are_named(capsys, command, demo_corpus, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(demo_corpus, copy)
    for file in (copy / "wavs").iterdir():
        file.write_bytes(file.read_bytes()[:3000])
    arguments = command("mel", "--data_folder", copy, "--num_workers", 1)
    error = error_of(capsys, run, arguments)
    assert str(copy / "wavs") in error and "Traceback" not in error


def test_a_loss_that_stays_infinite_ends_with_advice(capsys, command, monkeypatch):
    objectives = train.LJSpeechBrain.compute_objectives
    monkeypatch.setattr(
        train.LJSpeechBrain,
        "compute_objectives",
        lambda self, *rest: objectives(self, *rest) * float("nan"),
    )
    error = error_of(capsys, run, command("mel", "--segments_per_epoch", 40))
    assert "not finite" in error and "--learning_rate" in error


# ---- clips that cannot be read


@pytest.fixture
def damaged(demo_corpus, manifests, tmp_path):
    """The corpus, of which a clip of training and one of the test were cut off after they were
    prepared; and the names of these."""
    copy = tmp_path / "damaged"
    shutil.copytree(demo_corpus, copy)
    clips = [
        min(json.loads((manifests / f"{name}.json").read_text())) for name in ("train", "test")
    ]
    for clip in clips:
        file = copy / "wavs" / f"{clip}.wav"
        file.write_bytes(file.read_bytes()[:3000])
    return copy, clips


def test_a_clip_that_cannot_be_read_is_left_out_and_reported(command, damaged):
    corpus, clips = damaged
    options = ["--data_folder", corpus, "--segments_per_epoch", 40, "--num_workers", 1]
    brain = run(command("mel", *options, "--number_of_epochs", 2))
    assert brain.hparams.schedule.steps == 20
    log = (Path(brain.hparams.output_folder) / "log.txt").read_text("utf-8")
    for clip in clips:
        assert len(re.findall(rf"a clip is skipped: .*{clip}\.wav", log)) == 1
        count = int(re.search(rf"skipped (\d+) times in this run: .*{clip}\.wav", log)[1])
        # In training, as often as it was drawn.
        assert count == 1 if clip == clips[1] else count > 2


def test_too_many_clips_that_cannot_be_read_end_the_run(capsys, command, damaged):
    corpus, clips = damaged
    options = ["--data_folder", corpus, "--segments_per_epoch", 40, "--max_skipped_clips", 0]
    error = error_of(capsys, run, command("mel", *options))
    assert clips[0] in error and "max_skipped_clips" in error


def test_a_stage_without_a_clip_that_can_be_read_ends_the_run(capsys, command, damaged, manifests):
    corpus, _ = damaged
    (clip,) = json.loads((manifests / "valid.json").read_text())
    (corpus / "wavs" / f"{clip}.wav").unlink()
    error = error_of(capsys, run, command("mel", "--data_folder", corpus))
    assert "none of the clips of valid.json can be read" in error
