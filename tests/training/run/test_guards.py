import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.errors import UserError
from waveglow_vq.training.run import guards
from waveglow_vq.training.run.guards import check_configuration, check_launch, write_errors
from waveglow_vq.training.run.hyperparameters import choose_batch, load_hparams

import pytest
import torch
from speechbrain.utils.run_opts import RunOptions

RECIPES = sorted((Path(__file__).resolve().parents[3] / "recipes").glob("*/hparams/*.yaml"))
OVERRIDES = "output_folder: {}\nsize: tiny\ndata_folder: somewhere"
Usage = namedtuple("Usage", "total used free")


def run_options(**given):
    return RunOptions.from_dictionary({"device": "cpu", **given})


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("file", RECIPES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_the_recipes_are_right_as_they_are(file, tmp_path):
    overrides = OVERRIDES.format(tmp_path)
    if file.stem == "mel_universal":
        overrides = overrides.replace("data_folder: somewhere", "data_folders: [somewhere]")
    overrides = choose_batch(str(file), overrides, run_options())
    hparams = load_hparams(str(file), overrides)
    check_configuration(hparams, run_options(), str(file), overrides)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 0, "a whole number of at least 1"),
        ("batch_size", 2.0, "whole number"),
        ("batch_size", "8", "'8'; it must be a whole number"),
        ("batch_size", True, "whole number"),
        ("batch_size", None, "whole number of at least 1$"),
        ("valid_batch_size", -1, "at least 1"),
        ("number_of_epochs", 0, "at least 1"),
        ("segments_per_epoch", 0.5, "whole"),
        ("num_workers", -1, "at least 0"),
        ("learning_rate", "fast", "a number above 0"),
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", float("nan"), "above 0"),
        ("learning_rate", float("inf"), "above 0"),
        ("warmup_steps", -1, "at least 0"),
        ("halve_from", 1.5, "at most 1$"),
        ("max_grad_norm", -1, "1e9 clips nothing"),
        ("averaging_decay", 1, "and below 1"),
        ("average_checkpoints", -1, "at least 0"),
        ("samples_per_epoch", -1, "at least 0"),
        ("test_samples", 1.5, "whole"),
        ("sampling_sigma", 0, "above 0"),
        ("refine", -1, "a whole number of at least 0"),
        ("refine", 2.5, "a whole number"),
        ("max_minutes", 0, "above 0, or null"),
        ("max_utterances", 0, "at least 1, or null"),
        ("ckpt_interval_minutes", -3, "at least 0"),
        ("ckpt_interval_steps", 0.5, "whole"),
        ("initial_loss_scale", 0, "above 0"),
        ("max_skipped_clips", -1, "at least 0"),
        ("seed", -1, "at least 0"),
        ("seed", 2**32, "at most 4294967295"),
        ("segment_frames", 0, "at least 1"),
        ("context_frames", -1, "at least 0"),
        ("grad_accumulation_factor", 0, "at least 1"),
        ("use_averaging", "yes", "True or False"),
        ("memory_efficient", 1, "True or False"),
        ("max_batch_codes", 0, "at least 1"),
        ("max_codes", 0, "at least 1, or null"),
        ("vocabulary_size", 1, "at least 2"),
        ("test_utterances", None, "at least 0"),
        ("tokenizer", "words", "char, bpe"),
        ("precision", "float16", "fp32, fp16, bf16"),
        ("eval_precision", "half", "fp32, fp16, bf16"),
    ],
)
def test_names_the_key_and_its_range(key, value, message):
    with pytest.raises(UserError, match=f"^{key}: .*{message}"):
        check_configuration({key: value}, run_options())


def test_a_recognizer_is_there_before_training_begins():
    options = {"recognizer": "ears", "use_judges": False}
    check_configuration(options, run_options())
    with pytest.raises(UserError, match="unknown recognizer ears; choose pocketsphinx, whisper"):
        check_configuration(options | {"use_judges": True}, run_options())


