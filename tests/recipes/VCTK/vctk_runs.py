"""What the tests of the VCTK recipe share."""

import json

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.inference import VoiceConverter, load_export
from waveglow_vq.training.run import experiment

import torch

from tests.data.corpora.vctk_tree import voice
from tests.recipes.command_line import RECIPES, folder_of, load_script

RECIPE = RECIPES / "VCTK"
SMALL = "flow: {flows: 2, layers: 2, channels: 8, envelope: {order: 16}}, conditioner_channels: 16"
KNOWN, UNSEEN = ["p225", "p226"], "p227"

train = load_script("VCTK", "train")


def run(arguments):
    return experiment.run(train.VCTKBrain, train.prepare, arguments)


def results(brain):
    return json.loads((folder_of(brain) / "test_results.json").read_text("utf-8"))


def assert_trained(brain):
    """Every parameter got a gradient, and what comes of it is finite."""
    for name, parameter in brain.model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        # Where no gradient arrives, DistributedDataParallel would stop.
        assert brain.optimizer.state.get(parameter), f"{name} is never trained"
    assert all(abs(value) < float("inf") for value in results(brain).values())


def assert_converts(brain):
    """The export has a voice for each speaker of the training data."""
    converter = load_export(folder_of(brain) / "export", run_opts={"device": "cpu"})
    assert isinstance(converter, VoiceConverter)
    assert converter.speakers == KNOWN
    wav = torch.from_numpy(voice(0.4, 22050)).float()[None]
    mode = "codes" if brain.model.quantizer is not None else "latent_swap"
    one, other = (converter.convert_batch(wav, label, mode=mode, generator=0) for label in KNOWN)
    assert one.shape == (1, 1, wav.shape[1]) and torch.isfinite(one).all()
    return (one - other).abs().max()
