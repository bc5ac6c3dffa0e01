"""The YAML of an export, from that of a run."""

import waveglow_vq
from waveglow_vq.errors import UserError
from waveglow_vq.inference.loading import CODEC_FOLDER, HPARAMS_FILE, TOKENIZER_FILE, WEIGHTS_FILE

import yaml

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
{more}
# The model as it was trained.
"""

SAMPLING = """\
sampling_sigma: {sampling_sigma}  # standard deviation of the noise, unless the call says otherwise
refine: {refine}            # mel-consistent iterations, unless the call says otherwise
"""

# Of text to speech. Loading refuses a tokenizer or a codec with other checksums.
PARTS = """\
tokenizer_checksum: "{tokenizer}"  # SHA-256 of {tokenizer_file}
codec_checksum: "{codec}"      # of the weights in {codec_folder}/
"""

LOADING = """{labels}
modules:
  model: !ref <model>
{modules}
# No paths: the files are beside this one. The hooks refuse weights that do not fit exactly.
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
  loadables:
    model: !ref <model>{loadable}
  custom_hooks:
    model: !name:waveglow_vq.inference.loading.load_weights{hook}
"""

# What log-mels add to it.
FEATURES = """\
  features: !ref <features>

audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
  sample_rate: !ref <sample_rate>
"""

# What several speakers add to it.
SPEAKERS = {
    "labels": "\nspeakers: !new:speechbrain.dataio.encoder.CategoricalEncoder\n",
    "loadable": "\n    speakers: !ref <speakers>",
    "hook": "\n    speakers: !name:waveglow_vq.inference.loading.load_labels",
}


def export_hparams(hparams_text, interface, with_labels=False, sampling_sigma=None):
    """The YAML of an export from the flattened YAML of a run; see
    :func:`~waveglow_vq.export.folder.export_model`.
    """
    # Composed, not loaded: the tags, and which nodes are the same one, stay as they are.
    root = yaml.compose(hparams_text, Loader=yaml.SafeLoader)
    preset = _find(root, "preset")
    features = _find(root, "features") or _find(preset, "contract", "features")
    kept = {"preset": preset, "model": _find(root, "model"), "features": features}
    tree = _kept_nodes(kept, "model", "features")
    if sampling_sigma is None:
        node = _find(root, "sampling_sigma")
        sampling_sigma = 1.0 if node is None else node.value
    refine = _find(root, "refine")
    refine = 0 if refine is None else int(refine.value)
    sample_rate = _find(features, "sample_rate")
    if sample_rate is None:
        raise UserError("the hyperparameters of the run do not state the features' sample_rate")
    more = SAMPLING.format(sampling_sigma=float(sampling_sigma), refine=refine)
    return _fill_in(interface, sample_rate.value, more, tree, FEATURES, with_labels)


def text_to_speech_hparams(
    hparams_text, sample_rate, tokenizer_checksum, codec_checksum, with_labels=False
):
    """The YAML of an export of text to speech from the flattened YAML of a run. ``sample_rate`` is
    the codec's; the checksums are what loading compares.
    """
    root = yaml.compose(hparams_text, Loader=yaml.SafeLoader)
    kept = {name: _find(root, name) for name in _OF_SPEECH}
    tree = _kept_nodes(kept, "model")
    more = PARTS.format(
        tokenizer=tokenizer_checksum,
        codec=codec_checksum,
        tokenizer_file=TOKENIZER_FILE,
        codec_folder=CODEC_FOLDER,
    )
    return _fill_in("TextToSpeech", sample_rate, more, tree, "", with_labels)


def model_hparams(hparams_text):
    """The YAML of the model of a run alone: to build it, or to see that it can be exported."""
    root = yaml.compose(hparams_text, Loader=yaml.SafeLoader)
    if _find(root, "codec_checksum") is not None:
        return text_to_speech_hparams(hparams_text, 0, "", "")
    return export_hparams(hparams_text, "WaveGlowVocoder")


def _kept_nodes(kept, *needed):
    """Nodes by name as one node."""
    for name in needed:
        if kept[name] is None:
            raise UserError(f"the hyperparameters of the run have no '{name}' to export")
    nodes = [(yaml.ScalarNode(_STRING, name), node) for name, node in kept.items() if node]
    tree = yaml.MappingNode("tag:yaml.org,2002:map", nodes)
    _check_flattened(tree, set())
    return tree


def _fill_in(interface, sample_rate, more, tree, modules, with_labels):
    """The YAML around the nodes that are kept."""
    header = HEADER.format(
        version=waveglow_vq.__version__,
        interface=interface,
        weights=WEIGHTS_FILE,
        sample_rate=sample_rate,
        more=more,
    )
    speakers = SPEAKERS if with_labels else dict.fromkeys(SPEAKERS, "")
    return header + yaml.serialize(tree, width=100) + LOADING.format(modules=modules, **speakers)


# What an export of text to speech keeps of its run.
_OF_SPEECH = ("preset", "model", "search", "max_characters", "closing_mark")
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
