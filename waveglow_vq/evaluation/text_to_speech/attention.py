"""How text was read while its codes were written: figures of an alignment, and of codes alone.

They tell a sentence that was read from its first token to its last from one that was cut off, and
from one that got stuck or began again. Nothing else than the attention ``[T, S]`` of T codes to S
tokens, and the codes ``[T]``, is needed.
"""

import torch

# Tokens that attention may be off without being lost, for tokens of one character each: letters
# that make no sound of their own are often passed over together with their neighbours.
TOLERANCE = 3
# The place of a code is the median over so many codes. Fewer than half of them in another place
# are too short for a sound, let alone a word.
SMOOTHED_CODES = 5
# A loop is looked for that is at most so many codes long, and passed through so many times.
LONGEST_LOOP = 64
LOOP_ROUNDS = 3


def alignment_figures(attention, tolerance=TOLERANCE):
    """Whether a text was read in order, from beginning to end, in figures.

    ``attention`` ``[T, S]`` has a row for each code, a column for each token, without padding and
    without a row for the end of the sequence; rows may have any sum. The *place* of a code is the
    token that it attends to most, as the median over five codes. ``tolerance`` tokens count as the
    same place; in texts of a few tokens, less than half of them. A ValueError says that there is no
    code or no token, or that something is not a number.

    Returns
    -------
    dict
        ``diagonal``: whether no token is further than ``tolerance`` from a place, and there is no
        step back. ``truncated``: whether more than ``tolerance`` tokens at the end come after the
        furthest place. ``diagonality``: share of codes whose most attended token is at most
        ``tolerance`` from the path that never goes back and gathers most attention. ``coverage``:
        share of tokens at most ``tolerance`` from a place. ``backward_steps``: how often the place
        falls more than ``tolerance`` behind the furthest so far. ``longest_stall``: most codes in
        a row in which no token is reached that is further than all before. ``unread_tokens``:
        tokens after the furthest place.

    Example
    -------
    >>> attention = torch.eye(20).repeat_interleave(3, dim=0)  # three codes for each token
    >>> figures = alignment_figures(attention)
    >>> figures["diagonal"], figures["truncated"], figures["coverage"], figures["backward_steps"]
    (True, False, 1.0, 0)
    >>> figures = alignment_figures(attention[:36])
    >>> figures["diagonal"], figures["truncated"], figures["coverage"], figures["unread_tokens"]
    (False, True, 0.75, 8)
    """
    attention = torch.as_tensor(attention).detach().cpu().double()
    if attention.ndim != 2 or 0 in attention.shape or not bool(attention.isfinite().all()):
        raise ValueError(f"attention must be [codes, tokens], finite: {list(attention.shape)}")
    tokens = attention.shape[1]
    tolerance = min(tolerance, (tokens - 1) // 2)
    peaks = attention.argmax(1)
    places = _smooth(peaks)
    furthest = places.cummax(0).values
    behind = furthest - places > tolerance
    backward = int((behind[1:] & ~behind[:-1]).sum())
    distance = (torch.arange(tokens)[:, None] - places.unique()).abs().amin(1)
    unread = tokens - 1 - int(furthest[-1])
    off = (peaks - monotonic_path(attention)).abs() > tolerance
    return {
        "diagonal": backward == 0 and int(distance.max()) <= tolerance,
        "truncated": unread > tolerance,
        "diagonality": 1 - float(off.double().mean()),
        "coverage": float((distance <= tolerance).double().mean()),
        "backward_steps": backward,
        "longest_stall": longest_run(furthest),
        "unread_tokens": unread,
    }


def tolerance_for(pieces):
    """TOLERANCE in tokens that are longer than a character, at least 1, from the tokens of a text
    as they are written.

    Example
    -------
    >>> tolerance_for(["o", "n", "e"]), tolerance_for(["o", "ne"]), tolerance_for(["one"])
    (3, 2, 1)
    """
    characters = sum(len(piece) for piece in pieces)
    return max(1, round(TOLERANCE * len(pieces) / characters))


def monotonic_path(attention):
    """The token of each code, int64 ``[T]``, on the path through attention ``[T, S]`` that never
    goes back and gathers most.

    Example
    -------
    >>> attention = torch.tensor([[9, 1, 0], [4, 0, 6], [8, 1, 1], [0, 1, 9]])
    >>> monotonic_path(attention).tolist()  # the second code attends most to the last token
    [0, 0, 0, 2]
    """
    best, origins = torch.zeros_like(attention[0]), []
    for row in attention:
        best, origin = best.cummax(0)
        best = best + row
        origins.append(origin)
    path = [int(best.argmax())]
    for origin in reversed(origins[1:]):
        path.append(int(origin[path[-1]]))
    return torch.tensor(path[::-1])


def longest_run(values):
    """Most equal values in a row.

    Example
    -------
    >>> longest_run(torch.tensor([4, 4, 1, 4, 4, 4, 2]))
    3
    """
    if not len(values):
        return 0
    return int(torch.unique_consecutive(values, return_counts=True)[1].max())


def longest_repetition(codes):
    """The longest stretch of codes ``[T]`` that says the same three times or more, one after the
    other, in codes; 1 if there is none.

    What is said may be a single code, as in silence, or up to 64 codes long. Speech as it is
    recorded has such stretches in its pauses; a loop is what is longer than these.

    Example
    -------
    >>> longest_repetition(torch.tensor([7, 1, 2, 1, 2, 1, 2, 1, 9]))
    7
    >>> longest_repetition(torch.tensor([7, 1, 2, 1, 2, 9]))
    1
    """
    codes, longest = torch.as_tensor(codes), 1
    for period in range(1, min(LONGEST_LOOP, len(codes) // LOOP_ROUNDS) + 1):
        same, lengths = torch.unique_consecutive(
            codes[period:] == codes[:-period], return_counts=True
        )
        stretch = int((same * lengths).max()) + period
        if stretch >= LOOP_ROUNDS * period:
            longest = max(longest, stretch)
    return longest


def loop_signs(figures, codes, most_stall=None, most_repetition=None, stopped=True):
    """What says that the reading got stuck or began again, instead of going on to the end: any of
    ``goes back``, ``stands still``, ``repeats itself`` and ``does not end``.

    ``figures`` are :func:`alignment_figures` of the codes, ``most_stall`` and ``most_repetition``
    the greatest ``longest_stall`` and :func:`longest_repetition`, in codes, that recorded speech
    accounts for (None: not looked at); ``stopped``, whether the codes ended by themselves, and not
    by a bound on their number.

    Example
    -------
    >>> figures = alignment_figures(torch.eye(20)[[*range(12), *[11] * 30]])
    >>> loop_signs(figures, torch.arange(42), most_stall=20, stopped=False)
    ['stands still', 'does not end']
    """
    signs = {
        "goes back": figures["backward_steps"] > 0,
        "stands still": most_stall is not None and figures["longest_stall"] > most_stall,
        "repeats itself": most_repetition is not None
        and longest_repetition(codes) > most_repetition,
        "does not end": not stopped,
    }
    return [sign for sign, found in signs.items() if found]


def _smooth(peaks):
    """Medians over SMOOTHED_CODES, of which a sequence that never goes back keeps its inside."""
    margin = SMOOTHED_CODES // 2
    if len(peaks) <= margin:
        return peaks
    # Mirrored, so that a single stray code at either end is outvoted too.
    padded = torch.cat([peaks[1 : margin + 1].flip(0), peaks, peaks[-margin - 1 : -1].flip(0)])
    return padded.unfold(0, SMOOTHED_CODES, 1).median(1).values
