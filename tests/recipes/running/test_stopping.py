"""A run that is asked to end (Ctrl-C, SIGTERM, SIGHUP) saves itself, says so, and goes on later."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)

import pytest
import speechbrain as sb
import train

from tests.recipes.ljspeech_runs import (
    RECIPE,
    SMALL_CODES,
    assert_same_runs,
    note_steps,
    quick_command,
    run,
)

pytestmark = pytest.mark.usefixtures("heeded_signals")

RESTARTING = SMALL_CODES + ", codebook_size: 32, restart_after: 2"


def send(number):
    os.kill(os.getpid(), number)


def stop_at_step(patch, number, step):
    """Sends a signal in the middle of a step."""

    def note(brain, batch):
        if brain.hparams.schedule.steps == step:
            send(number)

    note_steps(patch, note)


def stop_in_validation(patch, number, epoch):
    """Sends a signal after the first batch of a validation."""
    evaluate = train.LJSpeechBrain.evaluate_batch

    def evaluating(self, batch, stage):
        loss = evaluate(self, batch, stage)
        if stage == sb.Stage.VALID and self.hparams.epoch_counter.current == epoch:
            send(number)
        return loss

    patch.setattr(train.LJSpeechBrain, "evaluate_batch", evaluating)


@pytest.fixture(scope="module")
def run_in(demo_corpus, manifests):
    """Builds the command line of one run, in the folder that is given: two epochs of five steps, of
    which each is two batches, and an eleventh batch that is in no step."""

    def build(output, *options):
        run = ["--batch_size", 2, "--grad_accumulation_factor", 2, "--segments_per_epoch", 22]
        # No checkpoint inside of an epoch but that of the stop.
        run += ["--num_workers", 1, "--number_of_epochs", 2, "--ckpt_interval_minutes", 0]
        arguments = [demo_corpus, manifests, output, "vq", *run, *options]
        return quick_command(*arguments, preset=RESTARTING)

    return build


@pytest.fixture(scope="module")
def undisturbed(run_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(run_in(folder))
    return folder


def test_a_run_that_is_stopped_again_and_again_is_the_same_run(
    run_in, undisturbed, monkeypatch, capsys, tmp_path
):
    stops = [
        # In the middle of an accumulation, of which the end is waited for.
        (stop_at_step, signal.SIGINT, 3, 130, 4),
        (stop_in_validation, signal.SIGHUP, 2, 129, 10),
    ]
    for stop, number, moment, status, last_step in stops:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit_info:
            stop(patch, number, moment)
            run(run_in(tmp_path))
        assert exit_info.value.code == status
        line = capsys.readouterr().err.strip().splitlines()[-1]
        name = signal.Signals(number).name
        assert line.startswith(f"stopped by {name}: step {last_step} "), line
        assert f"saved in {tmp_path}/save" in line and "the same command" in line
        assert line in (tmp_path / "log.txt").read_text("utf-8")
        assert all(entry.startswith("CKPT") for entry in os.listdir(tmp_path / "save"))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        # At its end the program would wait for what is left.
        assert not multiprocessing.active_children()
    assert not (tmp_path / "export").exists()
    run(run_in(tmp_path))
    assert_same_runs(undisturbed, tmp_path)


# Says when it is at a step, and does not go on before a signal has come.
WAITING = """
import json, os, signal, sys, time
import train
from waveglow_vq.signals import noted_signal
from waveglow_vq.training.run.experiment import run
batch_end = train.LJSpeechBrain.on_fit_batch_end
def waiting(self, *rest):
    batch_end(self, *rest)
    if self.hparams.schedule.steps == 7:
        if os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        elif "RANK" not in os.environ:
            print("ready", flush=True)
            while not noted_signal():
                time.sleep(0.01)
train.LJSpeechBrain.on_fit_batch_end = waiting
run(train.LJSpeechBrain, train.prepare, json.loads(sys.argv[1]))
"""


PLAIN = """
import json, sys, train
from waveglow_vq.training.run.experiment import run
run(train.LJSpeechBrain, train.prepare, json.loads(sys.argv[1]))
"""


def test_a_signal_to_all_processes_of_a_job_ends_it_in_good_order(run_in, undisturbed, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, json.dumps(run_in(tmp_path))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path()},
    ) as process:
        assert any(line == "ready\n" for line in process.stdout)
        # As batch systems do it, and timeout: the process that reads data gets it too.
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert errors.strip().splitlines()[-1].startswith("stopped by SIGTERM: step 7 "), errors
    assert "Traceback" not in errors
    run(run_in(tmp_path))
    assert_same_runs(undisturbed, tmp_path)


@pytest.mark.slow
def test_one_process_is_asked_and_all_stop_at_the_same_step(run_in, tmp_path):
    """And the run goes on, on both, as if it had not been stopped."""

    def on_two(folder, script):
        return subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
            + [str(script), json.dumps(run_in(folder, "--distributed_backend", "gloo"))],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path()},
            stderr=subprocess.PIPE,
            text=True,
            timeout=200,
        )

    (tmp_path / "asked.py").write_text(WAITING.replace("steps == 7", "steps == 3"))
    (tmp_path / "plain.py").write_text(PLAIN)
    errors = on_two(tmp_path / "broken", tmp_path / "asked.py").stderr
    # Half the batches of a process alone: two steps in an epoch, and a batch that is in none.
    assert errors.count("stopped by SIGTERM: step 3 is the last and saved in") == 1, errors
    assert not on_two(tmp_path / "broken", tmp_path / "plain.py").returncode
    assert not on_two(tmp_path / "straight", tmp_path / "plain.py").returncode
    assert_same_runs(tmp_path / "straight", tmp_path / "broken")


def python_path():
    root = Path(waveglow_vq.__file__).parents[1]
    return os.pathsep.join([str(RECIPE), str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
