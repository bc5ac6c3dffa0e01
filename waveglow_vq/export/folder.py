"""Exports trained models to folders that ``from_hparams`` loads offline, without the recipe."""

import os
import shutil

from waveglow_vq.errors import UserError
from waveglow_vq.export.hparams import export_hparams, text_to_speech_hparams
from waveglow_vq.inference.base import find_interface
from waveglow_vq.inference.codes.coding import load_codec
from waveglow_vq.inference.loading import (
    CODEC_FOLDER,
    EXPORT_ENTRIES,
    HPARAMS_FILE,
    LABELS_FILE,
    READER_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    read_export_header,
)
from waveglow_vq.lobes.source.pitch_reader import save_pitch_reader
from waveglow_vq.signals import held_signals
from waveglow_vq.utils.files import file_checksum, partial_folder, user_path

import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel


def export_model(hparams_text, model, export_folder, interface, labels=None, sampling_sigma=None):
    """Writes an export folder and loads it once as a test.

    The folder appears complete or not at all: it is written under another name and then renamed.
    An earlier export there is replaced, but other files in its folder stay.

    Arguments
    ---------
    hparams_text : str
        The hyperparameters of the run, flattened, as SpeechBrain writes them to
        ``<output_folder>/hyperparams.yaml``. The export keeps ``model``, the ``preset`` that it is
        part of, ``features`` (or ``preset[contract][features]``) and, where there is one,
        ``refine``.
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
    interface = interface if isinstance(interface, str) else interface.__name__
    find_interface(interface)
    text = export_hparams(hparams_text, interface, labels is not None, sampling_sigma)
    return _write_export(export_folder, interface, text, model, labels)


def export_text_to_speech(
    hparams_text,
    model,
    tokenizer_path,
    codec_folder,
    export_folder,
    labels=None,
    codec_checksum=None,
):
    """Writes an export folder of text to speech: the text-to-codes model, its tokenizer, and a copy
    of the codec; otherwise as :func:`export_model`.

    Arguments
    ---------
    hparams_text : str
        The hyperparameters of the run, flattened. The export keeps ``model``, its ``preset`` and,
        if there are any, ``search`` (its default
        :class:`~waveglow_vq.lobes.text_to_codes.search.SearchOptions`), ``closing_mark`` and
        ``max_characters``, the longest text that it speaks at once.
    model : torch.nn.Module
        The trained :class:`~waveglow_vq.lobes.text_to_codes.model.TextToCodes`; wrapped by
        DistributedDataParallel or AveragedModel or not.
    tokenizer_path : str or Path
        What :func:`~waveglow_vq.text.tokenizer.train_tokenizer` wrote.
    codec_folder : str or Path
        The export of the codec.
    export_folder : str or Path
        Where to write.
    labels : list or CategoricalEncoder
        Labels of the speakers that the model tells apart, in the order of their numbers; None if
        it does not.
    codec_checksum : str
        Of the codec whose codes the model was trained on; None: not compared.

    Returns
    -------
    Path
        The export folder.
    """
    codec_folder, tokenizer_path = user_path(codec_folder), user_path(tokenizer_path)
    codec = load_codec(codec_folder, {"device": "cpu"})
    if codec_checksum not in (None, codec.checksum):
        raise UserError(
            f"{codec_folder} is a codec with checksum {codec.checksum[:12]}..., and the model was "
            f"trained on codes of the one with {codec_checksum[:12]}...; export it with that one."
        )
    checksums = file_checksum(tokenizer_path), codec.checksum
    with_labels = labels is not None
    text = text_to_speech_hparams(hparams_text, codec.sample_rate, *checksums, with_labels)

    def add_parts(folder):
        shutil.copyfile(tokenizer_path, folder / TOKENIZER_FILE)
        (folder / CODEC_FOLDER).mkdir()
        for name in (HPARAMS_FILE, WEIGHTS_FILE, LABELS_FILE, READER_FILE):
            if (codec_folder / name).is_file():
                shutil.copyfile(codec_folder / name, folder / CODEC_FOLDER / name)

    return _write_export(export_folder, "TextToSpeech", text, model, labels, add_parts)


def _write_export(export_folder, interface, text, model, labels, add_parts=None):
    """Writes a folder under another name, loads it, and renames it; ``add_parts(folder)`` adds what
    an interface has beside weights and labels."""
    if isinstance(model, (DistributedDataParallel, AveragedModel)):
        model = model.module
    export_folder = user_path(export_folder).resolve()
    check_place(export_folder)
    # Copies: a view into a larger storage would be saved with all of it.
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"the model is not exported: its weight {name} holds NaN or infinity")

    with partial_folder(export_folder) as partial:
        (partial / HPARAMS_FILE).write_text(text, "utf-8")
        torch.save(weights, partial / WEIGHTS_FILE)
        if labels is not None:
            _label_encoder(labels).save(partial / LABELS_FILE)
        if getattr(model, "reads_pitch", False):
            save_pitch_reader(model.pitch_reader, partial / READER_FILE)
        if add_parts is not None:
            add_parts(partial)
        # Building draws random initial weights: training goes on as if it had not happened.
        with torch.random.fork_rng(devices=[]):
            find_interface(interface).from_hparams(partial, run_opts={"device": "cpu"})
        with held_signals():
            _put_in_place(partial, export_folder)
    return export_folder


def interface_of(model):
    """The class of ``waveglow_vq.inference`` for a trained model: a converter if it knows speakers,
    else a codec if it has codes, else a vocoder.
    """
    if model.speakers is not None:
        return "VoiceConverter"
    return "WaveGlowVocoder" if model.quantizer is None else "SpeechCodec"


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
    folder = user_path(folder)
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
        if entry.name not in EXPORT_ENTRIES:
            entry.rename(folder / entry.name)
    shutil.rmtree(earlier)