def test_takes_what_is_allowed():
    check_configuration(
        {
            "max_minutes": None,
            "max_utterances": None,
            "max_minutes ": "no key of a recipe",
            "learning_rate": 1,
            "averaging_decay": 0,
            "ckpt_interval_minutes": 0.5,
            "warmup_steps": 0,
            "min_loudness_dbfs": -60,
            "segments_per_epoch": 10,
            "batch_size": 4,
        },
        run_options(optimizer_step_limit="100", grad_accumulation_factor=3),
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_grad_norm": -1.0}, "max_grad_norm: -1.0"),
        ({"optimizer_step_limit": "many"}, "optimizer_step_limit: 'many'"),
        ({"precision": "fp16"}, "--precision bf16"),
        ({"eval_precision": "fp16"}, "--precision bf16"),
        ({"auto_mix_prec": True}, "--precision bf16"),
        ({"device": "toaster"}, "'toaster' is not a device"),
    ],
)
def test_what_the_command_line_says_counts(given, message):
    with pytest.raises(UserError, match=message):
        check_configuration({"max_grad_norm": 5.0, "precision": "fp32"}, run_options(**given))


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device: cuda: torch finds no CUDA"):
        check_configuration({}, run_options(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_configuration({}, run_options(device="cuda:1", precision="fp16"))
    with pytest.raises(UserError, match="--device: cuda:2: there are 2 GPUs"):
        check_configuration({}, run_options(device="cuda:2"))


def test_an_epoch_holds_a_step(monkeypatch):
    hparams = {"segments_per_epoch": 60, "batch_size": 8}
    check_configuration(hparams, run_options(grad_accumulation_factor=8))
    with pytest.raises(UserError, match="segments_per_epoch: 60 .*grad_accumulation_factor 9"):
        check_configuration(hparams, run_options(grad_accumulation_factor=9))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="8 x 2 processes"):
        check_configuration(hparams, run_options(grad_accumulation_factor=8))


@pytest.mark.parametrize(
    ("package", "hparams"),
    [
        ("matplotlib", {"model": torch.nn.Linear(1, 1)}),
        ("tensorboard", {"use_tensorboard": True}),
        ("webdataset", {"shards_folder": "shards"}),
    ],
)
def test_packages_that_are_not_installed(monkeypatch, package, hparams):
    find = guards.importlib.util.find_spec
    monkeypatch.setattr(
        guards.importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    check_configuration({}, run_options())
    with pytest.raises(UserError, match=rf"needs {package}.*waveglow-vq\[train\]"):
        check_configuration(hparams, run_options())


def test_iterations_need_a_log_mel():
    model = SimpleNamespace(conditioner=SimpleNamespace(gives_log_mel=False))
    check_configuration({"model": model, "refine": 0}, run_options())
    with pytest.raises(UserError, match="refine: 3 iterations, but the model predicts no log-mel"):
        check_configuration({"model": model, "refine": 3}, run_options())


def test_a_model_that_could_not_be_exported(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("model: 1\nfeature: {sample_rate: 22050}\n")
    with pytest.raises(UserError, match="no 'features' to export"):
        check_configuration({"model": torch.nn.Linear(1, 1)}, run_options(), str(file))


def test_folders_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="output_folder: .*file is a file"):
        check_configuration({"output_folder": str(tmp_path / "file" / "run")}, run_options())
    check_configuration({"output_folder": str(tmp_path / "a" / "b")}, run_options())
    assert not (tmp_path / "a").exists()
    # A superuser may write everywhere.
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(UserError, match="save_folder: .* cannot be written to"):
        check_configuration({"save_folder": str(tmp_path / "save")}, run_options())


def test_room_for_the_checkpoints(tmp_path, monkeypatch):
    model = torch.nn.Linear(1024, 1024, bias=False)  # 4 MiB
    hparams = {"model": model, "save_folder": str(tmp_path), "average_checkpoints": 4}
    # Five checkpoints of weights and two moments.
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 60 * 2**20))
    check_configuration(hparams, run_options())
    with pytest.raises(UserError, match="60 MiB free.* need 80 MiB"):
        check_configuration({**hparams, "use_averaging": True}, run_options())
    # A run that goes on has most of them already.
    (tmp_path / "CKPT+1").mkdir()
    (tmp_path / "CKPT+1" / "model.ckpt").write_bytes(bytes(20 * 2**20))
    check_configuration({**hparams, "use_averaging": True}, run_options())


# ---- torchrun


@pytest.fixture
def torchrun(monkeypatch):
    def start(local_rank, world, gpus):
        monkeypatch.setenv("RANK", str(local_rank))
        monkeypatch.setenv("LOCAL_RANK", str(local_rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(world))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)

    return start


def test_without_torchrun(monkeypatch):
    check_launch(RunOptions())
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="WORLD_SIZE is 4"):
        check_launch(RunOptions())


@pytest.mark.parametrize(
    ("local_rank", "gpus", "given", "message"),
    [
        (0, 0, {}, "--device cpu --distributed_backend gloo"),
        (3, 2, {}, "--nproc_per_node: 4 .* 2 GPUs; give 2 or less"),
        (1, 4, {"device": "cuda"}, "all processes would share it"),
        (1, 4, {"device": "cuda:0"}, "all processes would share it"),
        (0, 4, {"device": "cpu"}, "add --distributed_backend gloo"),
        (0, 4, {"distributed_backend": "mpi"}, "nccl, gloo"),
        (0, 4, {"data_parallel_backend": True}, "torchrun"),
    ],
)
def test_processes_that_cannot_work_together(torchrun, local_rank, gpus, given, message):
    torchrun(local_rank, 4, gpus)
    with pytest.raises(UserError, match=message):
        check_launch(RunOptions.from_dictionary(given))


def test_processes_that_can(torchrun):
    torchrun(3, 4, 4)
    check_launch(RunOptions())
    torchrun(3, 4, 0)
    check_launch(run_options(distributed_backend="gloo"))


# ---- writing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_one_sentence(number):
    with pytest.raises(UserError, match=f"^/runs/log.txt: {os.strerror(number)}; make room"):
        with write_errors():
            raise OSError(number, os.strerror(number), "/runs/log.txt")
    with pytest.raises(UserError, match="could not be written to the end"):
        with write_errors():
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no"), RuntimeError("a defect")])
def test_other_errors_pass_through(error):
    with pytest.raises(type(error)):
        with write_errors():
            raise error
