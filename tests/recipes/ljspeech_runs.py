"""What the tests of the LJSpeech recipe share."""

import os
import re
import subprocess
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.training.run import experiment

import pytest
import torch
import train

from tests.recipes.command_line import command_line

RECIPE = Path(train.__file__).parent
SMALL_FLOW = "flow: {flows: 2, layers: 2, channels: 8, envelope: {order: 16}}"
SMALL = SMALL_FLOW + ", conditioner_channels: 16"
SMALL_CODES = SMALL + ", codebook_dim: 8"
SMALL_VQ = SMALL_CODES + ", codebook_size: 16"


def quick_command(corpus, manifests, output, yaml, *options, preset=SMALL):
    """A command line that takes a second or two."""
    quick = {
        "data_folder": corpus,
        "output_folder": output,
        "manifest_folder": manifests,
        "skip_prep": True,
        "size": "tiny",
        "number_of_epochs": 3,
        "segments_per_epoch": 12,
        "batch_size": 4,
        "num_workers": 0,
        "warmup_steps": 2,
        "max_valid_utterances": 1,
        "samples_per_epoch": 0,
        "test_samples": 0,
        "preset": f"{{{preset}}}",
    }
    return command_line(RECIPE, yaml, quick, options)


def run(arguments):
    return experiment.run(train.LJSpeechBrain, train.prepare, arguments)


def torchrun(arguments, processes, backend="gloo"):
    """Runs the recipe in so many processes of one thread; with nccl, on as many GPUs."""
    if backend == "nccl":
        at = arguments.index("--device")
        arguments = arguments[:at] + arguments[at + 2 :]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        + ["--nproc_per_node", str(processes)]
        + [str(RECIPE / "train.py"), *arguments, "--distributed_backend", backend],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )


def logged(folder, name):
    log = (folder / "train_log.txt").read_text("utf-8")
    return [float(value) for value in re.findall(rf"\b{name}: ([-+.e\d]+)", log)]


def weights(brain):
    return {name: value.clone() for name, value in brain.model.state_dict().items()}


def assert_same_weights(first, second):
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def note_steps(patch, note):
    """Lets a run note something at the end of every batch, before the schedule moves on."""
    batch_end = train.LJSpeechBrain.on_fit_batch_end

    def noting(self, batch, *rest):
        note(self, batch)
        batch_end(self, batch, *rest)

    patch.setattr(train.LJSpeechBrain, "on_fit_batch_end", noting)


class Interrupted(Exception):
    pass


def interrupt_at(patch, step):
    """Lets a run die after so many optimizer steps, before anything is saved about the last."""
    batch_end = train.LJSpeechBrain.on_fit_batch_end

    def dying(self, *arguments):
        batch_end(self, *arguments)
        if self.hparams.schedule.steps == step:
            raise Interrupted

    patch.setattr(train.LJSpeechBrain, "on_fit_batch_end", dying)


def run_interrupted(arguments, monkeypatch, step):
    """A run that dies after so many steps, and then the same command again."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_at(patch, step)
        run(arguments)
    return run(arguments)


def final_state(output_folder):
    """What the newest checkpoint of a run holds: tensors and numbers by name."""
    folder = max((output_folder / "save").glob("CKPT*"), key=lambda path: path.name)
    state = {}
    for name in ("model", "averaged", "optimizer", "schedule"):
        if (folder / f"{name}.ckpt").is_file():
            _flatten(name, torch.load(folder / f"{name}.ckpt", weights_only=True), state)
    return state


def _flatten(name, value, flat):
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, flat)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _flatten(f"{name}.{number}", inner, flat)
    else:
        flat[name] = value


def assert_same_runs(first, second):
    """Bit for bit: weights, averages, optimizer, schedule and what was logged, but for speed."""
    ours, theirs = final_state(first), final_state(second)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if name == "schedule.seconds":
            continue
        same = torch.equal(value, theirs[name]) if torch.is_tensor(value) else value == theirs[name]
        assert same, name
    logs = [folder / "train_log.txt" for folder in (first, second)]
    ours, theirs = (
        re.sub(
            r"(segments_per_second|codes_per_second|real_time_factor): [-+.e\d]+",
            "",
            log.read_text("utf-8"),
        )
        for log in logs
    )
    assert ours == theirs
