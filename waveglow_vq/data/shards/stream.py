"""Training from shards: each process and each of its workers reads files of its own, from front to
back, once in an epoch.

What a worker does in an epoch is planned before anything is read, see plan.py. So an epoch
that was interrupted goes on where it was: what was trained on is neither cut nor kept, and shards
of which nothing is wanted any more are not opened.
"""

import json
import logging
import tarfile

from waveglow_vq.audio.sound_files import SoundBytes
from waveglow_vq.data.segment_batch import SegmentBatch
from waveglow_vq.data.shards.format import ShardMember, sound_source
from waveglow_vq.data.shards.plan import make_plan, order_draws, share_segments
from waveglow_vq.errors import UserError
from waveglow_vq.utils.read_tracking import note_reading
from waveglow_vq.utils.seeding import Draw, seeded
from waveglow_vq.utils.validation import require_integer

import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

logger = logging.getLogger(__name__)

# Utterances that a worker holds in memory and draws from: of LJSpeech, 40 MB.
HELD_UTTERANCES = 128


class ShardStream(IterableDataset):
    """The batches of one process, each made by one of its workers; see :class:`ShardLoader`.

    ``dataset.source(path)`` gives the bytes that a path of a manifest stands for.
    """

    def __init__(self, dataset, shards, plan, batch_size, seed=0, rank=0, held=HELD_UTTERANCES):
        self.dataset, self.shards, self.batch_size = dataset, shards, batch_size
        self.parts, self.batches = plan.parts[rank], plan.batches
        self.seed, self.rank, self.held = seed, rank, held
        self.epoch = self.start = 0

    def worker_plan(self, worker):
        """The shards of a worker in this epoch, in order, and its draws: pairs of the number of the
        utterance in that order and a seed.
        """
        generator = seeded("shards", self.seed, self.epoch, self.rank, worker)
        numbers = self.parts[worker]
        order = torch.randperm(len(numbers), generator=generator).tolist()
        shards = [self.shards[numbers[i]] for i in order]
        lengths = [self.dataset.data[key]["num_samples"] for shard in shards for key in shard.ids]
        batches = len(range(worker, self.batches, len(self.parts)))
        counts = share_segments(lengths, batches * self.batch_size, generator)
        draws = order_draws(counts, self.held, generator)
        seeds = torch.randint(2**32, (len(draws),), generator=generator).tolist()
        return shards, list(zip(draws, seeds, strict=True))

    def __iter__(self):
        info = get_worker_info()
        # The first batch that is wanted comes from the first process of the loader.
        worker = ((0 if info is None else info.id) + self.start) % len(self.parts)
        shards, draws = self.worker_plan(worker)
        done = len(range(worker, self.start, len(self.parts))) * self.batch_size
        keys = [key for shard in shards for key in shard.ids]
        index = {key: i for i, key in enumerate(self.dataset.data_ids)}
        held = _UtteranceBuffer(self.dataset.data, shards, [number for number, _ in draws[done:]])
        self.dataset.source = held.source
        items = []
        for number, seed in draws[done:]:
            held.read_until(number)
            items.append(self.dataset[Draw(index[keys[number]], seed)])
            held.used(number)
            if len(items) == self.batch_size:
                yield SegmentBatch(items)
                items = []


class _UtteranceBuffer:
    """The utterances in memory, of some shards, numbered in the order of reading."""

    def __init__(self, data, shards, wanted):
        self.left = {}  # how often each is wanted
        for number in wanted:
            self.left[number] = self.left.get(number, 0) + 1
        self.read, self.members, self.paths = 0, {}, {}
        self.stream = self._stream(data, shards)

    def read_until(self, number):
        """Reads on until an utterance is there."""
        while self.read <= number:
            members = next(self.stream)
            if self.read in self.left:
                self.members.update(members)
                self.paths[self.read] = list(members)
            self.read += 1

    def used(self, number):
        """Drops an utterance that is not needed any more."""
        self.left[number] -= 1
        if not self.left[number]:
            for path in self.paths.pop(number):
                del self.members[path]

    def source(self, path):
        """What a path of the manifest stands for: from memory, or from its shard."""
        found = self.members.get(path)
        return sound_source(path) if found is None else found

    def _stream(self, data, shards):
        """The members ``{path: SoundBytes}`` of one utterance after the other."""
        number = 0
        for shard in shards:
            numbers = range(number, number + len(shard.ids))
            number += len(shard.ids)
            if not any(n in self.left for n in numbers):
                yield from ({} for _ in numbers)  # all was used before the interruption
                continue
            members = _read_shard(shard.path)
            for key in shard.ids:
                entry = data[key]
                paths = [entry["path"], *([entry["pitch_path"]] if "pitch_path" in entry else [])]
                found = {}
                for expected in sorted(map(ShardMember.parse, paths), key=lambda m: m.offset):
                    name, content = next(members, (None, b""))
                    if name != expected.name or len(content) != expected.size:
                        raise UserError(
                            f"the shard {shard.path} does not hold {expected.name} where the index"
                            " says; copy it or prepare the shards again"
                        )
                    found[str(expected)] = SoundBytes(f"{shard.path}#{name}", content)
                yield found


