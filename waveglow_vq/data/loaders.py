"""From datasets to batches, in one process or several."""

import copy

from waveglow_vq.data.sampling import SegmentSampler
from waveglow_vq.data.segment_batch import SegmentBatch, sounds_of
from waveglow_vq.data.shards.stream import ShardLoader

import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.sampler import DistributedSamplerWrapper


def collate_utterances(items):
    """Makes a batch of whole utterances. Its ``skipped`` has a sentence for each of those that
    could not be read; where nothing is left, it has no ``wav``, only the ``id`` of what is missing.

    Example
    -------
    >>> whole = {"id": "a", "wav": torch.zeros(512), "mel": torch.zeros(3, 80)}
    >>> damaged = {"id": "b", "skipped": ["b.wav is an empty file (0 bytes)."]}
    >>> batch = collate_utterances([whole, damaged])
    >>> batch.id, batch.skipped
    (['a'], ['b.wav is an empty file (0 bytes).'])
    >>> hasattr(collate_utterances([damaged]), "wav")
    False
    """
    whole = [item for item in items if "skipped" not in item]
    batch = PaddedBatch(whole or [{"id": item["id"]} for item in items])
    batch.skipped = [sentence for item in items for sentence in item.get("skipped", [])]
    return batch


def part_of(dataset, rank, world):
    """The utterances that one of several processes evaluates: a contiguous block, the first of them
    on the main process. Each utterance is evaluated once.

    Example
    -------
    >>> from waveglow_vq.data.datasets import UtteranceDataset
    >>> dataset = UtteranceDataset({name: {} for name in "abcde"})
    >>> [part_of(dataset, rank, 3).data_ids for rank in range(3)]
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    least, longer = divmod(len(dataset), world)
    begin = rank * least + min(rank, longer)
    part = copy.copy(dataset)
    part.data_ids = dataset.data_ids[begin : begin + least + (rank < longer)]
    return part


def training_loader(
    dataset, segments_per_epoch, seed, rank=0, world=1, log_mels=True, **loader_kwargs
):
    """The loader of training batches; its position within an epoch can be saved and recovered.

    Arguments
    ---------
    dataset : SegmentDataset
        From :func:`~waveglow_vq.data.datasets.make_datasets`.
    segments_per_epoch, seed
        See :class:`~waveglow_vq.data.sampling.SegmentSampler`.
    rank, world : int
        Of this process, and how many processes there are.
    log_mels : bool
        False: batches hold samples in the place of log-mels, for
        :meth:`~waveglow_vq.data.segment_batch.SegmentBatch.add_log_mels` on a GPU, which needs no
        time for them; for a processor they are most of the work.
    loader_kwargs
        ``batch_size``, ``num_workers`` and whatever else torch's DataLoader takes.

    Returns
    -------
    loader : SaveableDataLoader or ShardLoader
        Of SegmentBatches. Its length is the number of this process's batches in an epoch.
    sampler : object
        ``set_epoch(epoch)`` is to be called before every epoch.
    """
    names = list(dataset.pipeline.output_mapping)
    dataset.set_output_keys(names if log_mels else sounds_of(names))
    if dataset.shards is not None:
        options = {"seed": seed, "rank": rank, "world": world, **loader_kwargs}
        loader = ShardLoader(dataset, dataset.shards, segments_per_epoch, **options)
        return loader, loader
    sampler = SegmentSampler(dataset, segments_per_epoch, seed)
    if world > 1:
        # By name: the wrapper's own first argument takes the place of one.
        parts = {"num_replicas": world, "rank": rank, "shuffle": False}
        sampler = DistributedSamplerWrapper(sampler, **parts)
    # A generator of its own: nothing is taken from the global one when an iterator is made, so that
    # a resumed epoch, which makes one more, finds it as it was.
    own = torch.Generator().manual_seed(seed)
    options = {"collate_fn": SegmentBatch, "generator": own, **loader_kwargs}
    return make_dataloader(dataset, sampler=sampler, **options), sampler


def planned_steps(batches_per_epoch, number_of_epochs, grad_accumulation_factor=1):
    """Optimizer steps of a whole run; SpeechBrain drops an epoch's last, partial accumulation.

    Example
    -------
    >>> planned_steps(batches_per_epoch=25, number_of_epochs=10, grad_accumulation_factor=2)
    120
    """
    return batches_per_epoch // grad_accumulation_factor * number_of_epochs
