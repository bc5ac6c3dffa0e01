"""Averages checkpoints of a run and exports the model."""

from pathlib import Path

from waveglow_vq.data.datasets import read_manifest
from waveglow_vq.data.speakers import SPEAKERS_FILE, read_speakers
from waveglow_vq.errors import UserError
from waveglow_vq.export.folder import export_model, export_text_to_speech, interface_of
from waveglow_vq.export.hparams import model_hparams
from waveglow_vq.inference.loading import (
    CODEC_FOLDER,
    HPARAMS_FILE,
    LABELS_FILE,
    TOKENIZER_FILE,
    load_labels,
)
from waveglow_vq.training.averaging import average_checkpoints, choose_checkpoints
from waveglow_vq.training.checkpointing import KillSafeCheckpointer
from waveglow_vq.training.model_brain import VALID_LOSS
from waveglow_vq.training.multispeaker_brain import speaker_centroids

import yaml
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.encoder import CategoricalEncoder


def average_run(run_folder, count, export_folder, best=False, name=None):
    """Averages checkpoints of a run and exports the model with the mean weights.

    The run's ``output_folder`` may have kept fewer than ``count`` end-of-epoch checkpoints;
    ``best`` takes those with the lowest validation loss instead of the last. ``name`` is
    ``averaged`` (the average during the run) or ``model``; None for ``averaged`` if there is one.
    Returns the checkpoints, the last or best one first, the name, and the class of
    ``waveglow_vq.inference`` that the export is for.
    """
    if count < 1:
        raise UserError(f"{count} checkpoints cannot be averaged; give a number of at least 1")
    run_folder = Path(run_folder)
    path = run_folder / HPARAMS_FILE
    if not path.is_file():
        raise UserError(f"{run_folder} is not the output folder of a run: it has no {HPARAMS_FILE}")
    text = path.read_text("utf-8")
    try:
        settings = _read_settings(text)
    except yaml.YAMLError:
        raise UserError(f"{path} is damaged: it is not valid YAML") from None
    save_folder = _find_first(run_folder / "save", settings.get("save_folder"))
    if save_folder is None:
        raise UserError(f"{run_folder} holds no checkpoints: there is no folder {run_folder}/save")
    key = VALID_LOSS if best else None
    chosen = choose_checkpoints(KillSafeCheckpointer(save_folder), count, key)
    if name is None:
        name = "averaged" if "averaged" in chosen[0].paramfiles else "model"
    weights = average_checkpoints(chosen, name)

    # Only the model of the run's objects is built, by the means of an export.
    built = load_hyperpyyaml(model_hparams(text))
    model = built["model"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"the checkpoints in {save_folder} hold another model than {path} describes "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    model.eval()
    if "codec_checksum" in settings:
        _export_text(text, model, run_folder, settings, export_folder)
        return chosen, name, "TextToSpeech"
    labels = None
    if model.speakers is not None:
        labels = _speaker_labels(run_folder, settings)
        if model.speakers.hears_references:
            _know_speakers(model.speakers, built["features"], run_folder, settings)
    interface = interface_of(model)
    export_model(text, model, export_folder, interface, labels)
    return chosen, name, interface


def _export_text(text, model, run_folder, settings, export_folder):
    """Exports a model of text to codes with what the run was trained with."""
    tokenizer = _find_first(run_folder / TOKENIZER_FILE, settings.get("tokenizer_file"))
    # The run's own export has a copy.
    codec = _find_first(settings.get("codec"), run_folder / "export" / CODEC_FOLDER)
    for found, what in ((tokenizer, TOKENIZER_FILE), (codec, "the export of the codec")):
        if found is None:
            raise UserError(
                f"{run_folder}: {what} that it was trained with is missing; put it where "
                f"{HPARAMS_FILE} there says"
            )
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    labels = next((node for key, node in root.value if key.value == "speakers"), None)
    if labels is not None:
        labels = [label.value for label in labels.value]
    checksum = settings["codec_checksum"]
    export_text_to_speech(text, model, tokenizer, codec, export_folder, labels, checksum)


def _read_settings(text):
    """The plain values at the top of the run's YAML, as text; nothing is built."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return {}
    return {
        key.value: value.value
        for key, value in root.value
        if isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":null")
    }


def _find_first(*paths, holding="."):
    """The first path that exists: a run may have been moved since its YAML was written."""
    paths = (Path(path) for path in paths if path)
    return next((path for path in paths if (path / holding).exists()), None)


def _manifest_folder(run_folder, settings, holding):
    folders = settings.get("shards_folder"), run_folder / "manifests"
    return _find_first(*folders, settings.get("manifest_folder"), holding=holding)


def _speaker_labels(run_folder, settings):
    """From the manifests of the run, or else from its own export."""
    manifests = _manifest_folder(run_folder, settings, SPEAKERS_FILE)
    if manifests is not None:
        return read_speakers(manifests).labels
    encoder = CategoricalEncoder()
    path = run_folder / "export" / LABELS_FILE
    if not path.is_file():
        raise UserError(
            f"{run_folder}: who the speakers are is neither in its manifest folder "
            f"({SPEAKERS_FILE}) nor in its export; prepare the corpus again"
        )
    load_labels(encoder, path)
    return encoder


def _know_speakers(condition, features, run_folder, settings):
    """Gives the encoder of speakers the mean vectors of those it was trained on, which are those
    of its own weights."""
    manifests = _manifest_folder(run_folder, settings, "train.json")
    if manifests is None:
        raise UserError(
            f"{run_folder}: its manifest folder is missing, and the vectors of the known speakers "
            "are computed from the training data"
        )
    data_root = settings.get("shards_folder", settings.get("audio_folder", "."))
    data = read_manifest(manifests / "train.json", data_root).data
    speakers = read_speakers(manifests)
    condition.set_centroids(speaker_centroids(condition, features, data.values(), speakers))
