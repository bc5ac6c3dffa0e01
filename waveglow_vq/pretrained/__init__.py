"""Weights that come with the package; ``README.md`` beside them says what they were trained on."""

import importlib.resources
from pathlib import Path

from waveglow_vq.errors import UserError

import safetensors.torch
import torch


def shipped(name, build):
    """What comes with the package under a file's name, as :func:`read_weights` builds it."""
    return _built((importlib.resources.files(__name__) / name).read_bytes(), build)


def read_weights(path, build, what):
    """The module that :func:`save_weights` wrote, in fp32 and evaluation mode.

    Arguments
    ---------
    path : str or Path
        The file.
    build : callable
        ``build(weights)`` makes a module of the sizes of the weights, a dict of tensors.
    what : str
        What it is, in words.

    Raises
    ------
    UserError
        If the file does not hold one.
    """
    try:
        return _built(Path(path).read_bytes(), build)
    except Exception as error:  # of files that are damaged, and of weights of something else
        raise UserError(
            f"{path} cannot be read as the weights of {what}; export or copy it again"
        ) from error


def _built(data, build):
    weights = safetensors.torch.load(data)
    # What is drawn at first takes nothing from what others draw from.
    with torch.random.fork_rng(devices=[]):
        module = build(weights)
    module.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return module.eval().requires_grad_(False)


def save_weights(module, path):
    """Writes the weights of a module in fp16, as safetensors."""
    weights = {name: weight.half() for name, weight in module.state_dict().items()}
    safetensors.torch.save_file(weights, path)
