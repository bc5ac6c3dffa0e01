"""The VCTK recipe from the command line to the export, with models that are too small to learn
anything. What it shares with the LJSpeech recipe is tested there, in LJSpeech/test_train.py."""

import importlib.util
import json
import os
import subprocess
import sys

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.data.speakers import SPEAKERS_FILE, read_speakers
from waveglow_vq.inference import VoiceConverter
from waveglow_vq.training.multispeaker_brain import MultiSpeakerBrain

import pytest
import torch

from tests.recipes.command_line import error_of, folder_of
from tests.recipes.ljspeech_runs import assert_same_weights, weights
from tests.recipes.VCTK.vctk_runs import (
    KNOWN,
    RECIPE,
    UNSEEN,
    assert_converts,
    assert_trained,
    results,
    run,
)

NOBODY = ["--global_condition", "none", "--use_pitch", False]

# ---- a whole run


def test_from_the_corpus_to_the_export(corpus, command, tmp_path):
    """With the preparation, which the other tests do without, and every default of the YAML."""
    options = {
        "--data_folder": corpus,
        "--audio_folder": tmp_path / "audio",
        "--manifest_folder": tmp_path / "manifests",
        "--skip_prep": False,
        "--unseen_speakers": f"[{UNSEEN}]",
        "--split_ratio": "[50, 25, 25]",
    }
    brain = run(command("vq", *(word for pair in options.items() for word in pair)))
    assert isinstance(brain, MultiSpeakerBrain)
    assert_trained(brain)
    assert_converts(brain)
    # 22050 / 256 codes of 4 bits in a second.
    assert results(brain)["bits_per_second"] == pytest.approx(344.53125)
    assert {"nll", "mel_l1", "log_mel_l1", "real_time_factor"} <= results(brain).keys()
    assert json.loads((tmp_path / "manifests" / "unseen.json").read_text())
    # The model knows the speakers' pitch, and the export with it.
    speakers = read_speakers(tmp_path / "manifests")
    assert speakers.labels == KNOWN
    low, high = speakers.f0_statistics[:, 0].exp().tolist()
    assert (low, high) == (pytest.approx(110, rel=0.05), pytest.approx(220, rel=0.05))
    state = torch.load(folder_of(brain) / "export" / "model.ckpt", weights_only=True)
    mean = speakers.f0_statistics.mean(0)
    expected = torch.cat([speakers.f0_statistics, mean.repeat(4, 1)])
    torch.testing.assert_close(state["speakers.log_f0"], expected)
    assert (folder_of(brain) / "samples").is_dir()
    assert not (folder_of(brain) / "diagnostics").exists()


# ---- what an encoder of speakers leaves


def exported(brain):
    return torch.load(folder_of(brain) / "export" / "model.ckpt", weights_only=True)


def test_known_speakers_get_their_vectors_from_the_whole_encoder(command):
    """Also where the run was over before, and nothing but the test is left to do: dropout of
    speakers belongs to training."""
    options = ["--speaker_source", "encoder", "--speaker_dropout", 0.9]
    first = exported(run(command("vq", *options)))
    centroids, unknown = first["speakers.centroids"], first["speakers.unknown"]
    assert centroids[:2].any(1).all() and not centroids[2:].any()
    assert not torch.isclose(centroids[:2], unknown).all(1).any()
    again = exported(run(command("vq", *options, "--test_only")))
    torch.testing.assert_close(again["speakers.centroids"], centroids)


# ---- quantizing later


@pytest.mark.slow
def test_the_start_step_of_the_codes_is_in_the_checkpoint(command, monkeypatch):
    """A run that goes on does not begin to pass the quantizer by again."""
    steps, batch_end = [], MultiSpeakerBrain.on_fit_batch_end

    def noting(self, *arguments):
        batch_end(self, *arguments)
        steps.append(int(self.model.conditioner.steps))

    monkeypatch.setattr(MultiSpeakerBrain, "on_fit_batch_end", noting)
    run(command("vq", "--quantize_after", 5))
    run(command("vq", "--quantize_after", 5, "--number_of_epochs", 2))
    assert steps == [1, 2, 3, 4, 5, 6]


# ---- resuming


class Interrupted(Exception):
    pass


def interrupt_at(monkeypatch, step):
    """Lets a run die after so many optimizer steps."""
    batch_end = MultiSpeakerBrain.on_fit_batch_end

    def dying(self, *arguments):
        batch_end(self, *arguments)
        if self.hparams.schedule.steps == step:
            raise Interrupted

    monkeypatch.setattr(MultiSpeakerBrain, "on_fit_batch_end", dying)


