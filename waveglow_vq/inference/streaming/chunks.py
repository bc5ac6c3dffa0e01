"""Chunks of log-mels or codes that users pass to streams."""

from collections.abc import Iterable

from waveglow_vq.errors import UserError
from waveglow_vq.inference.inputs import as_numbers

import numpy as np
import torch


class Chunks:
    """Checks chunks one by one, as they are taken, and gives them a batch dimension.

    Arguments
    ---------
    option : str
        Name of the argument, for errors.
    chunks : iterable of torch.Tensor
        What a user gave: steps on the last dimension, with a batch dimension or without.
    shape : tuple
        Sizes of the dimensions between batch and steps.
    check : callable
        ``check(name, chunk)`` raises a UserError if the values are wrong, and gives the chunk
        ``[batch, ..., t]`` as the model takes it.
    behind : tuple
        Sizes of the dimensions behind the steps, such as the number of codebooks; in what is given
        they lie before them.

    Example
    -------
    >>> chunks = Chunks("mel_chunks", torch.zeros(80, 5).split(2, 1), (80,), lambda _, x: x)
    >>> [list(chunk.shape) for chunk in chunks], chunks.is_batch, chunks.steps
    ([[1, 80, 2], [1, 80, 2], [1, 80, 1]], False, 5)
    """

    def __init__(self, option, chunks, shape, check, behind=()):
        if isinstance(chunks, (torch.Tensor, np.ndarray)) or not isinstance(chunks, Iterable):
            raise UserError(
                f"{option}: expected an iterable of chunks, got {type(chunks).__name__}; a whole "
                "tensor is cut into chunks by its split(64, dim=-1)"
            )
        self.option = option
        self.chunks = chunks
        self.shape = shape
        self.check = check
        self.behind = behind
        self.steps = 0  # of all chunks that were taken
        self.batch = None
        self.is_batch = False

    def __iter__(self):
        for number, chunk in enumerate(self.chunks, start=1):
            name = f"{self.option}: chunk {number}"
            chunk = self.check(name, self._add_batch(name, as_numbers(name, chunk)))
            self.steps += chunk.shape[-1]
            yield chunk
        if not self.steps:
            raise UserError(f"{self.option}: there is nothing in it")

    def _add_batch(self, name, chunk):
        before, dims = len(self.shape), len(self.shape) + 1 + len(self.behind)
        sizes = tuple(chunk.shape)
        with_batch = sizes if len(sizes) > dims else (1, *sizes)
        around = with_batch[1 : 1 + before], with_batch[2 + before :]
        fits = len(with_batch) == dims + 1 and around == (self.shape, self.behind)
        if not fits or not with_batch[0]:
            wanted = ", ".join([*map(str, self.shape), "steps", *map(str, self.behind)])
            raise UserError(f"{name}: expected [{wanted}] or [batch, {wanted}], got {list(sizes)}")
        kind = (len(sizes) > dims, with_batch[0])
        if self.batch not in (None, kind):
            raise UserError(f"{name} has the shape {list(sizes)}, unlike the chunks before it")
        self.batch, self.is_batch = kind, kind[0]
        return chunk.view(with_batch).movedim(1 + before, -1)

    def without_batch(self, blocks):
        """Blocks ``[batch, n]`` without the batch dimension, if the chunks came without."""
        for block in blocks:
            yield block if self.is_batch else block[0]
