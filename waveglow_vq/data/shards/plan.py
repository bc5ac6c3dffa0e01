"""The plan of an epoch of training from shards: who reads what, and in which order it is drawn.

Shards are dealt out so that all processes, and all workers of a process, have about as much to
read. An utterance gives at least one segment, and otherwise as many as its duration asks for, so
that the segments of a worker are exactly those of its batches: all processes have equally many
batches, nothing is read twice, nothing is lost. A worker holds some utterances in memory, from
which it draws at random, and reads on as they are used up.
"""

from typing import NamedTuple

from waveglow_vq.errors import UserError

import torch


class EpochPlan(NamedTuple):
    """Who reads what, in every epoch."""

    parts: list  # of each process, of each of its workers, the numbers of its shards
    batches: int  # of an epoch, for each process


def make_plan(shards, samples, segments, batch_size, world=1, workers=1):
    """Deals out shards to processes and their workers.

    An epoch has the ``segments`` that are wanted, of all processes together, or more where batches
    ask for it: they are full, all processes have equally many, and every utterance is in one.
    ``samples`` holds the length of each utterance by id. There are no more workers than the process
    with the fewest shards can give one to.
    """
    if len(shards) < world:
        raise UserError(
            f"{shards[0].path.parent} has {len(shards)} shards to train on, fewer than the {world}"
            " processes; prepare smaller ones (utterances_per_shard) or use fewer processes"
        )
    sizes = [sum(samples[i] for i in shard.ids) for shard in shards]
    parts = _deal(range(len(shards)), sizes, world)
    workers = min(max(1, workers), *map(len, parts))
    parts = [_deal(part, sizes, workers) for part in parts]
    batches = -(-segments // (world * batch_size))
    for part in parts:
        for worker, numbers in enumerate(part):
            # Its batches are number `worker`, `worker + workers`, ...
            least = -(-sum(len(shards[n].ids) for n in numbers) // batch_size)
            batches = max(batches, (least - 1) * workers + worker + 1)
    return EpochPlan(parts, batches)


def _deal(numbers, sizes, count):
    """Splits shards into parts of about the same size, none of them empty: the largest first, each
    to the part with the least so far.
    """
    parts, loads = [[] for _ in range(count)], [0] * count
    for number in sorted(numbers, key=lambda n: (-sizes[n], n)):
        part = min(range(count), key=lambda k: (loads[k], len(parts[k]), k))
        parts[part].append(number)
        loads[part] += sizes[number]
    return [sorted(part) for part in parts]


def share_segments(samples, segments, generator=None):
    """How many segments each utterance gives, by its length in ``samples``: at least one, and
    otherwise in proportion to its duration. Fractions are rounded at random, so that they are right
    on average.

    Example
    -------
    >>> share_segments([100, 100_000, 300_000], 41)
    [1, 10, 30]
    """
    lengths = torch.tensor(samples, dtype=torch.float64)
    quotas = torch.ones_like(lengths)
    more = torch.ones_like(lengths, dtype=torch.bool)
    while more.any():
        # Those with one segment take more than their share, which makes the others' less.
        rate = (segments - int((~more).sum())) / lengths[more].sum()
        short = more & (rate * lengths < 1)
        if not short.any():
            quotas[more] = rate * lengths[more]
            break
        more &= ~short
    counts = (quotas + 1e-9).floor()
    rest = segments - int(counts.sum())
    if rest:
        order = torch.randperm(len(counts), generator=generator)
        ends = (quotas - counts).clamp_min(0)[order].cumsum(0)
        ends *= rest / ends[-1]
        start = torch.rand((), dtype=torch.float64, generator=generator)
        passed = (ends + start).floor().clamp_max(rest)
        passed[-1] = rest
        counts[order] += passed.diff(prepend=torch.zeros(1, dtype=torch.float64))
    return counts.long().tolist()


def order_draws(counts, held, generator=None):
    """The order in which segments are drawn, as numbers of utterances, with at most ``held``
    utterances in memory. ``counts`` are the segments of each, in the order in which they are read.

    Example
    -------
    >>> order_draws([2, 1, 3], held=1)
    [0, 0, 1, 2, 2, 2]
    """
    order, bag, left = [], [], list(counts)
    read = live = 0
    for place in torch.rand(sum(counts), dtype=torch.float64, generator=generator).tolist():
        while live < held and read < len(counts):
            bag += [read] * counts[read]
            read, live = read + 1, live + 1
        chosen = int(place * len(bag))
        bag[chosen], bag[-1] = bag[-1], bag[chosen]
        order.append(bag.pop())
        left[order[-1]] -= 1
        live -= not left[order[-1]]
    return order
