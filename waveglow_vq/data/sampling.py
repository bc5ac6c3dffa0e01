"""Draws of training segments: every item follows from the seed, the epoch and its position.

A run that is resumed, or continued with another number of processes, therefore sees the same data.
"""

from waveglow_vq.errors import UserError
from waveglow_vq.utils.distributed import world_size
from waveglow_vq.utils.seeding import Draw, seeded
from waveglow_vq.utils.validation import require_integer

import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from torch.utils.data import Sampler

# Clips that are tried in the place of one that cannot be read.
REPLACEMENTS = 20


class SegmentDataset(DynamicItemDataset):
    """Utterances of which segments are made, with a seed each; those that cannot be read are
    replaced.

    A dynamic item takes ``generator``, a torch.Generator, for its random numbers. An item has
    ``skipped`` besides its output keys: a sentence for each clip that could not be read and was
    replaced by another, drawn like the first.

    It is indexed by a :class:`~waveglow_vq.utils.seeding.Draw`; by a plain number too, and then the
    random numbers are those of torch's global state (``generator`` is None).

    Arguments
    ---------
    data : dict
        As for DynamicItemDataset; the entries have ``num_samples``.

    Example
    -------
    >>> data = {"a": {"num_samples": 100}, "b": {"num_samples": 300}}
    >>> dataset = SegmentDataset(data)
    >>> dataset.add_dynamic_item(
    ...     lambda generator: int(torch.randint(1000, (), generator=generator)),
    ...     takes="generator",
    ...     provides="begin",
    ... )
    >>> dataset.set_output_keys(["id", "begin"])
    >>> dataset[Draw(1, seed=5)]["begin"] == dataset[Draw(1, seed=5)]["begin"]
    True
    >>> sorted(dataset[Draw(1, seed=5)])
    ['begin', 'id', 'skipped']
    """

    def __init__(self, data):
        super().__init__(data)
        self.pipeline.add_static_keys(["generator"])
        lengths = [float(entry["num_samples"]) for entry in data.values()]
        self.cumulative = torch.tensor(lengths, dtype=torch.float64).cumsum(0)

    def draw(self, count, generator=None):
        """Draws utterances with replacement, each as often as its share of the corpus in time.
        Returns indices ``[count]``.
        """
        places = torch.rand(count, dtype=torch.float64, generator=generator) * self.cumulative[-1]
        indices = torch.searchsorted(self.cumulative, places, right=True)
        return indices.clamp_max(len(self.cumulative) - 1)

    def __getitem__(self, draw):
        generator, index, skipped = None, draw, []
        if isinstance(draw, Draw):
            generator, index = torch.Generator().manual_seed(draw.seed), draw.index
        while True:
            key = self.data_ids[index]
            try:
                item = self.pipeline.compute_outputs(
                    {"id": key, "generator": generator, **self.data[key]}
                )
                return {**item, "skipped": skipped}
            except UserError as error:
                skipped.append(str(error))
            if len(skipped) > REPLACEMENTS:
                raise UserError(
                    f"{skipped[0]} (and none of {REPLACEMENTS} other clips drawn in its place "
                    "could be read)"
                )
            index = int(self.draw(1, generator))


class SegmentSampler(Sampler):
    """The draws of an epoch, by duration, so that every second of the corpus is as likely as any
    other, and an epoch is as long as wanted.

    SpeechBrain's DistributedSamplerWrapper deals them out to processes: draw ``j`` of process
    ``r`` of ``W`` is draw ``j * W + r`` of the epoch.

    Arguments
    ---------
    dataset : SegmentDataset
        What to draw of.
    segments_per_epoch : int
        Segments that make an epoch, of all processes together.
    seed : int
        Of the draws; each epoch has its own.

    Example
    -------
    >>> dataset = SegmentDataset({"a": {"num_samples": 100}, "b": {"num_samples": 300}})
    >>> sampler = SegmentSampler(dataset, segments_per_epoch=8, seed=0)
    >>> sampler.set_epoch(1)
    >>> len(list(sampler)), list(sampler) == list(sampler)
    (8, True)
    """

    def __init__(self, dataset, segments_per_epoch, seed):
        world = world_size()
        least = 1 if world == 1 else world + 1  # SpeechBrain cannot deal out a single draw
        require_integer("segments_per_epoch", segments_per_epoch, least)
        self.dataset, self.segments_per_epoch = dataset, segments_per_epoch
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch):
        """Chooses the epoch that is iterated over next."""
        self.epoch = epoch

    def __len__(self):
        return self.segments_per_epoch

    def __iter__(self):
        generator = seeded(self.seed, self.epoch)
        indices = self.dataset.draw(self.segments_per_epoch, generator)
        seeds = torch.randint(2**32, (self.segments_per_epoch,), generator=generator)
        yield from map(Draw, indices.tolist(), seeds.tolist())
