"""Noise belongs to its place: whatever the windows, the numbers are those of one draw."""

from types import SimpleNamespace

from waveglow_vq.errors import UserError
from waveglow_vq.inference.inputs import as_generator
from waveglow_vq.inference.streaming.noise import Given, Noise, discard_noise

import pytest
import torch

HOP = 24  # one and a half of the blocks that torch draws in
# Windows of 20 frames, which overlap.
WINDOWS = [(0, 3), (1, 6), (4, 7), (7, 15), (12, 20)]


def taken(source, batch=1, windows=WINDOWS, dtype=torch.float32):
    """What a source gives in windows, put together; and a check of what they have in common."""
    total = windows[-1][1]
    whole = torch.full((batch, total * HOP), torch.nan, dtype=dtype)
    for begin, end in windows:
        local = torch.zeros(batch, 4, end - begin, dtype=dtype)
        place = SimpleNamespace(begin=begin, end=end, is_last=end == total, local=local)
        found = source.take(place, HOP)
        assert found.dtype == dtype and found.shape == (batch, (end - begin) * HOP)
        earlier = whole[:, begin * HOP : end * HOP]
        known = ~earlier.isnan()
        assert torch.equal(found[known], earlier[known])
        whole[:, begin * HOP : end * HOP] = found
    assert not whole.isnan().any()
    return whole


def drawn(seed, count=20 * HOP):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("windows", [WINDOWS, [(0, 20)], [(n, n + 1) for n in range(20)]])
def test_a_seed_gives_every_item_the_noise_of_one_draw(windows):
    found = taken(Noise(5), 3, windows)
    assert torch.equal(found, drawn(5).expand(3, -1))
    assert torch.equal(taken(Noise(5), dtype=torch.float64)[0], drawn(5).double())


def test_a_generator_gives_a_single_item_its_numbers_and_is_then_where_one_draw_leaves_it():
    one, other = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    assert torch.equal(taken(Noise(one))[0], torch.randn(20 * HOP, generator=other))
    assert torch.equal(one.get_state(), other.get_state())
    torch.manual_seed(7)
    assert torch.equal(taken(Noise())[0], drawn(7))


def test_items_of_a_batch_have_noise_of_their_own_from_one_source():
    first, again, other = (
        taken(Noise(torch.Generator().manual_seed(seed)), 3) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({float(item[0]) for item in first}) == 3
    torch.manual_seed(0)
    assert not torch.equal(taken(Noise(), 2), taken(Noise(), 2))


@pytest.mark.parametrize("parts", [1, 7, 100, 1000])
def test_a_given_signal_is_taken_in_parts_of_any_length(parts):
    signal = drawn(3)[None]
    assert torch.equal(taken(Given(signal.split(parts, dim=1))), signal)


def test_a_given_signal_that_ends_too_early():
    with pytest.raises(ValueError, match="479 samples where 480 are needed"):
        taken(Given([drawn(3)[None, :-1]]))


# Below, at and above what is drawn at once.
@pytest.mark.parametrize("count", [0, 32, 2**20, 2**20 + 48, 2**21 + 2**20 + 16])
def test_what_is_discarded_is_what_one_draw_would_have_taken(count):
    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    discard_noise(one, count, "cpu")
    if count:
        torch.randn(count, generator=other)
    assert torch.equal(one.get_state(), other.get_state())
    torch.manual_seed(1)
    discard_noise(None, count, "cpu")
    assert torch.equal(torch.get_rng_state(), other.get_state())


def test_a_seed_takes_nothing_from_the_global_source():
    state = torch.get_rng_state()
    discard_noise(3, 100, "cpu")
    taken(Noise(3))
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_and_sources():
    source = torch.Generator()
    assert as_generator(source) is source and as_generator(None) is None
    assert type(as_generator(torch.tensor(4))) is int
    for wrong in (True, 1.0, "1"):
        with pytest.raises(UserError, match="^generator: .*neither a seed nor"):
            as_generator(wrong)
