"""From manifests and extracted codes to batches of text and codes."""

import logging
from itertools import islice
from pathlib import Path

from waveglow_vq.data.manifests import load_manifest
from waveglow_vq.errors import UserError
from waveglow_vq.training.text_to_codes.code_corpus import read_code_corpus

import numpy as np
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DistributedSamplerWrapper, DynamicBatchSampler
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)
# SpeechBrain's sampler logs that it makes batches, several times in an epoch.
logging.getLogger(DynamicBatchSampler.__module__).addFilter(
    lambda record: "Generating dynamic batches" not in record.getMessage()
)

# Most buckets of length from which batches are drawn, and the fewest batches of one: its last batch
# is rarely full.
MOST_BUCKETS = 16
BATCHES_OF_A_BUCKET = 4


class TextDataset(DynamicItemDataset):
    """SpeechBrain's; but a spawned process that gets it imports this module, and so `waveglow_vq`
    before SpeechBrain."""


def make_text_datasets(hparams, data_root, tokenizer, labels=None, checksum=None):
    """The training, validation and test datasets of a recipe; see :func:`text_dataset`. ``hparams``
    holds ``manifest_folder``, ``codes_folder``, ``min_codes``, ``max_codes`` and
    ``max_valid_utterances``.
    """
    manifests = Path(hparams["manifest_folder"])

    def dataset(split, most=None):
        return text_dataset(
            manifests / f"{split}.json",
            data_root,
            hparams["codes_folder"],
            tokenizer,
            labels=labels,
            min_codes=hparams["min_codes"],
            max_codes=hparams["max_codes"],
            max_utterances=most,
            checksum=checksum,
        )

    return dataset("train"), dataset("valid", hparams["max_valid_utterances"]), dataset("test")


def text_dataset(
    manifest,
    data_root,
    codes_folder,
    tokenizer,
    labels=None,
    min_codes=1,
    max_codes=None,
    max_utterances=None,
    checksum=None,
):
    """Utterances as tokens and codes, all in memory. The log counts those left out: without text or
    codes, with a text that the tokenizer refuses, with too few or too many codes, or of an unknown
    speaker.

    Arguments
    ---------
    manifest, data_root, codes_folder, checksum
        See :func:`~waveglow_vq.training.text_to_codes.code_corpus.read_code_corpus`.
    tokenizer : TextTokenizer
        ``encode(text)`` gives the tokens.
    labels : list of str
        Of the speakers, in the order of their numbers; None for one speaker.
    min_codes, max_codes : int
        Bounds of the number of codes; None for no upper one.
    max_utterances : int
        Only the first so many of what is left; None for all.

    Returns
    -------
    dataset : TextDataset
        Items ``id``, ``tokens`` int64 ``[S]``, ``codes`` int64 ``[T]``, with pitch beside the codes
        ``pitch`` int64 ``[T]``, and with labels ``speaker``, a number: of a batch, ``[B]``. In
        ``dataset.data[id]`` there are ``text``, ``path`` of the recording, ``samples`` and
        ``speaker_label`` too.

    Raises
    ------
    UserError
        If nothing is left, or a file cannot be read.
    """
    data, left_out, refused = {}, {}, None
    numbers = {label: number for number, label in enumerate(labels or [])}
    for utterance in read_code_corpus(codes_folder, manifest, data_root, checksum):
        length, reason, tokens = len(utterance.codes), None, []
        if length < min_codes:
            reason = "too short"
        elif max_codes is not None and length > max_codes:
            reason = "too long"
        elif labels is not None and utterance.speaker not in numbers:
            reason = "of unknown speakers"
        else:
            try:
                tokens = tokenizer.encode(utterance.text)
            except UserError as error:
                reason, refused = "with an unusable text", refused or f"{utterance.id}: {error}"
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        entry = {
            "text": utterance.text,
            "path": utterance.wav,
            "samples": utterance.samples,
            "speaker_label": utterance.speaker,
            "stored_tokens": _pack(np.array(tokens)),
            "stored_codes": _pack(utterance.codes.numpy()),
        }
        if utterance.pitch is not None:
            entry["stored_pitch"] = _pack(utterance.pitch.numpy())
        if labels is not None:
            entry["speaker"] = numbers[utterance.speaker]
        data[utterance.id] = entry
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    if refused:
        logger.warning(f"{manifest}: a text cannot be used: {refused}")
    if not data:
        raise UserError(
            f"{manifest} leaves no utterance to train on ({counts}); change --min_codes or"
            " --max_codes, or give another corpus"
        )
    if counts:
        logger.info(f"{manifest}: {len(data)} utterances are used; left out: {counts}")
    dataset = TextDataset(dict(islice(data.items(), max_utterances)))
    names = ["tokens", "codes"] + ["pitch"] * any("stored_pitch" in x for x in data.values())
    for name in names:
        dataset.add_dynamic_item(_tensor, takes=f"stored_{name}", provides=name)
    dataset.set_output_keys(["id", *names] + ["speaker"] * (labels is not None))
    return dataset


