"""Runs of the VCTK recipe that take a second or two."""

import pytest

from tests.data.corpora.vctk_tree import write_small
from tests.recipes.command_line import command_line
from tests.recipes.VCTK.vctk_runs import RECIPE, SMALL, UNSEEN, train


@pytest.fixture(params=["0.80", "0.92"])
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Ten clips of a good second, of three speakers, in the layout of release 0.80."""
    folder = tmp_path_factory.mktemp("corpus") / "VCTK-Corpus"
    return write_small(folder, "0.80", {"p225": 4, "p226": 4, UNSEEN: 1}, seconds=1.1)


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    """Prepared audio and manifests, made once: the runs of this file share them."""
    folder = tmp_path_factory.mktemp("prepared")
    train.prepare_vctk(
        corpus,
        folder / "audio",
        folder / "manifests",
        split_ratio=(50, 25, 25),
        unseen_speakers=[UNSEEN],
        num_workers=1,
    )
    return folder


@pytest.fixture
def command(prepared, tmp_path):
    """Builds a command line that takes a second or two."""

    def build(yaml, *options, preset=SMALL, output=tmp_path / "run"):
        quick = {
            "audio_folder": prepared / "audio",
            "output_folder": output,
            "manifest_folder": prepared / "manifests",
            "skip_prep": True,
            "size": "tiny",
            "number_of_epochs": 1,
            "segments_per_epoch": 6,
            "batch_size": 2,
            "context_frames": 40,
            "num_workers": 0,
            "max_speakers": 5,
            "warmup_steps": 2,
            "speaker_channels": 8,
            "max_valid_utterances": 1,
            "valid_batch_size": 2,
            "samples_per_epoch": 0,
            "test_samples": 1,
            "diagnose": False,
            "preset": f"{{{preset}}}",
        }
        if yaml == "vq":
            quick |= {"codebook_size": 16, "codebook_dim": 8}
        return command_line(RECIPE, yaml, quick, options)

    return build
