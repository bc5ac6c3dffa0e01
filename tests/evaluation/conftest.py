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