def text_loader(dataset, max_batch_codes, seed, rank=0, world=1, **loader_kwargs):
    """The loader of training batches of about one length, drawn again in every epoch; its position
    within an epoch can be saved. All processes get as many batches: if they cannot be dealt out
    evenly, the first are used twice.

    Arguments
    ---------
    dataset : TextDataset
        From :func:`text_dataset`.
    max_batch_codes : int
        Most codes of a batch, padding included. A longer utterance is a batch of its own.
    seed : int
        Of the draws, which differ between epochs.
    rank, world : int
        Number of this process, and of all.
    loader_kwargs
        ``num_workers`` and others of torch's DataLoader.

    Returns
    -------
    loader : SaveableDataLoader
        Its length is the number of this process's batches. A batch is a PaddedBatch: ``tokens``,
        ``codes`` and ``pitch`` are padded with 0, ``speaker`` is ``[B]``.
    sampler : object
        Call its ``set_epoch(epoch)`` before every epoch.

    Raises
    ------
    UserError
        If there are too few batches for the processes.

    Example
    -------
    >>> data = {str(n): {"stored_codes": torch.arange(n), "codes": n} for n in range(5, 25)}
    >>> dataset = DynamicItemDataset(data, output_keys=["id", "codes"])
    >>> loader, sampler = text_loader(dataset, max_batch_codes=50, seed=0)
    >>> sampler.set_epoch(1)
    >>> max(len(batch.id) * max(batch.codes) for batch in loader)
    tensor(48)
    """
    lengths = [len(dataset.data[key]["stored_codes"]) for key in dataset.data_ids]
    sampler = DynamicBatchSampler(
        dataset,
        max_batch_codes,
        lengths_list=lengths,
        bucket_boundaries=_boundaries(lengths, max_batch_codes),
        seed=seed,
    )
    if world > 1:
        if len(sampler) <= world:
            # SpeechBrain cannot deal out a single batch to each either.
            raise UserError(
                f"max_batch_codes: with {max_batch_codes}, {len(dataset)} utterances make"
                f" {len(sampler)} batches, too few for {world} processes; lower it, or start fewer"
            )
        # By name: the wrapper's first argument takes the place of one.
        parts = {"num_replicas": world, "rank": rank, "shuffle": False}
        sampler = DistributedSamplerWrapper(sampler, **parts)
    # A generator of its own: a resumed epoch makes one more iterator, which would draw from the
    # global one.
    own = torch.Generator().manual_seed(seed)
    loader_kwargs = {"collate_fn": PaddedBatch, "generator": own, **loader_kwargs}
    return make_dataloader(dataset, batch_sampler=sampler, **loader_kwargs), sampler


def training_labels(manifest, data_root):
    """Sorted labels of the speakers who have a text in a manifest."""
    entries = load_manifest(manifest, data_root, ("wav", "speaker")).values()
    return sorted({entry["speaker"] for entry in entries if str(entry.get("text") or "").strip()})


def _boundaries(lengths, max_batch_codes):
    """The greatest lengths of the buckets, which hold about equally many utterances. SpeechBrain's
    own, of a log-normal distribution, do not fit these lengths."""
    count = sum(lengths) // (BATCHES_OF_A_BUCKET * max_batch_codes)
    count = min(max(count, 1), MOST_BUCKETS, len(lengths))
    ordered = sorted(lengths)
    return sorted({ordered[len(ordered) * (i + 1) // count - 1] for i in range(count)})


def _pack(numbers):
    """Integers in the smallest type. No tensors: each that is sent to a process would take an open
    file."""
    return numbers.astype(np.int16 if numbers.max() < 2**15 else np.int32)


def _tensor(numbers):
    return torch.from_numpy(numbers.astype(np.int64))
