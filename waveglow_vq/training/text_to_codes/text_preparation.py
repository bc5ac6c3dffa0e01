"""What the recipes of text to codes do before they train: codes, tokenizer, sizes of the model."""

from pathlib import Path
from typing import NamedTuple

from waveglow_vq.data.manifests import load_manifest
from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.coding import load_codec
from waveglow_vq.text.normalization import MARKS
from waveglow_vq.text.tokenizer import TextTokenizer, train_tokenizer
from waveglow_vq.training.run.hyperparameters import load_hparams, merge_overrides
from waveglow_vq.training.text_to_codes.code_corpus import extract_codes
from waveglow_vq.training.text_to_codes.text_datasets import make_text_datasets, training_labels

import torch
from speechbrain.core import DEFAULT_LOG_CONFIG
from speechbrain.utils.distributed import run_on_main
from speechbrain.utils.logger import get_logger, setup_logging

logger = get_logger(__name__)

SPLITS = ("train", "valid", "test")
# If this share of the training texts ends with a mark, the export adds one to a text without.
CLOSED = 0.9


class CodecFacts(NamedTuple):
    """What the preparation needs of a codec: the ``sample_rate`` in Hz, the ``hop_length`` of its
    log-mels in samples, and the labels of its ``speakers``."""

    sample_rate: int
    hop_length: int
    speakers: list


def begin_log(output_folder):
    """Makes the folder of a run and begins its log, on the main process. SpeechBrain does so with
    the hyperparameters, which are not all known before the corpus is prepared."""
    folder = Path(output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    setup_logging(
        DEFAULT_LOG_CONFIG, {"handlers": {"file_handler": {"filename": str(folder / "log.txt")}}}
    )


def read_codec(codec_folder, several=False):
    """Checks the codec, the export of a model with codes, before anything is written. It may have
    several speakers only if ``several``.

    Example
    -------
    >>> read_codec(None)
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: no codec was given: --codec names the folder 'export' that ...
    """
    if codec_folder is None or not str(codec_folder).strip():
        raise UserError(
            "no codec was given: --codec names the folder 'export' that train.py hparams/vq.yaml "
            "writes to its output folder"
        )
    codec = load_codec(codec_folder, {"device": "cpu"})
    if not several and len(codec.speakers) > 1:
        raise UserError(
            f"{codec_folder} has {len(codec.speakers)} voices, but this recipe has one speaker; "
            "give a codec that was trained on one"
        )
    return CodecFacts(codec.sample_rate, codec.mods.features.hop_length, codec.speakers)


def prepare_text(hparams, overrides, data_root, codec, device=None):
    """Extracts the codes of a corpus and trains a tokenizer on its texts, unless they exist, on the
    main process.

    The overrides that it returns add what follows from corpus and codec: sizes of the model,
    checksum of the codec, longest text, labels of the speakers.
    """
    manifests = {name: Path(hparams["manifest_folder"]) / f"{name}.json" for name in SPLITS}
    report = extract_codes(
        hparams["codec"],
        manifests,
        data_root,
        hparams["codes_folder"],
        num_workers=hparams["code_workers"],
        device=device,
        max_skipped=hparams["max_skipped_clips"],
    )
    entries = load_manifest(manifests["train"], data_root).values()
    texts = [text for entry in entries if (text := str(entry.get("text") or "").strip())]
    if not texts:
        raise UserError(f"{manifests['train']} has no texts; give a corpus with texts")
    tokenizer = _tokenizer(hparams, texts)
    sizes = {
        "vocabulary_size": tokenizer.vocabulary_size,
        "codebook_size": report["codebook_size"],
        "pitch_levels": report["pitch_levels"],
    }
    filled = {"codec_checksum": report["checksum"]}
    if hparams["max_characters"] is None:
        # A model reads longer texts than it was trained on badly.
        filled["max_characters"] = max(map(len, texts))
    if hparams["closing_mark"] is None:
        closed = sum(text.rstrip(" '\"”’")[-1:] in MARKS for text in texts)
        filled["closing_mark"] = "." if closed >= CLOSED * len(texts) else ""
    if "speakers" in hparams:
        labels = training_labels(manifests["train"], data_root)
        if codec.speakers:
            # In its order, and no others.
            labels = [label for label in codec.speakers if label in labels]
        if not labels:
            raise UserError(
                f"{hparams['codec']} knows none of the speakers of {manifests['train']} with a "
                "text; give a codec that was trained on them"
            )
        filled["speakers"], sizes["max_speakers"] = labels, len(labels)
    return merge_overrides(overrides, filled, sizes)


def prepare_text_datasets(experiment, data_root, codec):
    """Codes, tokenizer, and the sizes of the model that follow from them; begins the run; and the
    training, validation and test datasets, with the model's statistics read off the training data.
    Every process has to call it.

    The experiment's ``hparams`` are built again with what is filled in, ``data_root``, and
    ``sample_rate``, the codec's.
    """
    device = experiment.run_opts["device"]
    arguments = [experiment.hparams, experiment.overrides, data_root, codec, device]
    experiment.overrides = run_on_main(prepare_text, arguments)
    hparams = load_hparams(experiment.hparams_file, experiment.overrides)
    hparams |= {"data_root": data_root, "sample_rate": codec.sample_rate}
    experiment.hparams = hparams
    experiment.begin()
    train, valid, test = make_text_datasets(
        hparams,
        data_root,
        TextTokenizer(hparams["tokenizer_file"]),
        labels=hparams.get("speakers"),
        checksum=hparams["codec_checksum"],
    )
    hparams["model"].fit_statistics(
        (len(entry["stored_tokens"]), torch.from_numpy(entry["stored_codes"]), None)
        for entry in train.data.values()
    )
    return train, valid, test


def _tokenizer(hparams, texts):
    """Loads or trains the tokenizer of the run."""
    path, kind = Path(hparams["tokenizer_file"]), hparams["tokenizer"]
    size = hparams["vocabulary_size"]
    if not path.is_file():
        tokenizer = train_tokenizer(texts, path, kind, size)
        logger.info(f"{path}: {tokenizer.vocabulary_size} tokens")
        return tokenizer
    tokenizer = TextTokenizer(path)
    own = tokenizer.kind, tokenizer.vocabulary_size
    if own[0] != kind if kind == "char" else own[1] != size:
        raise UserError(
            f"{path} is a tokenizer of {own[1]} tokens (kind {own[0]}), which does not fit "
            f"--tokenizer {kind} --vocabulary_size {size}; give another --output_folder"
        )
    return tokenizer
