import math

from waveglow_vq.inference.pieces import NoiseInTime, join_pieces, plan_pieces

import pytest
import torch

RATE = 22050


def noise(samples, seed=0):
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seconds", [2.01, 3.7, 10.0, 10.01, 37.3, 61.0])
@pytest.mark.parametrize("longest_seconds", [2, 10])
def test_pieces_cover_everything_and_overlap(seconds, longest_seconds):
    wav, unit = noise(round(seconds * RATE)), 1536
    longest = longest_seconds * RATE
    pieces = plan_pieces(wav, longest, unit, RATE)
    assert pieces[0].start == 0 and pieces[-1].end == len(wav)
    for piece in pieces:
        assert piece.start % unit == 0 and piece.end - piece.start <= longest
    if seconds <= longest_seconds:
        assert len(pieces) == 1
        return
    margin = min(0.5, longest_seconds / 8) * RATE
    for before, piece in zip(pieces, pieces[1:], strict=False):
        assert piece.start <= piece.join - margin + 1 and piece.join + margin - 1 <= before.end
        # None so short that little can be told of it.
        assert piece.end - piece.start > longest / 3


def test_cuts_where_it_is_quiet():
    wav = noise(24 * RATE)
    pauses = (8.1, 15.3)
    for pause in pauses:
        wav[round(pause * RATE) : round((pause + 0.15) * RATE)] *= 0.01
    joins = [piece.join / RATE for piece in plan_pieces(wav, 10 * RATE, 1024, RATE)][1:]
    assert len(joins) == 2
    for join, pause in zip(joins, pauses, strict=True):
        assert pause < join < pause + 0.15


def test_joining_returns_what_is_alike_and_fades_what_is_not():
    wav = noise(5 * RATE)
    pieces = plan_pieces(wav, 2 * RATE, 256, RATE)
    assert len(pieces) > 2
    joined = join_pieces(pieces, (wav[p.start : p.end] for p in pieces), RATE)
    torch.testing.assert_close(joined, wav, atol=1e-6, rtol=0)
    # Constants differ by one from piece to piece: no step is higher than a fade allows.
    levels = (torch.full((p.end - p.start,), float(i)) for i, p in enumerate(pieces))
    joined = join_pieces(pieces, levels, RATE)
    steps = joined.diff()
    assert (steps >= 0).all() and steps.max() < 1 / (0.04 * RATE)
    assert joined[0] == 0 and joined[-1] == len(pieces) - 1
    for index, piece in enumerate(pieces[1:], 1):
        assert math.isclose(float(joined[piece.join]), index - 0.5, abs_tol=0.01)


def test_silence_is_cut_evenly():
    pieces = plan_pieces(torch.zeros(15 * RATE), 10 * RATE, 256, RATE)
    assert [round(p.join / RATE, 1) for p in pieces] == [0, 7.5]


@pytest.mark.parametrize("generator", [7, None, torch.Generator().manual_seed(7)])
def test_noise_belongs_to_its_place(generator):
    source = NoiseInTime(generator)
    whole = torch.randn(4096, 8, generator=source.at(0))
    for start in (16, 256 * 5, 256 * 5, 30000 // 16 * 16):
        part = torch.randn(100, 8, generator=source.at(start))
        assert torch.equal(part, whole.flatten()[start : start + 800].view(100, 8))
    other = torch.randn(4096, 8, generator=NoiseInTime(8).at(0))
    assert not torch.equal(whole, other)


def test_noise_of_a_seed_is_the_same_each_time():
    first, second = (torch.randn(64, 8, generator=NoiseInTime(3).at(512)) for _ in range(2))
    assert torch.equal(first, second)
    # The global source moves on.
    draws = [torch.randn(64, generator=NoiseInTime().at(0)) for _ in range(2)]
    assert not torch.equal(*draws)
