from collections import Counter

from waveglow_vq.data.sampling import REPLACEMENTS, SegmentDataset, SegmentSampler
from waveglow_vq.errors import UserError
from waveglow_vq.utils.seeding import Draw, seeded

import pytest
import torch
from speechbrain.dataio.sampler import DistributedSamplerWrapper

LENGTHS = {"a": 100, "b": 300, "none": 0, "c": 600}


def make_dataset(unreadable=()):
    """Items are numbers drawn with their generator; some utterances cannot be read, and only a
    first number is drawn of them."""
    dataset = SegmentDataset({key: {"num_samples": n} for key, n in LENGTHS.items()})

    def draw(key, generator):
        first = torch.rand(2, generator=generator)
        if key in unreadable:
            raise UserError(f"{key}.wav: is truncated")
        return first, torch.rand(2, generator=generator)

    dataset.add_dynamic_item(draw, takes=["id", "generator"], provides=["first", "second"])
    dataset.set_output_keys(["id", "first", "second"])
    return dataset


def draws(segments_per_epoch=50, seed=0, epoch=1):
    sampler = SegmentSampler(make_dataset(), segments_per_epoch, seed)
    sampler.set_epoch(epoch)
    assert len(sampler) == segments_per_epoch
    return list(sampler)


def test_utterances_are_drawn_by_duration():
    drawn = Counter(draw.index for draw in draws(20000))
    assert [round(drawn[index] / 20000, 1) for index in range(4)] == [0.1, 0.3, 0.0, 0.6]
    assert drawn[2] == 0


def test_epochs_and_seeds_draw_anew_but_reproducibly():
    assert draws() == draws()
    others = [draws(epoch=2), draws(seed=1), draws(seed=1, epoch=0), draws(epoch=0)]
    for other in others:
        assert other != draws()
        # Not the same noise with other utterances, either.
        assert not {draw.seed for draw in other} & {draw.seed for draw in draws()}
    assert len({draw.seed for draw in draws()}) == 50


def test_iterating_leaves_the_global_random_state_alone_and_ignores_it():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, item = draws(), make_dataset()[Draw(1, 3)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert draws() == first
    assert torch.equal(make_dataset()[Draw(1, 3)]["second"], item["second"])


@pytest.mark.parametrize("world", [2, 3])
def test_processes_are_dealt_the_draws_of_one(world):
    wrappers = [
        DistributedSamplerWrapper(
            SegmentSampler(make_dataset(), 12, seed=0), num_replicas=world, rank=r, shuffle=False
        )
        for r in range(world)
    ]
    for epoch in (1, 2):
        for wrapper in wrappers:
            wrapper.set_epoch(epoch)
        parts = [list(wrapper) for wrapper in wrappers]
        assert all(isinstance(draw, Draw) for part in parts for draw in part)
        assert [draw for group in zip(*parts, strict=True) for draw in group] == draws(12, 0, epoch)


def test_an_unreadable_clip_is_replaced_and_reported():
    dataset = make_dataset(unreadable=["a", "b"])
    for seed in range(20):
        item = dataset[Draw(0, seed)]
        assert item["id"] == "c"
        assert item["skipped"][0] == "a.wav: is truncated"
        assert set(item["skipped"]) <= {"a.wav: is truncated", "b.wav: is truncated"}
        again = dataset[Draw(0, seed)]
        assert again["skipped"] == item["skipped"]
        assert torch.equal(again["second"], item["second"])
    # Where nothing was wrong, nothing is different.
    assert dataset[Draw(3, 5)]["skipped"] == []
    assert torch.equal(dataset[Draw(3, 5)]["second"], make_dataset()[Draw(3, 5)]["second"])


def test_replacements_are_drawn_by_duration():
    dataset = make_dataset(unreadable=["a"])
    drawn = Counter(dataset[Draw(0, seed)]["id"] for seed in range(3000))
    assert drawn["none"] == 0
    assert drawn["b"] / drawn["c"] == pytest.approx(0.5, abs=0.08)


def test_gives_up_where_no_clip_can_be_read():
    with pytest.raises(UserError, match=rf"b.wav: is truncated .*none of {REPLACEMENTS} other"):
        make_dataset(LENGTHS)[Draw(1, 0)]


def test_other_errors_are_not_swallowed():
    dataset = make_dataset()
    dataset.add_dynamic_item(lambda key: 1 / 0, takes="id", provides="defect")
    dataset.set_output_keys(["defect"])
    with pytest.raises(ZeroDivisionError):
        dataset[Draw(1, 0)]


def test_a_plain_index_draws_with_the_global_random_state():
    dataset = make_dataset()
    torch.manual_seed(0)
    first = dataset[3]["second"]
    assert not torch.equal(dataset[3]["second"], first)
    torch.manual_seed(0)
    assert torch.equal(dataset[3]["second"], first)


def test_generators_follow_from_all_parts():
    drawn = [float(torch.rand((), generator=seeded(*parts))) for parts in [(1, 23), (12, 3), (1,)]]
    assert len(set(drawn)) == 3
