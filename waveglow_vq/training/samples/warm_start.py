"""The stage of a run, and the model that the second one begins with."""

from waveglow_vq.errors import UserError
from waveglow_vq.inference.base import find_interface
from waveglow_vq.inference.loading import read_export_header
from waveglow_vq.utils.files import user_path
from waveglow_vq.utils.validation import require_choice

import torch

LIKELIHOOD, SAMPLES = "likelihood", "samples"
# The file of a checkpoint by which the second stage is known.
RECORD = "samples_record"
# Of HiFi-GAN's discriminators, whose weights and two moments are part of a checkpoint.
DISCRIMINATOR_BYTES = 3 * 4 * 70_724_591


def check_stage(hparams):
    """Checks the stage of a run before anything is written: that its folder does not hold one of
    the other, and that there is a model to begin with, which fits.

    Example
    -------
    >>> check_stage({"stage": "both"})
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: stage: 'both' is not one of likelihood, samples
    """
    stage = hparams.get("stage")
    if stage is None:
        return  # of a recipe without stages
    require_choice("stage", stage, (LIKELIHOOD, SAMPLES))
    checkpointer = hparams.get("checkpointer")
    newest = None if checkpointer is None else checkpointer.find_checkpoint()
    if newest is not None:
        there = SAMPLES if RECORD in newest.paramfiles else LIKELIHOOD
        if there != stage:
            raise UserError(
                f"{hparams['output_folder']} holds a run of the stage {there}; give another "
                f"--output_folder, or --stage {there}"
            )
    if stage == SAMPLES:
        if hparams["model"].quantizer is not None:
            raise UserError("stage: samples is for models without codes")
        if newest is None:
            load_start(hparams)


def load_start(hparams):
    """The weights that a run in the stage of samples begins with: the state of the model in
    ``init_from``.

    Raises
    ------
    UserError
        In one sentence, if there is no such model, or one of other sizes.
    """
    folder = hparams.get("init_from")
    if folder is None:
        raise UserError(
            "stage: samples begins with a trained model; give --init_from RUN, the folder of a "
            "finished run or its export"
        )
    folder = user_path(folder)
    # A run's own folder has its export in it.
    folder = folder / "export" if (folder / "export").is_dir() else folder
    interface = find_interface(read_export_header(folder)["interface"])
    # Building draws random initial weights.
    with torch.random.fork_rng(devices=[]):
        exported = interface.from_hparams(folder, run_opts={"device": "cpu"})
    there, here = exported.mods.model, hparams["model"]
    theirs = _settings(there, getattr(exported.mods, "features", None))
    ours = _settings(here, hparams["features"])
    differing = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    if differing:
        name = differing[0]
        raise UserError(
            f"init_from: {folder} holds another model: its {name} is {theirs.get(name)}, and here "
            f"it is {ours.get(name)}; give the options of its run (those are in its "
            "hyperparams.yaml)"
        )
    speakers = hparams.get("speakers")
    known = None if here.speakers is None or speakers is None else list(speakers.labels)
    if known is not None and known != exported.speakers:
        # Known when the corpus is prepared.
        raise UserError(
            f"init_from: {folder} knows other speakers than the corpus; train on the one that it "
            "was trained on"
        )
    return there.state_dict()


def _settings(model, features):
    """What two models have to share, by name."""
    found = {}
    if features is not None:
        names = ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels", "f_min", "f_max")
        found |= {name: getattr(features, name) for name in names}
    vocoder = getattr(model, "vocoder", None)
    names = ("group_size", "early_every", "early_size", "condition_geometry", "excitation")
    for name in names:
        found[name] = getattr(vocoder, name, None)
    if getattr(vocoder, "envelope", None) is not None:
        found["order"] = vocoder.envelope.order
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    return {**found, **shapes}
