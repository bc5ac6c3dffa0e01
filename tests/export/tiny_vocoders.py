"""Vocoders of all kinds, tiny, for the tests of what is made from them."""

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.audio.features import LogMel
from waveglow_vq.inference import WaveGlowVocoder

from tests.inference.exports import flattened_recipe, trained_model

KINDS = {
    "default": {},
    "published": {
        "prior": "white",
        "condition_geometry": "sample",
        "conditioner_layers": 0,
        "conditioner_channels": None,
    },
    "group rate, FiLM": {"condition_geometry": "group", "use_film": True},
    "order 128": {"envelope": {"order": 128, "updates_per_frame": 1}},
    "excitation": {"excitation": True},
    "without weight norm": {"use_weight_norm": False, "prior": "white"},
}


def tiny_vocoder(folder, envelope=None, **options):
    text = flattened_recipe(folder, "mel", **options)
    if options.get("conditioner_layers") == 0:
        text = text.replace("channels: 16", "channels: 80")
    if envelope is not None:
        text = text.replace("{order: 16, updates_per_frame: 2}", str(envelope).replace("'", ""))
    modules = {"model": trained_model(text), "features": LogMel()}
    return WaveGlowVocoder(modules=modules, hparams={"sampling_sigma": 0.9})
