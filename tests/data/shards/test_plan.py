from collections import Counter
from pathlib import Path

from waveglow_vq.data.shards.format import Shard
from waveglow_vq.data.shards.plan import make_plan, order_draws, share_segments
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import torch

BATCH = 4


def fake_shards(sizes):
    shards = [
        Shard(Path(f"{n}.tar"), [f"{n}_{i}" for i in range(size)]) for n, size in enumerate(sizes)
    ]
    draw = np.random.default_rng(1)
    return shards, {i: int(draw.integers(5000, 200000)) for s in shards for i in s.ids}


@pytest.mark.parametrize("sizes", [[3] * 8, [1, 9, 2, 2, 7, 1], [40, 1, 1]])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_shard_is_of_one_worker_and_its_batches_suffice(sizes, world, workers):
    shards, samples = fake_shards(sizes)
    plan = make_plan(shards, samples, 50, BATCH, world, workers)
    assert len(plan.parts) == world
    dealt = [n for part in plan.parts for numbers in part for n in numbers]
    assert sorted(dealt) == list(range(len(shards)))
    capped = min(len(sum(part, [])) for part in plan.parts)
    assert {len(part) for part in plan.parts} == {min(max(1, workers), capped)}
    assert plan.batches >= 50 / (world * BATCH)
    for part in plan.parts:
        for worker, numbers in enumerate(part):
            assert numbers
            batches = [b for b in range(plan.batches) if b % len(part) == worker]
            assert len(batches) * BATCH >= sum(len(shards[n].ids) for n in numbers)


def test_an_epoch_is_no_longer_than_wanted_where_all_is_in_it():
    shards, samples = fake_shards([3] * 8)
    assert make_plan(shards, samples, 1000, 10, world=2, workers=2).batches == 50
    assert make_plan(shards, samples, 1001, 10, world=2, workers=2).batches == 51
    # 24 utterances: one segment each, in full batches.
    assert make_plan(shards, samples, 1, 10, world=1, workers=1).batches == 3


def test_parts_are_of_similar_size():
    shards, samples = fake_shards([2, 3] * 24)
    plan = make_plan(shards, samples, 1000, BATCH, world=3, workers=2)
    loads = [
        sum(samples[i] for n in numbers for i in shards[n].ids)
        for part in plan.parts
        for numbers in part
    ]
    assert max(loads) < 1.1 * min(loads)


def test_fewer_shards_than_processes():
    shards, samples = fake_shards([3] * 8)
    with pytest.raises(UserError, match="8 shards to train on, fewer than the 9 processes"):
        make_plan(shards, samples, 10, BATCH, world=9)


def test_segments_are_shared_by_duration():
    samples = [1, 1000, 5000, 20000, 100_000]
    assert sum(share_segments(samples, 100)) == 100
    assert share_segments(samples, 5) == [1] * 5
    draws = [
        share_segments(samples, 100, torch.Generator().manual_seed(seed)) for seed in range(400)
    ]
    assert all(min(counts) >= 1 and sum(counts) == 100 for counts in draws)
    mean = torch.tensor(draws, dtype=torch.float64).mean(0)
    rate = 98 / 125_000  # of what is left beside the two that are shorter than one share
    expected = torch.tensor([1, 1, 5000 * rate, 20000 * rate, 100_000 * rate])
    torch.testing.assert_close(mean, expected.double(), rtol=0, atol=0.1)


def test_draws_hold_only_so_many_utterances_in_memory():
    counts = torch.randint(1, 9, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    order = order_draws(counts, held=7, generator=torch.Generator().manual_seed(1))
    assert Counter(order) == dict(enumerate(counts))
    read, left = 0, list(counts)
    for number in order:
        read = max(read, number + 1)
        assert sum(left[n] > 0 for n in range(read)) <= 7
        left[number] -= 1
    # Mixed: hardly ever the same twice in a row.
    assert sum(a == b for a, b in zip(order, order[1:], strict=False)) < len(order) / 3
