"""From manifests to batches: what all recipes share.

Authors
 * The waveglow-vq developers, 2026
"""

import copy
import math
import os
import zlib
from pathlib import Path

from waveglow_vq.data.segments import SegmentReader, read_utterance
from waveglow_vq.errors import UserError

import torch
from speechbrain.dataio.dataio import load_data_json
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import ReproducibleWeightedRandomSampler


def make_datasets(hparams, data_root):
    """The three datasets of a recipe, as its YAML describes them.

    Arguments
    ---------
    hparams : dict
        Holds ``manifest_folder``, ``features``, ``model``, ``segment_frames``,
        ``context_frames``, ``min_segment_dbfs``, ``random_shift`` and ``max_valid_utterances``.
    data_root : str or Path
        The corpus folder.

    Returns
    -------
    train : DynamicItemDataset
        Segments, see :func:`segment_dataset`.
    valid, test : DynamicItemDataset
        Utterances, see :func:`utterance_dataset`.
    """
    manifests, features = Path(hparams["manifest_folder"]), hparams["features"]
    train = segment_dataset(
        manifests / "train.json",
        data_root,
        features,
        history=hparams["model"].vocoder.history,
        segment_frames=hparams["segment_frames"],
        context_frames=hparams["context_frames"],
        min_loudness_dbfs=hparams["min_segment_dbfs"],
        random_shift=hparams["random_shift"],
    )
    valid = utterance_dataset(
        manifests / "valid.json", data_root, features, hparams["max_valid_utterances"]
    )
    test = utterance_dataset(manifests / "test.json", data_root, features)
    return train, valid, test


def segment_dataset(
    manifest, data_root, features, history=0, segment_frames=16, context_frames=64, **options
):
    """Training data: every access to an utterance cuts another random segment out of it.

    Arguments
    ---------
    manifest : str
        A manifest of the preparation (json).
    data_root : str or Path
        What ``{data_root}`` in it stands for.
    features : LogMel
        The feature contract.
    history, segment_frames, context_frames, options
        See :class:`~waveglow_vq.data.segments.SegmentReader`.

    Returns
    -------
    dataset : DynamicItemDataset
        Items ``id``, ``wav`` ``[samples]``, ``mel`` ``[context_frames, n_mels]``, ``start`` and,
        where ``history`` is not 0, ``history`` ``[history]``.
    """
    dataset = _dataset(manifest, data_root)
    features = copy.deepcopy(features)  # stays on the CPU, whatever becomes of the model's
    least = segment_frames * features.hop_length
    for key, entry in dataset.data.items():
        if entry["num_samples"] < least:
            raise UserError(
                f"{manifest}: {key} has {entry['num_samples']} samples, fewer than a training "
                f"segment of {least}; lower --segment_frames or raise --min_samples"
            )
    reader = SegmentReader(features, segment_frames, context_frames, history, **options)
    names = ["wav", "mel", "start"] + (["history"] if history else [])

    def cut(path):
        item = reader(path)
        yield from (item[name] for name in names)

    dataset.add_dynamic_item(cut, takes=["path"], provides=names)
    dataset.set_output_keys(["id"] + names)
    return dataset


def utterance_dataset(manifest, data_root, features, max_utterances=None):
    """Evaluation data: whole utterances, with the same dequantisation noise each time.

    Arguments
    ---------
    manifest, data_root, features
        As in :func:`segment_dataset`.
    max_utterances : int
        Take only the first so many; all where None.

    Returns
    -------
    dataset : DynamicItemDataset
        Items ``id``, ``wav`` ``[whole hops]`` and ``mel`` ``[frames, n_mels]``.
    """
    dataset = _dataset(manifest, data_root)
    features = copy.deepcopy(features)

    def read(path, key):
        noise = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        item = read_utterance(path, features, noise)
        yield item["wav"]
        yield item["mel"]

    dataset.add_dynamic_item(read, takes=["path", "id"], provides=["wav", "mel"])
    dataset.set_output_keys(["id", "wav", "mel"])
    if max_utterances is not None:
        dataset = dataset.filtered_sorted(select_n=max_utterances)
    return dataset


def _dataset(manifest, data_root):
    """Reads a manifest. Its ``wav``, which has to lie in the corpus, becomes ``path``; in a batch,
    ``wav`` is the waveform."""
    try:
        data = load_data_json(str(manifest), {"data_root": str(data_root)})
    except (OSError, ValueError) as error:
        raise UserError(f"{manifest} cannot be read ({error}); prepare the corpus anew") from None
    if not data:
        raise UserError(f"{manifest} lists no utterances; prepare the corpus anew")
    root = os.path.join(os.path.abspath(data_root), "")
    for key, entry in data.items():
        if "wav" not in entry or "num_samples" not in entry:
            raise UserError(f"{manifest}: {key} has no wav or num_samples; prepare it anew")
        entry["path"] = entry.pop("wav")
        if not os.path.abspath(entry["path"]).startswith(root):
            raise UserError(f"{manifest}: {key} names a file outside of {data_root}")
    return DynamicItemDataset(data)


def segment_sampler(dataset, segments_per_epoch, seed):
    """Draws utterances with replacement, each as often as its share of the corpus in time, so that
    every second is as likely as any other, and an epoch is as long as wanted.

    Arguments
    ---------
    dataset : DynamicItemDataset
        From :func:`segment_dataset`.
    segments_per_epoch : int
        Segments that make an epoch, of all processes together.
    seed : int
        Of the draw; each epoch has its own.
    """
    if segments_per_epoch < 1:
        raise UserError(f"segments_per_epoch: {segments_per_epoch}; it has to be at least 1")
    weights = [float(dataset.data[key]["num_samples"]) for key in dataset.data_ids]
    return ReproducibleWeightedRandomSampler(
        weights, segments_per_epoch, replacement=True, seed=seed
    )


def planned_steps(batches_per_epoch, number_of_epochs, grad_accumulation_factor=1):
    """Optimizer steps of a whole run; SpeechBrain drops an epoch's last, partial accumulation.

    Example
    -------
    >>> planned_steps(batches_per_epoch=25, number_of_epochs=10, grad_accumulation_factor=2)
    120
    """
    return math.floor(batches_per_epoch / grad_accumulation_factor) * number_of_epochs
