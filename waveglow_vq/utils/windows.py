"""Sequences that come in chunks, cut into windows that overlap."""

import torch


def windows(chunks, reach, unit=1, most=None):
    """Cuts a sequence that comes in chunks into windows, on the last dimension.

    Arguments
    ---------
    chunks : iterable of torch.Tensor
        ``[..., t]``, any number of steps each.
    reach : int
        Steps that a window shows before and after what is new in it, where there are any.
    unit : int
        What is new begins at multiples of so many steps; so do windows if ``reach`` is one.
    most : int
        The most new steps in a window, a multiple of ``unit``; None: all that there are.

    Yields
    ------
    window : torch.Tensor
        As soon as there are ``unit`` new steps and ``reach`` more.
    first : int
        Where in it the new steps begin.
    new : int
        How many there are.

    Example
    -------
    >>> chunks = [torch.arange(0, 3), torch.arange(3, 7)]
    >>> for window, first, new in windows(chunks, 1, unit=2):
    ...     print(window.tolist(), first, new)
    [0, 1, 2] 0 2
    [1, 2, 3, 4, 5, 6] 1 4
    [5, 6] 1 1
    """
    buffer, done = Buffer(), 0
    for chunk, ended in until_end(chunks):
        if not ended:
            buffer.append(chunk)
        known = buffer.end if ended else (buffer.end - reach) // unit * unit
        while done < known:
            new = known - done if most is None else min(most, known - done)
            begin = max(0, done - reach)
            yield buffer.take(begin, done + new + reach), done - begin, new
            done += new
            buffer.drop(done - reach)


def until_end(items):
    """Yields every item with False, and after the last one None with True."""
    for item in items:
        yield item, False
    yield None, True


class Buffer:
    """The part of a sequence of tensors, on the last dimension, that is still needed.

    ``begin`` and ``end`` say which part of the sequence it is.

    Example
    -------
    >>> buffer = Buffer()
    >>> buffer.append(torch.arange(0, 3))
    >>> buffer.append(torch.arange(3, 7))
    >>> buffer.drop(2)
    >>> buffer.take(2, 5), buffer.begin, buffer.end
    (tensor([2, 3, 4]), 2, 7)
    """

    def __init__(self):
        self.begin = self.end = 0
        self.held = None

    def append(self, part):
        """Takes what follows."""
        self.held = part if self.held is None else torch.cat([self.held, part], dim=-1)
        self.end += part.shape[-1]

    def take(self, begin, end):
        """What lies from one place of the sequence to another, as far as there is any."""
        return self.held[..., begin - self.begin : end - self.begin]

    def drop(self, begin):
        """Forgets what is before ``begin``."""
        if self.begin < begin <= self.end:
            self.held = self.held[..., begin - self.begin :]
            self.begin = begin


def cropped(parts, count):
    """The first ``count`` steps of a sequence in parts; what comes later is not asked for.

    Example
    -------
    >>> [part.tolist() for part in cropped(torch.arange(6).split(2), 3)]
    [[0, 1], [2]]
    """
    for part in parts:
        yield part[..., :count]
        count -= part.shape[-1]
        if count <= 0:
            return
