import os
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.evaluation.utterances import read_manifests

import pytest

from tests.evaluation.tiny_corpus import LABELS, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Folders of the audio and of the manifests of a prepared corpus, which tests only read."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def found(corpus):
    """The utterances of its manifests, by name."""
    audio, manifests = corpus
    return read_manifests(manifests, audio, LABELS)


@pytest.fixture(scope="session")
def real_vctk():
    """Real recordings in the layout of VCTK 0.80. WAVEGLOW_VQ_VCTK names the folder that holds
    VCTK-Corpus."""
    folder = os.environ.get("WAVEGLOW_VQ_VCTK")
    if not folder or not (Path(folder) / "VCTK-Corpus").is_dir():
        pytest.skip("WAVEGLOW_VQ_VCTK does not name a folder that holds VCTK-Corpus")
    return Path(folder) / "VCTK-Corpus"
