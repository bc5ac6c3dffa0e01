"""Noise that belongs to its place in an utterance, for streams."""

import math

from waveglow_vq.utils.devices import at_least_fp32
from waveglow_vq.utils.windows import Buffer

import torch

# Torch draws normal numbers in blocks of so many: only draws of whole blocks, one after the other,
# give the numbers of a single one.
NOISE_BLOCK = 16


class Noise:
    """Standard normal noise ``[batch, n]``, each number of which belongs to its place.

    A seed gives every item the noise that it has alone and at once. So do a ``torch.Generator`` of
    the CPU, and torch's global source where None is given and the model is not on CUDA, for a batch
    of one. Else every item has noise of its own, from seeds that are drawn from them.

    Arguments
    ---------
    generator : int, torch.Generator or None
        A seed or a source.
    """

    def __init__(self, generator=None):
        self.generator = generator
        self.sources = None
        self.buffer = Buffer()

    def take(self, place, hop):
        """The noise of a window, ``[batch, (end - begin) * hop]``; windows may only move on.

        The ``place`` has the frames of the window, ``begin`` to ``end``; whether it ``is_last``;
        and the local condition, ``local``, which says for how many items and where. ``hop`` is in
        samples per frame.
        """
        if self.sources is None:
            self.sources = self._sources(*place.local.shape[:1], place.local.device)
        missing = place.end * hop - self.buffer.end
        if not place.is_last:
            # There are more frames to come, so that no number is drawn that is not needed.
            missing = math.ceil(missing / NOISE_BLOCK) * NOISE_BLOCK
        if missing > 0:
            self.buffer.append(torch.stack([self._draw(s, missing) for s in self.sources]))
        self.buffer.drop(place.begin * hop)
        noise = self.buffer.take(place.begin * hop, place.end * hop)
        like = at_least_fp32(place.local)
        return noise.to(like.device, like.dtype).expand(len(like), -1)

    def _sources(self, batch, device):
        generator = self.generator
        if isinstance(generator, int):
            return [torch.Generator().manual_seed(generator)]  # alike for all items
        where = device if generator is None else generator.device
        if generator is None and where.type != "cuda":
            where = torch.device("cpu")  # the only global source beside CUDA's with 64-bit seeds
        if batch == 1 and where.type == "cpu":
            return [generator]
        where = None if generator is None else where
        seeds = torch.randint(2**62, (batch,), generator=generator, device=where)
        return [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]

    @staticmethod
    def _draw(source, count):
        return torch.randn(count, generator=source, dtype=torch.float32)


class Given:
    """A signal ``[batch, n]`` that comes in parts, and is taken as noise is."""

    def __init__(self, parts):
        self.parts = iter(parts)
        self.buffer = Buffer()

    def take(self, place, hop):
        """The signal in a window, as :meth:`Noise.take`."""
        while self.buffer.end < place.end * hop:
            part = next(self.parts, None)
            if part is None:
                raise ValueError(f"{self.buffer.end} samples where {place.end * hop} are needed")
            self.buffer.append(part)
        self.buffer.drop(place.begin * hop)
        return self.buffer.take(place.begin * hop, place.end * hop)


def discard_noise(generator, count, device):
    """Draws as many numbers as the rest of an item takes that is shorter than its batch, where
    noise comes from one source for all items."""
    device = torch.device(device) if generator is None else getattr(generator, "device", None)
    if device is None or device.type != "cpu":
        return
    most = 2**20 // NOISE_BLOCK * NOISE_BLOCK
    for begin in range(0, count, most):
        torch.randn(min(most, count - begin), generator=generator, dtype=torch.float32)
