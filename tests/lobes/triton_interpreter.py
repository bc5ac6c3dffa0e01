"""Triton's kernels are tested on a GPU where there is one, else by Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Triton reads it when it is imported, and its interpreter is nothing for torch.compile: the tests
# are run in a process of their own.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
runs_here = pytest.mark.skipif(DEVICE == "cpu" and not INTERPRETED, reason="needs a GPU")
runs_elsewhere = pytest.mark.skipif(
    DEVICE == "cuda" or INTERPRETED, reason="the tests are run themselves"
)


def run_by_the_interpreter(file):
    """Runs the tests of a file."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:]
    assert " passed" in result.stdout
