"""Imports published WaveGlow checkpoints.

Supported are those of NVIDIA/waveglow (all layouts but that of its ``glow_old.py``), of
NVIDIA/DeepLearningExamples and of NVIDIA/NeMo. Nothing in them is run; see pickles.py.
"""

import math
import re
from textwrap import indent
from typing import NamedTuple

from waveglow_vq.audio.features import LogMel
from waveglow_vq.checkpoints.architecture import (
    Architecture,
    check_dtypes,
    check_shapes,
    check_stated,
    check_values,
    recognize,
    stated_by_config,
    stated_by_module,
    without_mixed_norms,
)
from waveglow_vq.checkpoints.names import join_layers, our_names, plain_names
from waveglow_vq.checkpoints.reading import (
    is_module,
    is_state_dict,
    open_checkpoint,
    read_tensors,
    state_dict_of,
)
from waveglow_vq.checkpoints.records import printable
from waveglow_vq.errors import UserError
from waveglow_vq.export.folder import check_place, export_model
from waveglow_vq.lobes.flows.upsampling import HOPS

import torch
import yaml
from hyperpyyaml import load_hyperpyyaml

# The published models clamp no log-scale. Beyond this, exp is infinite or zero in fp32 and in fp64
# anyway: a clamp that never acts.
LOG_SCALE_BOUND = 1000.0
# Of the distribution that the model was trained as; NVIDIA's script has it as its default too.
SAMPLING_SIGMA = 1.0

MAX_N_FFT, MAX_SAMPLE_RATE = 2**16, 2**20

# The halves alternate in the code of the first, unpublished version.
ALTERNATING = re.compile(r"\bk\s*%\s*2\b")

# What features of NeMo must be for the log-mels to be ours.
NEMO_FEATURES = {
    "log": True,
    "mag_power": 1.0,
    "normalize": None,
    "frame_splicing": 1,
    "log_zero_guard_type": "clamp",
    "window": "hann",
}

HPARAMS = """\
features: &features !new:waveglow_vq.audio.features.LogMel
{features}
model: !new:waveglow_vq.lobes.model.WaveGlowVQ
    conditioner: !new:waveglow_vq.lobes.conditioners.MelConditioner
        features: *features
        channels: {n_mels}
        layers: 0
    vocoder: !new:waveglow_vq.lobes.flows.waveglow.WaveGlow
        features: *features
{vocoder}
"""


class Checkpoint(NamedTuple):
    """A checked checkpoint."""

    source: str  # which implementation wrote it
    container: str  # the kind of file
    architecture: Architecture
    features: dict  # arguments of LogMel
    tensors: dict  # names in NVIDIA's current layout to fp32 tensors
    dtypes: list  # what the file holds
    left_out: list  # names of tensors of the file that are not needed


def import_checkpoint(path, export_folder, sigma=None):
    """Writes a published WaveGlow checkpoint as an export folder, which
    ``WaveGlowVocoder.from_hparams`` loads.

    Nothing in the file is run, and every tensor is accounted for. Half precision becomes fp32;
    weight normalization stays if every layer has it. The model computes exactly what the published
    one does.

    Arguments
    ---------
    path : str or Path
        The checkpoint.
    export_folder : str or Path
        Where to write; an earlier export there is replaced, anything else is not.
    sigma : float
        Default standard deviation of the noise at sampling; None: 1, that of the distribution.
        Lower ones, down to 0.6, give smoother speech.

    Returns
    -------
    dict
        As :func:`describe_checkpoint`, with ``export_folder`` and ``sampling_sigma``.

    Raises
    ------
    UserError
        As :func:`describe_checkpoint`, or if the folder holds something else; then nothing is
        written.
    """
    sigma = SAMPLING_SIGMA if sigma is None else sigma
    if not 0 <= sigma < math.inf:
        raise UserError(f"sigma: {sigma}; it must be a number of at least 0")
    check_place(export_folder)
    checkpoint = read_checkpoint(path)
    text = hparams_text(checkpoint)
    with torch.random.fork_rng(devices=[]):
        model = load_hyperpyyaml(text)["model"]
    model.vocoder.load_state_dict(our_names(checkpoint.tensors))
    folder = export_model(text, model, export_folder, "WaveGlowVocoder", sampling_sigma=sigma)
    report = _report(checkpoint)
    return report | {"export_folder": str(folder), "sampling_sigma": float(sigma)}


def describe_checkpoint(path):
    """Reads, checks and describes a published WaveGlow checkpoint.

    Arguments
    ---------
    path : str or Path
        The checkpoint.

    Returns
    -------
    dict
        ``source``, ``container``, ``architecture`` and ``features`` (dicts of plain values),
        ``parameters`` (their number), ``dtypes`` (of the file) and ``left_out`` (names of tensors
        that are not needed).

    Raises
    ------
    UserError
        If the file is missing or damaged, names something that no checkpoint needs, lacks a tensor,
        or has one that is unknown, of another shape or dtype, not finite, or singular where it has
        to have an inverse.
    """
    return _report(read_checkpoint(path))


