"""Batches of training segments: few large tensors, made and moved as fast as memory allows."""

import math

from waveglow_vq.utils.devices import without_tf32

import torch
from speechbrain.dataio.batch import PaddedData
from torch.utils.data import get_worker_info

# Log-mels of a segment, and the samples that they are made of.
SOUNDS = {"mel": "context", "reference": "reference_context"}


def sounds_of(names):
    """Names of items, with samples in the place of log-mels.

    Example
    -------
    >>> sounds_of(["wav", "mel"])
    ['wav', 'context']
    """
    return [SOUNDS.get(name, name) for name in names]


class SegmentBatch:
    """A batch of training items with the interface of SpeechBrain's PaddedBatch. Tensors of items
    are padded with zeros to the longest (PaddedData), numbers become one tensor, and what else
    there is stays a list.

    Arguments
    ---------
    items : list of dict
        Items of a :func:`~waveglow_vq.data.datasets.segment_dataset`.

    Example
    -------
    >>> items = [{"id": "a", "wav": torch.ones(2), "start": 3}, {"id": "b", "wav": torch.ones(4)}]
    >>> batch = SegmentBatch([items[0], {**items[1], "start": 5}])
    >>> batch.id, batch.start, batch.wav.data.shape, batch.wav.lengths
    (['a', 'b'], tensor([3, 5]), torch.Size([2, 4]), tensor([0.5000, 1.0000]))
    """

    def __init__(self, items):
        for name in items[0]:
            values = [item[name] for item in items]
            if isinstance(values[0], torch.Tensor):
                values = _padded(values)
            elif isinstance(values[0], int):
                values = torch.tensor(values)
            setattr(self, name, values)

    def __len__(self):
        return len(self.id)

    def __getitem__(self, name):
        return getattr(self, name)

    def to(self, *args, **kwargs):
        """Moves or casts all tensors, in place; see ``torch.Tensor.to``."""
        return self._each(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self):
        """Moves all tensors to memory from which a GPU copies at full speed, in place."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change):
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, change(value))
            elif isinstance(value, PaddedData):
                setattr(self, name, PaddedData(*map(change, value)))
        return self

    @torch.no_grad()
    def add_log_mels(self, features):
        """Makes the log-mels that are still samples, on the device of ``features``, a LogMel."""
        device = features.filter_bank.device
        margin, hop = 2 * features.margin, features.hop_length
        for name, sound in SOUNDS.items():
            if not hasattr(self, sound):
                continue
            samples, lengths = getattr(self, sound)
            with without_tf32():
                mel = features.frames(samples.to(device, non_blocking=True)).transpose(1, 2)
            frames = ((lengths * samples.shape[1]).round() - margin) / hop + 1
            inside = torch.arange(mel.shape[1], device=frames.device) < frames[:, None]
            mel = mel * inside[..., None].to(device, non_blocking=True)
            setattr(self, name, PaddedData(mel, frames / mel.shape[1]))
            delattr(self, sound)


def _padded(rows):
    sizes = [len(row) for row in rows]
    longest, first = max(sizes), rows[0]
    data = _empty((len(rows), longest, *first.shape[1:]), first.dtype)
    for place, row, size in zip(data.numpy(), rows, sizes, strict=True):
        place[:size] = row.numpy()
        place[size:] = 0
    return PaddedData(data, torch.tensor([size / max(longest, 1) for size in sizes]))


def _empty(shape, dtype):
    """In a loader's process, memory that the process it loads for shares: nothing is copied."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)
