"""The earlier run in an output folder."""

from waveglow_vq.errors import UserError

import torch


def check_earlier_run(hparams):
    """Checks that an output folder holds no run of another model. Its options and manifests would
    be replaced before its checkpoint is found not to fit. The model of a recipe with a ``codec`` is
    not known yet, and is not compared.

    Example
    -------
    >>> check_earlier_run({"output_folder": "results/new"})
    """
    model, checkpointer = hparams.get("model"), hparams.get("checkpointer")
    if model is None or checkpointer is None or "codec" in hparams:
        return
    newest = checkpointer.find_checkpoint()
    path = None if newest is None else newest.paramfiles.get("model")
    if path is None:
        return
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        there = {name: tuple(value.shape) for name, value in saved.items()}
    except Exception:  # of half a dozen kinds; who loads it says what is damaged, and what to do
        return
    here = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    differing = [name for name in here | there if here.get(name) != there.get(name)]
    if differing:
        name = differing[0]
        raise UserError(
            f"{hparams['output_folder']} holds a run of another model: {name} is "
            f"{_shape(there.get(name))} there and {_shape(here.get(name))} here; give the options "
            "of that run (its hyperparams.yaml has them), or another --output_folder"
        )


def _shape(shape):
    return "missing" if shape is None else f"of shape {list(shape)}"