def read_checkpoint(path):
    """Reads and checks a published WaveGlow checkpoint."""
    with open_checkpoint(path) as contents:
        source, found, stated = _weights(contents)
        found, left_out = plain_names(found)
        check_dtypes(found)
        dtypes = sorted({tensor.storage.dtype for tensor in found.values()})
        tensors = {name: t.float() for name, t in read_tensors(contents, found).items()}
        join_layers(tensors)
        without_mixed_norms(tensors)
        architecture = recognize(tensors)
        check_shapes(tensors, architecture)
        check_values(tensors)
        check_stated(stated, architecture)
        features = _features(architecture, contents.config)
        return Checkpoint(
            source, contents.container, architecture, features, tensors, dtypes, left_out
        )


def _weights(contents):
    """Which implementation wrote a file, its tensors by their names, and what it states of its
    architecture."""
    root, stated = contents.root, {}
    saved = root.get("model", root.get("state_dict", root)) if isinstance(root, dict) else root
    if is_module(saved):
        module = saved.kind.module.rsplit(".", 1)[-1]
        if module == "glow_old" or any(map(ALTERNATING.search, contents.sources)):
            raise UserError(
                "it is a model of glow_old.py, whose couplings transform the two halves in turn, "
                "and which is not supported; take a model of glow.py"
            )
        stated, saved = stated_by_module(saved), state_dict_of(saved)
    if not is_state_dict(saved):
        raise UserError("it holds neither a pickled model nor a dictionary of tensors")
    source = "NVIDIA/waveglow"
    if any(re.search(r"(^|\.)(waveglow|wavenet)\.", name) for name in saved):
        source = "NVIDIA/NeMo"
    elif isinstance(root, dict) and "state_dict" in root:
        source = "NVIDIA/DeepLearningExamples"
        if isinstance(root.get("config"), dict):
            stated = stated_by_config(root["config"])
    return source, saved, stated


def _features(architecture, config):
    """Arguments of LogMel: what NeMo's configuration says, else what the others take for granted;
    the window is as long as the kernel of the upsampling."""
    ours = LogMel()  # what all of them were trained on
    features = {
        "sample_rate": ours.sample_rate,
        "n_fft": HOPS * architecture.hop_length,
        "win_length": HOPS * architecture.hop_length,
        "hop_length": architecture.hop_length,
        "n_mels": architecture.n_mels,
        "f_min": ours.f_min,
        "f_max": ours.f_max,
        "floor": ours.floor,
    }
    stated = (config or {}).get("preprocessor")
    if not isinstance(stated, dict):
        return features
    if isinstance(stated.get("params"), dict):
        stated = stated["params"]
    for name, value in NEMO_FEATURES.items():
        if stated.get(name, value) != value:
            raise UserError(f"its log-mels are of another kind: {name} {printable(stated[name])}")
    found = {
        "sample_rate": stated.get("sample_rate", ours.sample_rate),
        "n_fft": stated.get("n_fft") or features["n_fft"],
        "win_length": stated.get("n_window_size", features["win_length"]),
        "f_min": stated.get("lowfreq") or 0.0,
        "f_max": stated.get("highfreq") or math.inf,
        "floor": stated.get("log_zero_guard_value", ours.floor),
    }
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"its configuration has {printable(value)} as {name}, not a number")
    for name, key in (("hop_length", "n_window_stride"), ("n_mels", "nfilt")):
        if stated.get(key, features[name]) != features[name]:
            raise UserError(
                f"its configuration states {key} {printable(stated[key])}, but its tensors show "
                f"{features[name]}"
            )
    features |= found
    highest = features["sample_rate"] / 2
    features["f_max"] = highest if features["f_max"] == math.inf else features["f_max"]
    if not (
        0 < features["win_length"] <= features["n_fft"] <= MAX_N_FFT
        and 0 <= features["f_min"] < features["f_max"] <= highest <= MAX_SAMPLE_RATE
        and 0 < features["floor"] < 1
    ):
        raise UserError(f"its configuration states impossible log-mels: {printable(found)}")
    return features


def hparams_text(checkpoint):
    """The YAML that describes the model of a checkpoint, as a training run would have it."""
    vocoder = checkpoint.architecture._asdict()
    n_mels, _ = vocoder.pop("n_mels"), vocoder.pop("hop_length")
    vocoder = {"condition_channels": n_mels, "prior": "white"} | vocoder
    vocoder |= {"condition_geometry": "sample", "log_scale_bound": LOG_SCALE_BOUND}
    return HPARAMS.format(
        features=_yaml(checkpoint.features, 4), n_mels=n_mels, vocoder=_yaml(vocoder, 8)
    )


def _yaml(mapping, columns):
    return indent(yaml.safe_dump(mapping, sort_keys=False).rstrip(), " " * columns)


def _report(checkpoint):
    return {
        "source": checkpoint.source,
        "container": checkpoint.container,
        "architecture": checkpoint.architecture._asdict(),
        "features": checkpoint.features,
        "parameters": sum(tensor.numel() for tensor in checkpoint.tensors.values()),
        "dtypes": checkpoint.dtypes,
        "left_out": checkpoint.left_out,
    }
