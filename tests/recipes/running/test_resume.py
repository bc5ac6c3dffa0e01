"""A run that is interrupted, at any moment and by any means, goes on as if nothing had happened."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import waveglow_vq  # noqa: F401  (before speechbrain)

import pytest

from tests.recipes.ljspeech_runs import (
    RECIPE,
    SMALL,
    SMALL_CODES,
    SMALL_VQ,
    assert_same_runs,
    note_steps,
    run,
    run_interrupted,
)

EVERY_STEP = ["--ckpt_interval_minutes", 0, "--ckpt_interval_steps", 1]
ELEVEN = ["--segments_per_epoch", 22]
# What the other cases of a test check together.
SLOW = partial(pytest.param, marks=pytest.mark.slow)
RESTARTING = SMALL_CODES + ", codebook_size: 32, restart_after: 2"


@pytest.mark.parametrize("yaml", [SLOW("mel"), "vq"])
def test_after_an_epoch(command, monkeypatch, tmp_path, yaml):
    preset = SMALL if yaml == "mel" else SMALL_VQ
    run(command(yaml, preset=preset, output=tmp_path / "straight"))
    broken = command(yaml, preset=preset, output=tmp_path / "broken")
    resumed = run_interrupted(broken, monkeypatch, step=8)  # of 9; 3 make an epoch
    assert resumed.hparams.schedule.steps == 9
    assert_same_runs(tmp_path / "straight", tmp_path / "broken")


@pytest.mark.parametrize(
    ("yaml", "preset", "options"),
    [
        SLOW("mel", SMALL, []),
        ("mel", SMALL, ["--num_workers", 2, "--precision", "bf16"]),
        SLOW("mel", SMALL, ["--batch_size", 2, "--grad_accumulation_factor", 2]),
        SLOW("vq", RESTARTING, []),
        # Eleven batches: the last one of an epoch is in no step.
        ("vq", RESTARTING, ["--batch_size", 2, "--grad_accumulation_factor", 2, *ELEVEN]),
        ("vq", RESTARTING + ", codebook_update: ema, time_jitter: 0.3", []),
        ("vq", SMALL_VQ + ", quantize_after: 4", ["--use_averaging", False]),
    ],
)
def test_inside_of_an_epoch(command, monkeypatch, tmp_path, yaml, preset, options):
    if "--segments_per_epoch" not in options:
        options = ["--segments_per_epoch", 20, *options]
    options = [*EVERY_STEP, "--number_of_epochs", 2, *options]
    run(command(yaml, *options, preset=preset, output=tmp_path / "straight"))
    broken = command(yaml, *options, preset=preset, output=tmp_path / "broken")
    resumed = run_interrupted(broken, monkeypatch, step=8)  # of 10: the third of the second epoch
    assert resumed.hparams.schedule.steps == 10
    assert_same_runs(tmp_path / "straight", tmp_path / "broken")


def test_only_what_was_lost_is_done_again(command, monkeypatch):
    arguments = command("mel", *EVERY_STEP, "--number_of_epochs", 2)
    seen = []

    def note(brain, batch):
        seen.append((brain.step, brain.hparams.schedule.steps))

    note_steps(monkeypatch, note)
    run_interrupted(arguments, monkeypatch, step=5)  # the second of the second epoch
    assert seen[5:] == [(2, 4), (3, 5)]


# ---- killed

# Imports once, then runs the recipe in a child for each command line that it is sent. Children have
# no lock in common, which one that is killed would keep.
RUNNER = """
import json, os, sys, threading
import train
from tqdm import tqdm
from waveglow_vq.training.run.experiment import run
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        tqdm.set_lock(threading.RLock())
        os.dup2(2, 1)
        run(train.LJSpeechBrain, train.prepare, json.loads(line))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Runner:
    """Runs the recipe in processes that can be killed."""

    def __init__(self, log):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(RECIPE)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )

    def run(self, arguments, kill_after=None):
        """True if the run came to its end before it was killed."""
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = int(self.process.stdout.readline())
        assert status in (0, signal.SIGKILL), f"the run failed with status {status}"
        return status == 0


@pytest.fixture
def runner(tmp_path):
    with open(tmp_path / "runs.log", "w") as log:
        runner = Runner(log)
        yield runner
        runner.process.kill()
        runner.process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [10])
def test_killed_again_and_again(command, runner, tmp_path, kills):
    options = [*EVERY_STEP, "--segments_per_epoch", 32, "--num_workers", 1]

    def arguments(folder, epochs):
        output = tmp_path / folder
        options_and_end = [*options, "--number_of_epochs", epochs]
        return command("vq", *options_and_end, preset=RESTARTING, output=output)

    def seconds(folder, epochs):
        began = time.monotonic()
        assert runner.run(arguments(folder, epochs))
        return time.monotonic() - began

    # How long a run takes to begin, and to do a share of the work, on this machine today.
    start, whole = seconds("short", 1), seconds("straight", 3 * kills)
    chance = random.Random(kills)
    killed, while_saving, finished = 0, 0, False
    while killed < kills and not finished:
        patience = start * 0.7 + chance.random() * (whole - start) / kills
        finished = runner.run(arguments("broken", 3 * kills), kill_after=patience)
        killed += not finished
        while_saving += bool(list((tmp_path / "broken" / "save").glob(".unfinished-*")))
    print(f"{killed} times killed, {while_saving} of them while a checkpoint was written")
    assert killed >= kills // 2, "the run was over before it could be killed often enough"
    assert finished or runner.run(arguments("broken", 3 * kills))
    assert_same_runs(tmp_path / "straight", tmp_path / "broken")
