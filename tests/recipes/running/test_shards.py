"""Training from tar shards: one key more, and no corpus."""

import json
import shutil

import waveglow_vq  # noqa: F401  (before speechbrain)

import pytest

from tests.recipes.ljspeech_runs import (
    SMALL,
    SMALL_VQ,
    assert_same_runs,
    logged,
    note_steps,
    run,
    run_interrupted,
    torchrun,
)


@pytest.fixture(scope="module")
def shards(demo_corpus, tmp_path_factory):
    """Shards of the generated corpus, three clips in each."""
    from ljspeech_prepare import prepare_ljspeech

    folder = tmp_path_factory.mktemp("shards")
    manifests = tmp_path_factory.mktemp("manifests")
    options = {"split_ratio": (60, 20, 20), "shards_folder": folder, "utterances_per_shard": 3}
    prepare_ljspeech(demo_corpus, manifests, **options)
    return folder


def without_corpus(shards):
    return ["--shards_folder", shards, "--data_folder", "null", "--manifest_folder", "/nowhere"]


def test_the_recipe_writes_shards_and_trains_from_them(command, tmp_path):
    arguments = command("mel", "--shards_folder", tmp_path / "shards", "--number_of_epochs", 1)
    brain = run(arguments)
    assert brain.hparams.schedule.steps >= 3
    for file in ("shards.json", "train-000000.tar", "test.json"):
        assert (tmp_path / "shards" / file).is_file()
    assert (tmp_path / "run" / "export" / "model.ckpt").is_file()


def test_every_clip_is_read_in_every_epoch(command, shards, monkeypatch):
    seen = []
    note_steps(monkeypatch, lambda brain, batch: seen.extend(batch.id))
    run(command("mel", *without_corpus(shards), "--number_of_epochs", 1))
    assert set(seen) == set(json.loads((shards / "train.json").read_text()))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_from_shards_resumes_inside_of_an_epoch(
    command, shards, monkeypatch, tmp_path, num_workers
):
    options = [*without_corpus(shards), "--num_workers", num_workers, "--segments_per_epoch", 20]
    options += ["--ckpt_interval_steps", 1, "--number_of_epochs", 2]
    run(command("vq", *options, preset=SMALL_VQ, output=tmp_path / "straight"))
    broken = command("vq", *options, preset=SMALL_VQ, output=tmp_path / "broken")
    run_interrupted(broken, monkeypatch, step=8)
    assert_same_runs(tmp_path / "straight", tmp_path / "broken")


@pytest.mark.slow
def test_processes_share_the_shards(command, shards, tmp_path):
    options = [*without_corpus(shards), "--number_of_epochs", 2, "--segments_per_epoch", 40]
    torchrun(command("vq", *options, preset=SMALL_VQ), 2)
    assert logged(tmp_path / "run", "steps")[0] >= 5
    assert (tmp_path / "run" / "export" / "model.ckpt").is_file()


def test_what_is_wrong_with_shards_is_one_sentence(command, shards, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    shard = copy / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    for options, named in [
        (without_corpus(copy), str(shard)),
        (without_corpus(tmp_path / "none"), "--data_folder"),
    ]:
        with pytest.raises(SystemExit):
            run(command("mel", *options, preset=SMALL))
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and named in error
