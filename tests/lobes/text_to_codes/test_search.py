"""Tests of the search for codes, on a decoder that is a table: what follows depends on the text and
on the latest code alone, so that the best sequences can be found by trying all of them."""

import itertools

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.text_to_codes.search import Limits, SearchOptions, search_codes

import pytest
import torch

K, END = 3, 3


class Table:
    """Steps whose logits are ``tables[item, latest code]``; the start is row K."""

    def __init__(self, tables, pitch=False):
        self.tables = tables
        self.model = type("Model", (), {"pitch_levels": 2 if pitch else 0})
        self.pitch = pitch
        self.seen = []

    def step(self, codes, pitch=None):
        self.seen.append((codes.clone(), None if pitch is None else pitch.clone()))
        place = torch.where(codes < 0, K, codes)
        logits = self.tables[torch.arange(len(codes)), place]
        pitches = torch.nn.functional.one_hot((place + 1) % 3, 3).float() if self.pitch else None
        return logits, pitches, torch.nn.functional.one_hot(place, 4).float()

    def select(self, rows):
        self.tables = self.tables[rows]


def tables(items, seed=0, end=0.0):
    torch.manual_seed(seed)
    values = torch.randn(items, K + 1, K + 1) * 1.5
    values[..., END] += end
    return values


def limits(items, least=1, most=6, runs=100):
    return Limits(torch.full((items,), least), torch.full((items,), most), torch.full((K,), runs))


ALL = [
    SearchOptions(),
    SearchOptions("sample"),
    SearchOptions("sample", temperature=0.5),
    SearchOptions("sample", top_k=2),
    SearchOptions("sample", top_p=0.6),
    SearchOptions("beam", beam_size=1),
    SearchOptions("beam", beam_size=3),
]


def log_probability(table, codes, stopped=True):
    rows = table.log_softmax(-1)
    total, latest = 0.0, K
    for code in list(codes) + [END] * stopped:
        total, latest = total + float(rows[latest, code]), code
    return total


@pytest.mark.parametrize("options", ALL, ids=str)
def test_results_are_consistent(options):
    table = tables(8)
    found = search_codes(Table(table, pitch=True), limits(8), options, 3)
    for item in range(8):
        count = int(found.counts[item])
        codes = found.codes[item, :count]
        assert 1 <= count <= 6 and bool((found.codes[item, count:] == -1).all())
        assert bool((codes < K).all()) and bool((found.pitch[item, count:] == -1).all())
        assert not found.attention[item, count:].any()
        # The table looks at the code before, and the pitch is that code's.
        before = torch.cat((torch.tensor([K]), codes[:-1]))
        assert torch.equal(found.attention[item, :count].argmax(-1), before)
        assert torch.equal(found.pitch[item, :count], (before + 1) % 3)
        expected = log_probability(table[item], codes.tolist(), bool(found.stopped[item]))
        assert float(found.log_probability[item]) == pytest.approx(expected, abs=1e-4)
    assert found.stopped.any()


@pytest.mark.parametrize("options", ALL, ids=str)
def test_an_item_is_what_it_is_alone(options):
    table = tables(8)
    bounds = limits(8)._replace(most=torch.tensor([6, 2, 9, 1, 4, 5, 3, 7]))
    found = search_codes(Table(table), bounds, options, 5)
    for item in range(8):
        own = Limits(bounds.least[item : item + 1], bounds.most[item : item + 1], bounds[2])
        alone = search_codes(Table(table[item : item + 1]), own, options, 5)
        count = int(alone.counts)
        assert torch.equal(found.codes[item, :count], alone.codes[0])
        assert int(found.counts[item]) == count
        assert found.stopped[item] == alone.stopped[0]
        assert float(found.log_probability[item]) == pytest.approx(float(alone.log_probability))


@pytest.mark.parametrize("options", ALL, ids=str)
def test_limits_are_kept(options):
    never = tables(5, end=-1e4)
    found = search_codes(Table(never), limits(5, most=4), options, 0)
    assert found.counts.tolist() == [4] * 5 and not found.stopped.any()
    at_once = tables(5, end=30.0)
    found = search_codes(Table(at_once), limits(5, least=3), options, 0)
    assert found.counts.tolist() == [3] * 5 and found.stopped.all()
    same = tables(5, end=-5.0)
    same[:, :, 1] += 50.0
    found = search_codes(Table(same), limits(5, least=6, runs=2), options, 0)
    runs = [torch.unique_consecutive(codes, return_counts=True)[1] for codes in found.codes]
    assert found.codes.eq(1).any() and max(int(run.max()) for run in runs) == 2


