"""Where new and restarted codes are placed: frames far from every code, and idle codes moved to
them."""

from waveglow_vq.lobes.quantizers.statistics import squared_distances
from waveglow_vq.utils.devices import exact, returned

import torch


def choose_spread_frames(frames, count, codes=None, trials=8, generator=None):
    """Chooses frames that lie where codes are missing (greedy k-means++; Arthur and Vassilvitskii,
    "k-means++: the advantages of careful seeding", 2007).

    Each choice draws `trials` of the frames [N, D] with probability proportional to their squared
    distance to the nearest code so far, and takes the one that lowers the sum of these distances
    the most: so it is drawn to groups of frames without a code, and not to single outliers. `codes`
    [K, D] are those that exist already. Random numbers come from the CPU: they are then the same on
    every device.

    Returns
    -------
    chosen : torch.Tensor
        [count, D]
    distances : torch.Tensor
        [count], the squared distance of each to the nearest code at the time of its choice.
    gains : torch.Tensor
        [count], by how much each choice lowers the sum of squared distances of the other frames.

    Example
    -------
    >>> frames = torch.tensor([[0.0], [0.0], [5.0]])
    >>> choose_spread_frames(frames, 1, codes=torch.zeros(1, 1))
    (tensor([[5.]]), tensor([25.]), tensor([0.]))
    """
    draws = torch.rand(count + 1, trials, generator=generator, dtype=torch.float64)
    draws = returned(draws, exact(frames[:0]))
    if codes is not None and len(codes):
        nearest = squared_distances(frames, codes).amin(dim=1)
    else:
        origin = frames[(draws[-1, :1] * len(frames)).long()]
        nearest = squared_distances(frames, origin)[:, 0]
        # The first choice is free: every frame is as far from a code as the average one.
        nearest = nearest.mean().expand(len(frames)).clone()
    chosen, distances, gains = [], [], []
    for draw in draws[:-1]:
        # Drawn from the cumulative sum, without a look at it by the host, and without an error if
        # it holds NaN: such a step is taken back later, by all processes together.
        cumulative = exact(torch.where(nearest.sum() > 0, nearest, 1.0)).cumsum(dim=0)
        candidates = torch.searchsorted(cumulative, draw * cumulative[-1], right=True)
        candidates = candidates.clamp_max(len(frames) - 1)
        remaining = torch.minimum(nearest[:, None], squared_distances(frames, frames[candidates]))
        best = remaining.sum(dim=0).argmin()
        chosen.append(frames[candidates[best]])
        distances.append(nearest[candidates[best]])
        gains.append((nearest - remaining[:, best]).sum() - distances[-1])
        nearest = remaining[:, best]
    return torch.stack(chosen), torch.stack(distances), torch.stack(gains).clamp_min(0.0)


def move_idle_codes(frames, codes, limit, margin=2.0, generator=None):
    """Finds codes that lower the error more if they are moved (after LBG-U; Fritzke, "The LBG-U
    method for vector quantization", 1997).

    Two codes may share one group of frames while another group has none; both are used, so neither
    is dead. Of the codes [K, D], K > 1, one is moved to one of the frames [N, D] if the squared
    error that its removal adds, times `margin`, is less than the error that the new place saves for
    the other frames.

    Returns which codes to move, int64 [M], at most `limit`, and where to, [M, D].

    Example
    -------
    >>> frames = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0], [9.1], [9.0], [9.1]])
    >>> rows, places = move_idle_codes(frames, torch.tensor([[0.0], [0.1], [9.0]]), limit=1)
    >>> int(rows) in (0, 1), 5.0 <= float(places) <= 5.1
    (True, True)
    """
    nearest, which = squared_distances(frames, codes).topk(2, dim=1, largest=False)
    cost = frames.new_zeros(len(codes)).index_add_(0, which[:, 0], nearest[:, 1] - nearest[:, 0])
    places, _, gains = choose_spread_frames(frames, limit, codes, generator=generator)
    rows = []
    needed = torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
    for row in cost.argsort().tolist():
        if len(rows) == limit or not bool(gains[len(rows)] > margin * cost[row]):
            break
        if not needed[row]:
            rows.append(row)
            # Whoever takes over the frames of a removed code has to stay.
            needed[which[which[:, 0] == row, 1]] = True
    rows = torch.tensor(rows, dtype=torch.int64, device=codes.device)
    return rows, places[: len(rows)]
