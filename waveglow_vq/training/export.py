"""Export of a trained model: a folder that ``from_hparams`` loads anywhere, without a network and
without the recipe.

Authors
 * The waveglow-vq developers, 2026
"""

import os
import shutil
from pathlib import Path

import waveglow_vq
from waveglow_vq.errors import UserError
from waveglow_vq.inference.interface import find_interface
from waveglow_vq.inference.loading import (
    HPARAMS_FILE,
    LABELS_FILE,
    WEIGHTS_FILE,
    read_export_header,
)

import torch
import yaml
from speechbrain.dataio.encoder import CategoricalEncoder
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

HEADER = """\
# A model of waveglow-vq {version}. To load it, offline and from any working directory:
#
#     from waveglow_vq.inference import {interface}
#     model = {interface}.from_hparams(source="path/to/this/folder")
#
# From the shell, 'waveglow-vq info path/to/this/folder' says what it is.
#
# Its weights are in {weights}, beside this file. Loading builds the Python classes that this file
# names (!new, !apply, !name): load it only if you trust where it comes from.

interface: {interface}
sample_rate: {sample_rate}      # Hz
sampling_sigma: {sampling_sigma}  # standard deviation of the noise, unless the call says otherwise

# The model as it was trained.
"""

LOADING = """{labels}
modules:
  model: !ref <model>
  features: !ref <features>

audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
  sample_rate: !ref <sample_rate>

# No paths: the files are beside this one. The hooks refuse weights that do not fit exactly.
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
  loadables:
    model: !ref <model>{loadable}
  custom_hooks:
    model: !name:waveglow_vq.inference.loading.load_weights{hook}
"""

# What several speakers add to it.
SPEAKERS = {
    "labels": "\nspeakers: !new:speechbrain.dataio.encoder.CategoricalEncoder\n",
    "loadable": "\n    speakers: !ref <speakers>",
    "hook": "\n    speakers: !name:waveglow_vq.inference.loading.load_labels",
}


