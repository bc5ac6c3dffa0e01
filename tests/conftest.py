import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# What both have is LJSpeech's.
sys.path[:0] = [str(ROOT / "recipes" / recipe) for recipe in ("LJSpeech", "VCTK")]

# Whatever Python's own choice: it is quick. Processes started in other ways, which import all
# again, have a test of their own, training/test_start_methods.py.
if "fork" in multiprocessing.get_all_start_methods():
    multiprocessing.set_start_method("fork", force=True)

# Models in tests are tiny: more threads cost more in waiting than they give.
if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Chance is the same for a test wherever it runs, whatever ran before it; before its fixtures
    are made, those that others share too."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def heeded_signals():
    """Nohup and shells without job control start programs that ignore these."""
    numbers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, heed) for number, heed in numbers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def real_ljspeech():
    """Folder of real LJSpeech recordings (all or some), named by WAVEGLOW_VQ_LJSPEECH."""
    folder = os.environ.get("WAVEGLOW_VQ_LJSPEECH")
    if not folder:
        pytest.skip("WAVEGLOW_VQ_LJSPEECH does not name a folder with LJSpeech recordings")
    return Path(folder)


@pytest.fixture(scope="session")
def demo_corpus(tmp_path_factory):
    """Folder of a small generated corpus in LJSpeech's layout (12 utterances, one speaker)."""
    pytest.importorskip("espeakng_loader", reason="needs pip install waveglow-vq[demo]")
    from waveglow_vq.demo.corpus import generate_demo_corpus

    return Path(generate_demo_corpus(tmp_path_factory.mktemp("demo_corpus"), utterances=12))
