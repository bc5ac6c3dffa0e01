"""Runs of the LJSpeech recipe that take a second or two, and a codec."""

import logging

import pytest
from speechbrain.utils.logger import TqdmCompatibleStreamHandler

from tests.inference.exports import export_tiny
from tests.recipes.ljspeech_runs import SMALL, quick_command


@pytest.fixture(autouse=True)
def log_of_this_run_only():
    """A run sends the log to its terminal and its folder, which are gone when the test is."""
    yield
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) in (TqdmCompatibleStreamHandler, logging.FileHandler):
            root.removeHandler(handler)


@pytest.fixture(scope="module")
def manifests(demo_corpus, tmp_path_factory):
    """Made once: the runs of this file share them."""
    from ljspeech_prepare import prepare_ljspeech

    folder = tmp_path_factory.mktemp("manifests")
    prepare_ljspeech(demo_corpus, folder, split_ratio=(60, 20, 20))
    return folder


@pytest.fixture
def command(demo_corpus, manifests, tmp_path):
    """Builds a command line that takes a second or two."""

    def build(yaml, *options, preset=SMALL, output=tmp_path / "run"):
        return quick_command(demo_corpus, manifests, output, yaml, *options, preset=preset)

    return build


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("codec"), "mel_vq")[0]
