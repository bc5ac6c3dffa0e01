"""From manifests to datasets: segments to train on, and whole utterances to evaluate on."""

import copy
import functools
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.data.manifests import load_manifest, read_pitch
from waveglow_vq.data.sampling import SegmentDataset
from waveglow_vq.data.segment_batch import SOUNDS, sounds_of
from waveglow_vq.data.segments import SegmentReader, read_utterance
from waveglow_vq.data.shards.format import read_shards, sound_source
from waveglow_vq.data.speakers import Speakers
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.pitch_condition import normalize_pitch
from waveglow_vq.utils.seeding import seeded

import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from torch.nn import functional as F


def make_datasets(hparams, data_root, speakers=None):
    """The three datasets of a recipe, as its YAML describes them.

    Arguments
    ---------
    hparams : dict
        Holds ``manifest_folder``, ``features``, ``model``, ``segment_frames``,
        ``context_frames``, ``min_segment_dbfs``, ``random_shift`` and ``max_valid_utterances``;
        with ``shards_folder``, all data, manifests included, come from there.
    data_root : str or Path
        The corpus folder; not needed with shards.
    speakers : Speakers
        Of the corpus, where there are several; see :class:`SpeakerItems`.

    Returns
    -------
    train : SegmentDataset
        Segments, see :func:`segment_dataset`.
    valid, test : UtteranceDataset
        Utterances, see :func:`utterance_dataset`.
    """
    manifests, features = Path(hparams["manifest_folder"]), hparams["features"]
    model = hparams["model"]
    extra = shards = None
    if hparams.get("shards_folder"):
        found = read_shards(hparams["shards_folder"], features.sample_rate)
        manifests = data_root = found.folder
        shards = found.of("train")
    if speakers is not None:
        by_reference = model.speakers is not None and model.speakers.hears_references
        extra = SpeakerItems(speakers, model.uses_pitch, by_reference)
    train = segment_dataset(
        manifests / "train.json",
        data_root,
        features,
        speakers=extra,
        shards=shards,
        history=model.vocoder.history,
        segment_frames=hparams["segment_frames"],
        context_frames=hparams["context_frames"],
        min_loudness_dbfs=hparams["min_segment_dbfs"],
        random_shift=hparams["random_shift"],
    )
    valid = utterance_dataset(
        manifests / "valid.json", data_root, features, hparams["max_valid_utterances"], extra
    )
    test = utterance_dataset(manifests / "test.json", data_root, features, speakers=extra)
    return train, valid, test


class SpeakerItems(NamedTuple):
    """What batches hold of the speakers: ``speaker``, the number; with ``pitch`` also ``pitch``
    ``[frames, 2]``, see :func:`~waveglow_vq.lobes.conditioners.pitch_condition.normalize_pitch`,
    and ``f0_statistics`` ``[2]``; with ``reference`` also ``reference`` ``[frames, n_mels]``, of
    any utterance of the speaker in training, and of the utterance itself in evaluation.
    """

    speakers: Speakers
    pitch: bool = False
    reference: bool = False

    @property
    def names(self):
        """Names of the items."""
        wanted = {"speaker": True, "pitch": self.pitch, "f0_statistics": self.pitch}
        wanted["reference"] = self.reference
        return [name for name, yes in wanted.items() if yes]

    def items(self, entry, first_frame, frames, source=sound_source):
        """The items of frames of an utterance, but the reference."""
        number = self.speakers.number(entry["speaker_label"])
        if not self.pitch:
            return [number]
        statistics = torch.tensor([entry["log_f0_mean"], entry["log_f0_std"]])
        if number >= 0:
            statistics = self.speakers.f0_statistics[number]
        log_f0 = read_pitch(source(entry["pitch_path"]))
        log_f0 = F.pad(log_f0[first_frame : first_frame + frames], (0, frames))[:frames]
        return [number, normalize_pitch(log_f0[None], statistics[None])[0], statistics]

    def check(self, manifest, data):
        """Raises a UserError if an entry of a manifest lacks what the items come from."""
        wanted = ["speaker_label"] + ["pitch_path", "log_f0_mean", "log_f0_std"] * self.pitch
        for key, entry in data.items():
            if missing := [name for name in wanted if name not in entry]:
                missing = missing[0].removesuffix("_label").removesuffix("_path")
                raise UserError(f"{manifest}: {key} has no {missing}; prepare the corpus again")


