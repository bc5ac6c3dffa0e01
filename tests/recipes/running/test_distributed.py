"""Several processes, by torchrun and gloo, against one."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)

import pytest
import torch

from tests.recipes.ljspeech_runs import (
    RECIPE,
    SMALL,
    SMALL_CODES,
    final_state,
    logged,
    torchrun,
)

# 20 steps of 8 segments in all, with codes that restart. No averaging of what is drawn in the
# model itself (jitter, dropout of the condition): each process draws its own.
TWENTY_STEPS = ["--segments_per_epoch", 80, "--number_of_epochs", 2, "--averaging_decay", 0.9]
# And without what makes so much of a rounding that a frame chooses another code within 20 steps.
STEADY = ", encoder_layers: 2, decoder_layers: 2, fine_layers: 2, conditioner_kernel: 3"
STEADY += ", dilation_cycle: 1, mel_weight: 1, envelope_gradient: True"
RESTARTING = SMALL_CODES + ", codebook_size: 32, restart_after: 3" + STEADY


def relative_difference(value, reference):
    """Of whole tensors: single weights near zero have no relative precision to speak of."""
    value, reference = value.double(), reference.double()
    return float((value - reference).norm() / reference.norm().clamp_min(1e-12))


def differences(folder, reference):
    """Greatest relative difference of what two runs have left, and where it is."""
    ours, theirs = final_state(folder), final_state(reference)
    assert ours.keys() == theirs.keys()
    floating = {name for name, v in theirs.items() if torch.is_tensor(v) and v.is_floating_point()}
    return max((relative_difference(ours[name], theirs[name]), name) for name in floating)


CASES = [
    ("vq", 2, RESTARTING, []),
    pytest.param("vq", 2, RESTARTING + ", codebook_update: ema", [], marks=pytest.mark.slow),
    pytest.param("vq", 4, RESTARTING, [], marks=pytest.mark.slow),
    pytest.param("vq", 4, RESTARTING + ", codebook_update: ema", [], marks=pytest.mark.slow),
    pytest.param("mel", 2, SMALL, ["--memory_efficient", True], marks=pytest.mark.slow),
    pytest.param("vq", 2, RESTARTING, ["--grad_accumulation_factor", 2], marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("yaml", "processes", "preset", "options"), CASES)
def test_processes_train_what_one_with_the_whole_batch_trains(
    command, tmp_path, yaml, processes, preset, options
):
    options = [*TWENTY_STEPS, "--max_valid_utterances", 3, *options]
    if yaml == "vq":
        options += ["--flows_from", 0, "--adversary", False]
    one, several = tmp_path / "one", tmp_path / "several"
    arguments = command(yaml, *options, "--batch_size", 8, preset=preset, output=one)
    torchrun(arguments, 1)
    share = ["--batch_size", 8 // processes]
    torchrun(command(yaml, *options, *share, preset=preset, output=several), processes)
    difference, name = differences(several, one)
    print(f"greatest relative difference after 20 steps: {difference:.1e} ({name})")
    # Rounding; a single frame with another code would make 1e-1 of it.
    assert difference < 5e-5, f"{name} differs by {difference:.1e}"
    for stage in ("train", "valid", "test"):
        # The quantizer's own losses are relative to a batch, and batches are others in evaluation.
        for term in ["nll"] + ["mel_l1", "normalized_mse", "perplexity"] * (yaml == "vq"):
            ours, theirs = logged(several, f"{stage} {term}"), logged(one, f"{stage} {term}")
            assert ours == pytest.approx(theirs, rel=2e-3), f"{stage} {term}"
    if yaml == "vq":
        assert sum(logged(several, "restarted_codes")) > 0
    assert (several / "export" / "model.ckpt").is_file()


def test_a_part_of_an_epoch_that_is_too_small_for_all_is_shared_too(command, tmp_path):
    torchrun(command("mel", "--number_of_epochs", 1, preset=SMALL), 2)
    # 12 segments are 3 batches of 4 alone, and 2 for each of two.
    assert logged(tmp_path / "run", "steps") == [2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_process_on_a_gpu_through_nccl(command, tmp_path, precision):
    """Trains, resumes, tests and exports."""
    for epochs in (1, 2):
        options = ["--number_of_epochs", epochs, "--num_workers", 1, "--precision", precision]
        torchrun(command("vq", *options, preset=RESTARTING), 1, backend="nccl")
    assert len(logged(tmp_path / "run", "epoch")) == 2
    assert (tmp_path / "run" / "export" / "model.ckpt").is_file()


@pytest.mark.slow
def test_one_process_resumes_what_several_have_begun(command, tmp_path):
    options = ["--ckpt_interval_minutes", 0, "--ckpt_interval_steps", 1]
    torchrun(command("vq", *options, "--number_of_epochs", 1, preset=RESTARTING), 2)
    torchrun(command("vq", *options, "--number_of_epochs", 2, preset=RESTARTING), 1)
    assert len(logged(tmp_path / "run", "epoch")) == 2
    assert Path(tmp_path / "run" / "export" / "model.ckpt").is_file()


@pytest.mark.slow
def test_two_machines(command, tmp_path):
    """As on two machines of one process each: two launchers that meet at an address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = command("vq", "--number_of_epochs", 1, preset=RESTARTING)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    launch += ["--nproc_per_node", "1", "--rdzv_id", "waveglow", "--rdzv_backend", "c10d"]
    launch += ["--rdzv_endpoint", f"127.0.0.1:{port}"]
    recipe = [str(RECIPE / "train.py"), *arguments, "--distributed_backend", "gloo"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    machines = [
        subprocess.Popen([*launch, "--local_addr", "127.0.0.1", *recipe], env=environment)
        for _ in range(2)
    ]
    try:
        # One that cannot begin would leave the other waiting for it.
        while None in [machine.poll() for machine in machines]:
            assert not any(machine.poll() for machine in machines), "a machine has failed"
            time.sleep(0.2)
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.wait() for machine in machines] == [0, 0]
    assert logged(tmp_path / "run", "steps") == [2]
    assert (tmp_path / "run" / "export" / "model.ckpt").is_file()