def _read_shard(path):
    """Name and bytes of the members of a shard, in their order."""
    try:
        from webdataset.tariterators import tar_file_iterator
    except ImportError:
        raise UserError(
            "shards need webdataset, which is not installed; pip install waveglow-vq[train]"
        ) from None
    note_reading(str(path))
    try:
        # An open file, and no name that webdataset would interpret.
        with open(path, "rb") as file:
            for member in tar_file_iterator(file, skip_meta=None):
                yield member["fname"], member["data"]
    except (OSError, tarfile.TarError) as error:
        # webdataset adds the file object to the message.
        reason = getattr(error, "strerror", None) or str(error).split(" @ ")[0]
        raise UserError(
            f"the shard {path} cannot be read ({reason}); copy it or prepare the shards again"
        ) from None


@register_checkpoint_hooks
class ShardLoader(DataLoader):
    """A loader of training batches from shards, whose position in an epoch is part of a
    checkpoint.

    Arguments
    ---------
    dataset : SegmentDataset
        Makes items.
    shards : list of Shard
        All of the training data.
    segments_per_epoch : int
        Of all processes together, see :func:`~waveglow_vq.data.shards.plan.make_plan`.
    batch_size : int
        Segments of a batch.
    seed : int
        Of all random numbers.
    rank, world : int
        Number of this process, and how many there are.
    num_workers : int
        Processes that read for this one.
    held : int
        Utterances that each of them holds in memory.
    loader_kwargs
        Further arguments of torch's DataLoader.
    """

    def __init__(
        self,
        dataset,
        shards,
        segments_per_epoch,
        batch_size=1,
        seed=0,
        rank=0,
        world=1,
        num_workers=0,
        held=HELD_UTTERANCES,
        **loader_kwargs,
    ):
        require_integer("segments_per_epoch", segments_per_epoch, 1)
        listed = [key for shard in shards for key in shard.ids]
        if sorted(listed) != sorted(dataset.data_ids):
            raise UserError(
                f"{shards[0].path.parent}: the index and the manifest list different clips;"
                " prepare the shards again"
            )
        samples = {key: entry["num_samples"] for key, entry in dataset.data.items()}
        plan = make_plan(shards, samples, segments_per_epoch, batch_size, world, num_workers)
        self.batches, self.position = plan.batches, 0
        self._resume_at, self._iterated = 0, False
        self.setting = [batch_size, world, len(plan.parts[rank]), plan.batches, len(listed)]
        super().__init__(
            ShardStream(dataset, shards, plan, batch_size, seed, rank, held),
            batch_size=None,
            num_workers=min(num_workers, len(plan.parts[rank])),
            collate_fn=_as_it_is,
            # Of its own: nothing is taken from the global one when an iterator is made.
            generator=torch.Generator().manual_seed(seed),
            **loader_kwargs,
        )

    def set_epoch(self, epoch):
        """Chooses the epoch that is iterated over next."""
        self.dataset.epoch = epoch

    def __len__(self):
        return self.batches

    def __iter__(self):
        self._iterated = True
        self.position = self.dataset.start = self._resume_at
        self._resume_at = 0
        for batch in super().__iter__():
            self.position += 1
            yield batch

    @mark_as_saver
    def _save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"position": self.position, "setting": self.setting}, file)

    @mark_as_loader
    def _load(self, path, end_of_epoch):
        # A checkpoint that is loaded after training is there for its weights.
        if end_of_epoch or self._iterated:
            return
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
        if saved["setting"] != self.setting:
            logger.warning(
                "The shards, the batch size or the number of processes or workers differ from"
                " those of the checkpoint: the rest of this epoch is not that of an"
                " uninterrupted run."
            )
        self.position = self._resume_at = min(int(saved["position"]), self.batches)


def _as_it_is(batch):
    return batch
