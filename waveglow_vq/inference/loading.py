"""Reads export folders; whatever is wrong with one is an error that names the file.

An export folder holds ``hyperparams.yaml`` (the model and how to load it), ``model.ckpt`` (its
weights) and, for several speakers, ``speakers.ckpt`` (their labels, as text); where pitch is read
off log-mels, ``pitch_reader.safetensors`` (older ones take the package's). One of text to speech
also holds ``tokenizer.model`` and, in the folder ``codec``, the export of the codec.
`waveglow_vq.export.folder` writes it.
"""

from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path

import torch
import yaml

HPARAMS_FILE = "hyperparams.yaml"
# SpeechBrain's Pretrainer looks for "<name of the loadable>.ckpt".
WEIGHTS_FILE = "model.ckpt"
LABELS_FILE = "speakers.ckpt"
TOKENIZER_FILE = "tokenizer.model"
CODEC_FOLDER = "codec"
READER_FILE = "pitch_reader.safetensors"
# All that an export may be made of.
EXPORT_ENTRIES = (
    HPARAMS_FILE,
    WEIGHTS_FILE,
    LABELS_FILE,
    TOKENIZER_FILE,
    CODEC_FOLDER,
    READER_FILE,
)
# Weights that an error names; the rest is counted.
NAMED = 3


def read_export_header(folder, hparams_file=HPARAMS_FILE):
    """Checks that a folder is an export and says what it is for, without building anything.

    Returns the YAML's plain values at top level, as strings: ``interface``, ``sample_rate``, ... A
    UserError says that the folder, the YAML or the weights are missing, or that the YAML is not an
    export's.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist or is not a folder; give an export folder.")
    path = folder / hparams_file
    if not path.is_file():
        raise UserError(
            f"{folder} is not an export folder: it has no {hparams_file}; training writes an "
            "export folder at its end."
        )
    try:
        root = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is damaged, it is not valid YAML; export or copy it again."
        ) from error
    header = {}
    if isinstance(root, yaml.MappingNode):
        header = {
            key.value: value.value
            for key, value in root.value
            if isinstance(value, yaml.ScalarNode)
        }
    if "interface" not in header:
        raise UserError(
            f"{path} is not the description of an export (it names no interface); in the output "
            "folder of a training run, the export is a folder of its own."
        )
    if not (folder / WEIGHTS_FILE).is_file():
        raise UserError(f"{folder} has no {WEIGHTS_FILE}: the weights of the export are missing.")
    return header


def load_weights(model, path):
    """Loads weights strictly: the hook that an export's Pretrainer calls.

    SpeechBrain's own hook ignores missing and unexpected weights, so that a foreign file would
    leave a randomly initialized model behind. Here the file is a state dict, read without executing
    pickled code. One that is missing, cannot be read, or does not fit the model exactly is a
    UserError, and the model is unchanged.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.ckpt")
    >>> torch.save(torch.nn.Linear(2, 3).state_dict(), path)
    >>> load_weights(torch.nn.Linear(2, 3), path)
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist: the weights of the export are missing.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise UserError(
            f"{path} cannot be read as weights (truncated, or not a weight file); export or copy "
            "it again."
        ) from error
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise UserError(f"{path} is not a state dict: it holds something other than weights.")
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    misshapen = [
        f"{name} {list(weights[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    problems = [
        _count_and_name(found, problem)
        for found, problem in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (misshapen, "of another shape"),
        )
        if found
    ]
    if problems:
        raise UserError(
            f"{path} holds the weights of another model than {HPARAMS_FILE} beside it describes: "
            f"{'; '.join(problems)}."
        )
    model.load_state_dict(weights)


def _count_and_name(names, problem):
    named = ", ".join(map(str, names[:NAMED]))
    return f"{len(names)} {problem} ({named}{', ...' if len(names) > NAMED else ''})"


def load_labels(encoder, path):
    """Loads the speaker labels that ``CategoricalEncoder.save`` wrote: the hook that an export's
    Pretrainer calls. A file that is missing or damaged is a UserError."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist: the speaker labels of the export are missing.")
    try:
        encoder.load(path)
    except Exception as error:  # a line that is no literal raises whatever its parser raises
        raise UserError(
            f"{path} cannot be read as speaker labels; export or copy it again."
        ) from error
    encoder.expect_len(len(encoder))