def test_a_resumed_run_equals_an_uninterrupted_one(command, monkeypatch, tmp_path):
    options = ["--number_of_epochs", 2, "--quantize_after", 2, "--adversary_weight", 0.1]
    straight = run(command("vq", *options, output=tmp_path / "straight"))
    broken = command("vq", *options, output=tmp_path / "broken")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_at(patch, step=5)  # of 6; 3 make an epoch
        run(broken)
    resumed = run(broken)
    assert resumed.hparams.schedule.steps == straight.hparams.schedule.steps == 6
    assert_same_weights(weights(straight), weights(resumed))
    assert_same_weights(straight.averaged.state_dict(), resumed.averaged.state_dict())


# ---- diagnostics


def has_diagnostics():
    return importlib.util.find_spec("waveglow_vq.evaluation.conversion.diagnosis") is not None


@pytest.mark.slow
@pytest.mark.skipif(
    not has_diagnostics(), reason="there is no waveglow_vq.evaluation.conversion.diagnosis"
)
@pytest.mark.parametrize("yaml", ["vq", "mel"])
def test_diagnostics_follow_the_test(command, yaml):
    options = ["--diagnose", True, "--diagnose_min_clips", 1, "--use_judges", False]
    brain = run(command(yaml, *options))
    assert any((folder_of(brain) / "diagnostics").iterdir())
    assert_converts(brain)


# ---- several processes


@pytest.mark.slow
@pytest.mark.parametrize("source", ["table", "encoder"])
def test_two_processes_train(command, tmp_path, source):
    """Every parameter takes part in every step of each of them."""
    options = ["--adversary_weight", 0.1, "--condition_dropout", 0.5, "--quantize_after", 2]
    options += ["--speaker_source", source, "--segments_per_epoch", 12]
    arguments = command("vq", "--distributed_backend", "gloo", *options)
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        + [str(RECIPE / "train.py"), *arguments],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    lines = (tmp_path / "run" / "train_log.txt").read_text("utf-8").splitlines()
    # 12 segments are 6 batches of 2 alone, and 3 for each of two.
    assert len(lines) == 2 and "steps: 3," in lines[0]
    converter = VoiceConverter.from_hparams(tmp_path / "run" / "export")
    assert converter.speakers == KNOWN


# ---- mistakes


@pytest.mark.parametrize(
    ("yaml", "options", "named"),
    [
        ("vq", ["--max_speakers", 1], "max_speakers: 1; the corpus has 2 speakers"),
        ("vq", ["--global_condition", "none"], "use_pitch to False"),
        ("vq", ["--adversary_weight", 0.1, *NOBODY], "adversary_weight"),
        ("vq", ["--time_jitter", 2], "jitter: 2"),
        ("mel", ["--codebook_size", 16], "codebook_size is not an option"),
        ("vq", ["--max_speaker", 9], "did you mean --max_speakers?"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(capsys, command, yaml, options, named):
    assert named in error_of(capsys, run, command(yaml, *options))


def test_without_a_corpus_nothing_is_written(capsys, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(RECIPE / "hparams" / "vq.yaml"), "--size", "tiny"]
    assert "--data_folder" in error_of(capsys, run, arguments)
    assert "/nowhere" in error_of(capsys, run, [*arguments, "--data_folder", "/nowhere"])
    (tmp_path / "music").mkdir()
    error = error_of(capsys, run, [*arguments, "--data_folder", "music"])
    assert "music" in error and "wav48" in error
    assert [path.name for path in tmp_path.rglob("*")] == ["music"]


def test_an_unseen_speaker_that_is_not_there_is_named(capsys, command, corpus, tmp_path):
    options = ["--data_folder", corpus, "--skip_prep", False, "--unseen_speakers", "[p999]"]
    arguments = command("vq", *options, "--manifest_folder", tmp_path / "manifests")
    assert "p999" in error_of(capsys, run, arguments)


def test_manifests_of_another_recipe_are_told(capsys, command, prepared, tmp_path):
    """LJSpeech's have no list of speakers."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for file in (prepared / "manifests").iterdir():
        (manifests / file.name).write_bytes(file.read_bytes())
    (manifests / SPEAKERS_FILE).unlink()
    error = error_of(capsys, run, command("vq", "--manifest_folder", manifests))
    assert str(manifests) in error and SPEAKERS_FILE in error
