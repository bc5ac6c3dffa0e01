"""Long recordings in pieces: cut where it is quiet, with an overlap, and joined by a cross fade.

Authors
 * The waveglow-vq developers, 2026
"""

import math
from typing import NamedTuple

import torch

# Seconds of context on either side of a join, which both pieces hold; how far from even pieces a
# quiet place is looked for; and the length of the cross fade.
MARGIN_SECONDS = 0.5
SEARCH_SECONDS = 1.5
FADE_SECONDS = 0.05
# The loudness of a place: of so much around it.
_WINDOW_SECONDS = 0.04


class Piece(NamedTuple):
    """A part of a recording.

    Arguments
    ---------
    start, end : int
        Its samples; neighbours overlap.
    join : int
        The sample around which it takes over from the piece before it; 0 for the first.
    """

    start: int
    end: int
    join: int


def plan_pieces(wav, longest, unit, sample_rate):
    """Divides a recording.

    Arguments
    ---------
    wav : torch.Tensor
        ``[N]``.
    longest : int
        The most samples of a piece; at least 16 units.
    unit : int
        Pieces begin at multiples of so many samples.
    sample_rate : int
        In Hz.

    Returns
    -------
    list of Piece
        One piece if the recording is no longer than ``longest``.

    Example
    -------
    >>> [(p.start, p.end) for p in plan_pieces(torch.zeros(1000), 2000, 32, 100)]
    [(0, 1000)]
    >>> [(p.start, p.end) for p in plan_pieces(torch.zeros(3000), 2000, 32, 100)]
    [(0, 1550), (1440, 3000)]
    """
    total = len(wav)
    margin = min(round(MARGIN_SECONDS * sample_rate), longest // 8)
    search = min(round(SEARCH_SECONDS * sample_rate), longest // 8)
    pieces, start, join = [], 0, 0
    while total - start > longest:
        # The rest in even pieces, so that none is so short that little can be told of it.
        rest = total - start
        count = 1 + math.ceil((rest - longest) / (longest - 2 * margin - search - unit))
        middle = start + (rest + (count - 1) * 2 * margin) // count - margin
        latest = min(middle + search, start + longest - margin)
        following = _quietest(wav, middle - search, latest, sample_rate)
        pieces.append(Piece(start, following + margin, join))
        start, join = (following - margin) // unit * unit, following
    return [*pieces, Piece(start, total, join)]


def join_pieces(pieces, parts, sample_rate):
    """Joins the processed pieces by linear cross fades, which leave alike what is alike in both.

    Arguments
    ---------
    pieces : list of Piece
        As from :func:`plan_pieces`.
    parts : iterable of torch.Tensor
        ``[piece.end - piece.start]`` for each; taken one after the other.
    sample_rate : int
        In Hz.

    Returns
    -------
    torch.Tensor
        ``[N]``.

    Example
    -------
    >>> wav = torch.randn(3000)
    >>> pieces = plan_pieces(wav, 2000, 32, 100)
    >>> joined = join_pieces(pieces, (wav[p.start : p.end] for p in pieces), 100)
    >>> torch.allclose(joined, wav)
    True
    """
    half = round(FADE_SECONDS * sample_rate) // 2
    joined = None
    for piece, part in zip(pieces, parts, strict=True):
        if joined is None:
            joined = part.new_zeros(pieces[-1].end)
            joined[: piece.end] = part
            continue
        first, last = max(piece.start, piece.join - half), piece.join + half
        rise = torch.linspace(0, 1, last - first + 2, dtype=part.dtype, device=part.device)[1:-1]
        fresh = part[first - piece.start : last - piece.start]
        joined[first:last] += rise * (fresh - joined[first:last])
        joined[last : piece.end] = part[last - piece.start :]
    return joined


class NoiseInTime:
    """Noise that belongs to the place in a recording: pieces that overlap draw the same there.

    Arguments
    ---------
    generator : int, torch.Generator or None
        A seed, or what to draw one from.

    Example
    -------
    >>> noise = NoiseInTime(0)
    >>> early = torch.randn(64, 8, generator=noise.at(0))
    >>> late = torch.randn(32, 8, generator=noise.at(256))
    >>> torch.equal(early[32:], late)
    True
    """

    # Torch draws normal numbers in blocks of so many.
    BLOCK = 16

    def __init__(self, generator=None):
        if not isinstance(generator, int):
            device = None if generator is None else generator.device
            generator = int(torch.randint(2**62, (), generator=generator, device=device))
        self.generator = torch.Generator().manual_seed(generator)
        self.position = 0

    def at(self, sample):
        """A generator of the noise from a sample on, a multiple of BLOCK; samples may only grow."""
        torch.randn(sample - self.position, generator=self.generator)
        self.position = sample
        return torch.Generator().set_state(self.generator.get_state())


def _quietest(wav, begin, end, sample_rate):
    """The sample from ``begin`` to ``end`` around which there is least energy."""
    window = max(1, round(_WINDOW_SECONDS * sample_rate))
    begin, end = max(0, begin - window // 2), min(len(wav), end + window // 2)
    energy = torch.nn.functional.pad(wav[begin:end].double().square().cumsum(0), (1, 0))
    energy = energy[window:] - energy[:-window]  # of the windows around begin, begin + 1, ...
    # Of places that are alike, as in digital silence, the one in the middle.
    least = (energy <= energy.min() * (1 + 1e-6) + 1e-12).nonzero()[:, 0]
    nearest = (least - len(energy) // 2).abs().argmin()
    return int(begin + least[nearest] + window // 2)