def export_model(hparams_text, model, export_folder, interface, labels=None, sampling_sigma=None):
    """Writes an export folder and loads it once, so that what it leaves is known to work.

    The folder appears as a whole or not at all: it is written beside its place and then renamed.
    An earlier export there is replaced only after that; files that others put into it stay.

    Arguments
    ---------
    hparams_text : str
        The hyperparameters of the run, flattened, as SpeechBrain writes them to
        ``<output_folder>/hyperparams.yaml``. Kept are ``model``, the ``preset`` that it is part
        of, and ``features`` (or ``preset[contract][features]``); paths and everything else of the
        training is left out.
    model : torch.nn.Module
        The trained model; wrapped by DistributedDataParallel or AveragedModel or not.
    export_folder : str or Path
        Where to write.
    interface : str or type
        The class of ``waveglow_vq.inference`` that the export is for.
    labels : list or CategoricalEncoder
        Labels of the speakers in the order of their numbers, or None for one speaker.
    sampling_sigma : float
        Default standard deviation of the noise at inference; None: ``sampling_sigma`` of the
        hyperparameters, else 1.

    Returns
    -------
    Path
        The export folder.

    Raises
    ------
    UserError
        If a weight is not finite, the hyperparameters do not describe the model, the interface is
        not for it, or the folder holds something else.
    """
    if isinstance(model, (DistributedDataParallel, AveragedModel)):
        model = model.module
    interface = find_interface(interface if isinstance(interface, str) else interface.__name__)
    export_folder = Path(export_folder).resolve()
    check_place(export_folder)
    text = export_hparams(hparams_text, interface.__name__, labels is not None, sampling_sigma)
    # Copies: a view into a larger storage would be saved with all of it.
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"the model is not exported: its weight {name} holds NaN or infinity")

    export_folder.parent.mkdir(parents=True, exist_ok=True)
    partial = export_folder.with_name(f".{export_folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        (partial / HPARAMS_FILE).write_text(text, "utf-8")
        torch.save(weights, partial / WEIGHTS_FILE)
        if labels is not None:
            _label_encoder(labels).save(partial / LABELS_FILE)
        # Building draws random initial weights: training goes on as if it had not happened.
        with torch.random.fork_rng(devices=[]):
            interface.from_hparams(partial, run_opts={"device": "cpu"})
        _put_in_place(partial, export_folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return export_folder


def interface_of(model):
    """What a trained model is for.

    Arguments
    ---------
    model : WaveGlowVQ
        The model.

    Returns
    -------
    str
        Name of a class of ``waveglow_vq.inference``: a converter if it knows speakers, else a
        codec if it has codes, else a vocoder.
    """
    if model.speakers is not None:
        return "VoiceConverter"
    return "WaveGlowVocoder" if model.quantizer is None else "SpeechCodec"


def export_hparams(hparams_text, interface, with_labels=False, sampling_sigma=None):
    """The YAML of an export from the flattened YAML of a run.

    Arguments
    ---------
    hparams_text : str
        As for :func:`export_model`.
    interface : str
        Name of the interface.
    with_labels : bool
        Whether there are speaker labels.
    sampling_sigma : float
        As for :func:`export_model`.

    Returns
    -------
    str
    """
    # Composed, not loaded: the tags, and which nodes are the same one, stay as they are.
    root = yaml.compose(hparams_text, Loader=yaml.SafeLoader)
    preset = _find(root, "preset")
    features = _find(root, "features") or _find(preset, "contract", "features")
    kept = {"preset": preset, "model": _find(root, "model"), "features": features}
    for name in ("model", "features"):
        if kept[name] is None:
            raise UserError(f"the hyperparameters of the run have no '{name}' to export")
    kept = [(yaml.ScalarNode(_STRING, name), node) for name, node in kept.items() if node]
    tree = yaml.MappingNode("tag:yaml.org,2002:map", kept)
    _check_flattened(tree, set())
    if sampling_sigma is None:
        node = _find(root, "sampling_sigma")
        sampling_sigma = 1.0 if node is None else node.value
    sample_rate = _find(features, "sample_rate")
    if sample_rate is None:
        raise UserError("the hyperparameters of the run do not state the features' sample_rate")
    header = HEADER.format(
        version=waveglow_vq.__version__,
        interface=interface,
        weights=WEIGHTS_FILE,
        sample_rate=sample_rate.value,
        sampling_sigma=float(sampling_sigma),
    )
    speakers = dict.fromkeys(("labels", "loadable", "hook"), "")
    if with_labels:
        speakers = SPEAKERS
    loading = LOADING.format(**speakers)
    return header + yaml.serialize(tree, width=100) + loading


_STRING = "tag:yaml.org,2002:str"


def _find(node, *keys):
    """The node under nested keys, or None."""
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node


def _check_flattened(node, seen):
    """References that were not resolved would point at what is left out."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.tag.startswith(("!ref", "!copy", "!include", "!applyref", "!PLACEHOLDER")):
        raise UserError(
            f"the hyperparameters hold {node.tag}: export takes the flattened ones, which training "
            f"writes to {HPARAMS_FILE} in its output folder"
        )
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _check_flattened(key, seen)
            _check_flattened(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_flattened(value, seen)


def _label_encoder(labels):
    if isinstance(labels, CategoricalEncoder):
        return labels
    encoder = CategoricalEncoder()
    for label in labels:
        if label in encoder.lab2ind:
            raise UserError(f"labels: {label!r} occurs twice; speakers need different labels")
        encoder.add_label(label)
    return encoder


def check_place(folder):
    """Raises a UserError if an export to this folder would replace what is not an export."""
    folder = Path(folder)
    if folder.is_file():
        raise UserError(f"{folder} is a file; choose another export folder.")
    if folder.is_dir() and any(folder.iterdir()):
        try:
            read_export_header(folder)
        except UserError as error:
            raise UserError(
                f"{folder} is not empty and not an export: it is not replaced, choose another "
                "export folder."
            ) from error


def _put_in_place(partial, folder):
    """Renames; an earlier export gives way, and comes back if that fails."""
    if not folder.exists():
        partial.rename(folder)
        return
    earlier = folder.with_name(f".{folder.name}.earlier-{os.getpid()}")
    folder.rename(earlier)
    try:
        partial.rename(folder)
    except OSError:
        earlier.rename(folder)
        raise
    for entry in earlier.iterdir():
        if entry.name not in (HPARAMS_FILE, WEIGHTS_FILE, LABELS_FILE):
            entry.rename(folder / entry.name)
    shutil.rmtree(earlier)