def segment_dataset(
    manifest,
    data_root,
    features,
    history=0,
    segment_frames=16,
    context_frames=64,
    speakers=None,
    shards=None,
    **options,
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
    speakers : SpeakerItems
        What to tell of the speakers, or None.
    shards : list of Shard
        What the utterances lie in, or None if that are files of their own.

    Returns
    -------
    dataset : SegmentDataset
        Items ``id``, ``wav`` ``[samples]``, ``mel`` ``[context_frames, n_mels]``, ``start`` and,
        where ``history`` is not 0, ``history`` ``[history]``; those of ``speakers``; and
        ``skipped``, sentences of the clips that could not be read.
    """
    dataset = SegmentDataset(read_manifest(manifest, data_root).data)
    # Whoever streams the shards says what of them is in memory.
    dataset.shards, dataset.source = shards, sound_source
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
    extra = [] if speakers is None else speakers.names
    if speakers is not None:
        speakers.check(manifest, dataset.data)
    by_speaker = {}
    for entry in dataset.data.values():
        by_speaker.setdefault(entry.get("speaker_label"), []).append(entry["path"])

    cut = functools.partial(_cut, dataset, reader, names, speakers, by_speaker)
    dataset.add_dynamic_item(cut, takes=["id", "generator"], provides=sounds_of(names + extra))
    for name, sound in SOUNDS.items():
        if name in names + extra:
            dataset.add_dynamic_item(reader.log_mel, takes=sound, provides=name)
    dataset.set_output_keys(["id"] + names + extra)
    return dataset


# Functions of the module, since data loaders that are not forked are sent the dataset; and no
# generators: one of those that an error ended would stay ended.
def _cut(dataset, reader, names, speakers, by_speaker, key, generator):
    entry = dataset.data[key]
    item = reader.cut(dataset.source(entry["path"]), generator)
    values = [item[name] for name in sounds_of(names)]
    if speakers is not None:
        frame, frames = item["first_frame"], reader.frames_of(item["context"])
        values += speakers.items(entry, frame, frames, dataset.source)
        if speakers.reference:
            paths = by_speaker[entry["speaker_label"]]
            chosen = int(torch.randint(len(paths), (), generator=generator))
            values.append(reader.cut_reference(dataset.source(paths[chosen]), generator))
    return values


class UtteranceDataset(DynamicItemDataset):
    """Whole utterances. One that cannot be read has ``id`` and ``skipped``, a list with the error;
    :func:`~waveglow_vq.data.loaders.collate_utterances` leaves it out.
    """

    def __getitem__(self, index):
        try:
            return super().__getitem__(index)
        except UserError as error:
            return {"id": self.data_ids[index], "skipped": [str(error)]}


def utterance_dataset(manifest, data_root, features, max_utterances=None, speakers=None):
    """Evaluation data: whole utterances, with the same dequantization noise each time.

    Arguments
    ---------
    manifest, data_root, features
        As in :func:`segment_dataset`.
    max_utterances : int
        Take only the first so many; all where None.
    speakers : SpeakerItems
        What to tell of the speakers, or None.

    Returns
    -------
    dataset : UtteranceDataset
        Items ``id``, ``wav`` ``[whole hops]`` and ``mel`` ``[frames, n_mels]``; and those of
        ``speakers``.
    """
    data = read_manifest(manifest, data_root).data
    if speakers is not None:
        speakers.check(manifest, data)
    dataset = UtteranceDataset(dict(islice(data.items(), max_utterances)))
    features = copy.deepcopy(features)

    read = functools.partial(_read, dataset, features, speakers)
    names = ["wav", "mel"] + ([] if speakers is None else speakers.names)
    dataset.add_dynamic_item(read, takes=["id"], provides=names)
    dataset.set_output_keys(["id"] + names)
    return dataset


def _read(dataset, features, speakers, key):
    entry = dataset.data[key]
    item = read_utterance(sound_source(entry["path"]), features, seeded(key))
    values = [item["wav"], item["mel"]]
    if speakers is not None:
        values += speakers.items(entry, 0, len(item["mel"]))
        if speakers.reference:
            values.append(item["mel"])
    return values


def read_manifest(manifest, data_root):
    """Reads a manifest. Names that batches need for tensors are changed: ``wav`` becomes ``path``,
    ``speaker`` ``speaker_label``, and ``pitch`` ``pitch_path``.
    """
    data = load_manifest(manifest, data_root, ("wav", "num_samples"))
    if not data:
        raise UserError(f"{manifest} lists no utterances; prepare the corpus again")
    # In a batch these names are those of tensors.
    renamed = {"wav": "path", "speaker": "speaker_label", "pitch": "pitch_path"}
    data = {k: {renamed.get(n, n): v for n, v in entry.items()} for k, entry in data.items()}
    return DynamicItemDataset(data)
