"""Training by CUDA graphs, and in a group of processes, of one (NCCL on a GPU, gloo on a CPU),
against plain training."""

import contextlib
import os
import socket
from functools import partial
from unittest import mock

import torch
from gpu import training

# SpeechBrain reads them.
NAMES = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}


def cases(options):
    """See rows.py. On a CPU there are no graphs."""
    size = options.sizes[-1]
    return [
        ({"what": what, "name": size}, partial(of_steps, options, size, steps, graphs, parallel))
        for what, steps, graphs, parallel in (
            ("a step by DDP", 1, "off", True),
            ("four steps with graphs", 4, "auto", False),
            ("four steps by DDP with graphs", 4, "auto", True),
        )
    ]


@contextlib.contextmanager
def group(device):
    """A group of this process alone."""
    on_cuda = torch.device(device).type == "cuda"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with mock.patch.dict(os.environ, {**NAMES, "MASTER_PORT": port}):
        torch.distributed.init_process_group("nccl" if on_cuda else "gloo")
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()


def weights_after(options, size, steps, graphs, parallel):
    """The weights after some steps, of the same batch, and the kind of module that was trained."""
    on_cuda = torch.device(options.device).type == "cuda"
    more = {"distributed_backend": "nccl" if on_cuda else "gloo"}
    with contextlib.ExitStack() as stack:
        if parallel:
            stack.enter_context(group(options.device))
        brain = stack.enter_context(
            training.brain_of(options, size, "fp32", graphs, run_opts=more if parallel else {})
        )
        batch = training.batch_of(brain, 4, 4096)
        for _ in range(steps):
            training.take_step(brain, batch)
        kind = type(brain.modules.model).__name__
        weights = [p.detach().double().cpu().flatten() for p in brain.model.parameters()]
        return torch.cat(weights), kind


def of_steps(options, size, steps, graphs, parallel):
    """How far the weights are from those of plain training, relative to how far they went. Adam
    makes much of rounding where a gradient is nearly zero."""
    start, _ = weights_after(options, size, 0, "off", parallel=False)
    plain, _ = weights_after(options, size, steps, "off", parallel=False)
    found, kind = weights_after(options, size, steps, graphs, parallel)
    error = float((found - plain).norm() / (plain - start).norm())
    passed = error <= 0.02 and (kind == "DistributedDataParallel") == parallel
    return {"figure": error, "bar": "at most 0.02", "passed": passed, "module": kind}