def test_an_end_right_at_the_limit_counts():
    table = tables(1, end=-1e4)
    table[0, 0, END] = 2e4  # only after code 0 ...
    table[0, K] = torch.tensor([-9.0, 9.0, -9.0, -9.0])  # ... which comes third
    table[0, 1] = torch.tensor([-9.0, -9.0, 9.0, -9.0])
    table[0, 2] = torch.tensor([9.0, -9.0, -9.0, -9.0])
    for options in (SearchOptions(), SearchOptions("beam", beam_size=2)):
        found = search_codes(Table(table), limits(1, most=3), options)
        assert found.codes.tolist() == [[1, 2, 0]] and found.stopped.all()


def test_greedy_takes_the_most_probable():
    table = tables(4)
    found = search_codes(Table(table), limits(4), SearchOptions())
    for item in range(4):
        latest = K
        for code in found.codes[item, : found.counts[item]].tolist():
            choices = table[item, latest].clone()
            if latest == K:
                choices[END] = -torch.inf
            assert code == int(choices.argmax())
            latest = code


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_of_all(seed, penalty):
    table = tables(1, seed)
    best = max(
        (
            log_probability(table[0], codes) / (len(codes) + 1) ** penalty,
            codes,
        )
        for length in range(1, 6)
        for codes in itertools.product(range(K), repeat=length)
    )
    options = SearchOptions("beam", beam_size=4 * K**5, length_penalty=penalty)
    found = search_codes(Table(table), limits(1, most=5), options)
    assert tuple(found.codes[0].tolist()) == best[1]


@pytest.mark.parametrize("width", [2, 4])
def test_beams_keep_runs_of_their_own(width):
    """Where codes like to be repeated and each may be so often, and beams overtake each other."""
    table, longest = tables(60), (1, 2, 3)
    table[:, range(K), range(K)] += 2.0
    bounds = limits(60, least=6, most=9)._replace(longest_runs=torch.tensor(longest))
    found = search_codes(Table(table), bounds, SearchOptions("beam", beam_size=width))
    runs = [
        (code, len(list(run)))
        for codes, count in zip(found.codes.tolist(), found.counts.tolist(), strict=True)
        for code, run in itertools.groupby(codes[:count])
    ]
    # None is longer than it may be, and all that may be are found.
    assert set(runs) == {(code, n) for code in range(K) for n in range(1, longest[code] + 1)}


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({}, lambda p: p),
        ({"temperature": 0.5}, lambda p: p**2),
        ({"top_k": 2}, lambda p: p * (p >= p.sort().values[-2])),
        # 0.45 and 0.3 are the first that reach 0.7.
        ({"top_p": 0.7}, lambda p: p * (p >= 0.3 - 1e-6)),
    ],
)
def test_samples_have_the_distribution_that_was_asked_for(options, change):
    probabilities = torch.tensor([0.3, 0.45, 0.15, 0.1])
    table = probabilities.log().expand(20000, K + 1, -1)
    bounds = limits(20000, least=0, most=1)
    generator = torch.Generator().manual_seed(0)
    found = search_codes(Table(table), bounds, SearchOptions("sample", **options), generator)
    first = torch.where(found.counts == 0, END, found.codes[:, 0])
    share = torch.bincount(first, minlength=4) / 20000
    expected = change(probabilities)
    torch.testing.assert_close(share, expected / expected.sum(), rtol=0, atol=0.012)


def test_chance_follows_its_source():
    table, options = tables(1).expand(6, -1, -1) * 0.2, SearchOptions("sample")
    bounds = limits(6, least=6)

    def codes(generator):
        return search_codes(Table(table), bounds, options, generator).codes

    assert torch.equal(codes(3), codes(3)) and not torch.equal(codes(3), codes(4))
    assert len(codes(3).unique(dim=0)) == 1
    drawn = codes(torch.Generator().manual_seed(1))
    assert torch.equal(drawn, codes(torch.Generator().manual_seed(1)))
    assert len(drawn.unique(dim=0)) > 1
    torch.manual_seed(8)
    drawn = codes(None)
    assert not torch.equal(drawn, codes(None))


@pytest.mark.parametrize(
    "options",
    [
        {"method": "best"},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "warm"},
        {"top_k": -1},
        {"top_k": 1.5},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"beam_size": 0},
        {"beam_size": True},
        {"length_penalty": -1.0},
        {"look_ahead": -1},
    ],
    ids=str,
)
def test_wrong_options_are_named(options):
    name = next(iter(options))
    with pytest.raises(UserError, match=f"^{name}: "):
        search_codes(Table(tables(1)), limits(1), SearchOptions(**options))
