"""Statistics of codes, and the functions that measure them.

Usage and perplexity alone can be fooled: a codebook whose codes have all merged into one point
still shares the frames evenly among them. Hence every summary here also holds the normalized
mean squared error and the number of codes that can be told apart.
"""

import contextlib
import math

from waveglow_vq.utils.devices import exact, in_float64
from waveglow_vq.utils.distributed import all_gather_object, is_distributed

import torch

MERGE_TOLERANCE = 0.05
# Means and the sums of squared deviations from them; the latter are of several codebooks.
MOMENTS = (("mean_frame", "squared_deviation"), ("codebook_mean", "codebook_deviation"))


@contextlib.contextmanager
def full_precision_matmul(device):
    """Keeps TF32 out of matrix products on CUDA: its 10 bits pick wrong codes."""
    if device.type != "cuda":
        yield
        return
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def squared_distances(frames, codebook):
    """Squared Euclidean distances [N, K], not negative, of all frames [N, D] to all codes [K, D].

    The square is expanded, |x|^2 - 2 x e + |e|^2, after the mean of the codes has been taken off
    both sides: without that, an offset that frames and codes share eats up the digits.

    Example
    -------
    >>> squared_distances(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, 3.0]]))
    tensor([[25.,  1.]])
    """
    origin = codebook.detach().mean(dim=0)
    frames, codebook = frames - origin, codebook - origin
    with full_precision_matmul(frames.device):
        cross = frames @ codebook.t()
    distances = frames.square().sum(1, keepdim=True) - 2 * cross + codebook.square().sum(1)
    return distances.clamp_min(0.0)


def merged_codes(codebook, distance):
    """Marks, bool [K], every code [K, D] that lies within `distance`, in the units of the codebook,
    of an earlier code which is kept, and so could be left out.

    Example
    -------
    >>> merged_codes(torch.tensor([[0.0], [1.0], [0.01]]), 0.1)
    tensor([False, False,  True])
    """
    codes = in_float64(codebook.detach())
    near = squared_distances(codes, codes) <= distance**2
    near.fill_diagonal_(False)
    merged = torch.zeros(len(codes), dtype=torch.bool)
    near = near.cpu()
    for code in near.any(dim=1).nonzero()[:, 0].tolist():
        if not merged[code]:
            merged |= near[code] & (torch.arange(len(codes)) > code)
    return merged.to(codebook.device)


def distinct_codes(codebook, relative_tolerance=MERGE_TOLERANCE, data_deviation=None):
    """Number of codes [K, D] that can be told apart, from 1 to K.

    Codes nearer to each other than `relative_tolerance` of `data_deviation`, the root mean square
    distance of the data from their mean, count as one. Without it the spread of the codes stands in
    for it, but never less than a thousandth of their length: a codebook that has merged into one
    point has no spread of its own to be measured by.

    Example
    -------
    >>> distinct_codes(torch.ones(8, 2) + 1e-6 * torch.arange(8)[:, None])
    1
    >>> distinct_codes(torch.eye(8))
    8
    """
    if data_deviation is None:
        codes = in_float64(codebook.detach())
        spread = (codes - codes.mean(0)).square().sum(1).mean().sqrt()
        length = codes.square().sum(1).mean().sqrt()
        data_deviation = max(float(spread), 1e-3 * float(length))
    merged = merged_codes(codebook, relative_tolerance * float(data_deviation))
    return len(codebook) - int(merged.sum())


def second_moments(frames):
    """Sum of x x^T over `frames` [N, D]: [D, D] in double precision, to be added over processes."""
    # Brought to unit size first, since single precision ends at 1e-38.
    size = frames.square().mean().sqrt().clamp_min(torch.finfo(frames.dtype).tiny)
    frames = frames / size
    with full_precision_matmul(frames.device):
        return exact(frames.t() @ frames) * exact(size).square()


def participating_dimensions(moments, count):
    """Number of dimensions over which `count` frames spread: (sum of the eigenvalues of their
    second moments [D, D], of `second_moments`)^2 over the sum of the squared eigenvalues, from 1 to
    D.

    Example
    -------
    >>> frames = torch.randn(5000, 4) * torch.tensor([1, 1, 1, 0])
    >>> round(float(participating_dimensions(second_moments(frames), 5000)))
    3
    """
    moments = moments / moments.diagonal().mean().clamp_min(torch.finfo(moments.dtype).tiny)
    total = moments.diagonal().sum()
    # A sample of N spreads less than its source: its squares are too large by total^2 / N.
    squares = moments.square().sum() - total**2 / count
    return (total**2 / squares.clamp_min(1e-12)).clamp(1.0, float(len(moments)))


def perplexity(counts):
    """Exponential of the entropy of `counts` [..., K]: the number of codes that are used, in
    effect.

    Example
    -------
    >>> perplexity(torch.tensor([5, 5, 0, 5]))
    tensor(3.0000, dtype=torch.float64)
    """
    share = exact(counts) / counts.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return torch.special.entr(share).sum(dim=-1).exp()


class CodeStatistics:
    """Accumulates a quantizer's statistics over an epoch.

    Example
    -------
    >>> from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer
    >>> quantizer = EMAQuantizer(4, 2, initialization="normal").eval()
    >>> epoch = CodeStatistics()
    >>> epoch.accumulate(quantizer(torch.randn(2, 50, 2)).statistics)
    >>> sorted(epoch.summary(quantizer.codebook, frames_per_second=50.0))  # doctest: +ELLIPSIS
    ['bits_per_second', 'distinct_codes', 'entropy_bits_per_second', 'normalized_mse', ...]
    """

    def __init__(self):
        self.totals = None

    def accumulate(self, statistics):
        """Adds one forward's `QuantizerOutput.statistics`."""
        new = {
            "frames": exact(statistics["frames"].detach()),
            "counts": exact(statistics["counts"].detach()),
            "squared_error": exact(statistics["squared_error"].detach()),
            "squared_deviation": exact(statistics["squared_deviation"].detach()),
            "mean_frame": exact(statistics["mean_frame"].detach()),
            "log_responsibility_perplexity": exact(statistics["frames"])
            * exact(statistics["responsibility_perplexity"].detach()).log(),
        }
        for name in MOMENTS[1]:
            if name in statistics:
                new[name] = exact(statistics[name].detach())
        self.totals = new if self.totals is None else _add_totals(self.totals, new)

    def summary(self, codebook, frames_per_second):
        """Summarizes over all processes; every process has to call it.

        Arguments
        ---------
        codebook : torch.Tensor
            [K, D], or [N, K, ...] of several.
        frames_per_second : float
            Codes, of each codebook, per second of audio.

        Returns
        -------
        summary : dict
            Plain floats. `used`: codes chosen at least once. `perplexity`: of these choices.
            `distinct_codes`: codes that can be told apart. `normalized_mse`: quantization error
            over the deviation of the data from their mean. `responsibility_perplexity`: codes
            that share a frame (geometric mean). `bits_per_second`: log2(K) for each frame.
            `entropy_bits_per_second`: the entropy of the choices for each frame. Of several
            codebooks codes and bits are counted over all, the perplexity is a geometric mean. An
            empty dict if nothing was collected anywhere.
        """
        totals = _gather_totals(self.totals)
        if totals is None:
            return {}
        in_use, codebooks = perplexity(totals["counts"]), 1
        deviations = totals["squared_deviation"][None]
        if codebook.dim() == 3:
            in_use, codebooks = in_use.log().mean().exp(), len(codebook)
            deviations = totals["codebook_deviation"]
        in_use, codebook = float(in_use), codebook.view(codebooks, *codebook.shape[-2:])
        deviations = (deviations / totals["frames"]).sqrt()
        distinct = [
            distinct_codes(codes, data_deviation=deviation)
            for codes, deviation in zip(codebook, deviations, strict=True)
        ]
        frames_per_second = codebooks * frames_per_second
        return {
            "used": float((totals["counts"] > 0).sum()),
            "perplexity": in_use,
            "distinct_codes": float(sum(distinct)),
            "normalized_mse": _ratio(totals["squared_error"], totals["squared_deviation"]),
            "responsibility_perplexity": float(
                (totals["log_responsibility_perplexity"] / totals["frames"]).exp()
            ),
            "bits_per_second": math.log2(codebook.shape[1]) * frames_per_second,
            "entropy_bits_per_second": math.log2(max(in_use, 1.0)) * frames_per_second,
        }


def _ratio(error, deviation):
    """Error over deviation; 0 / 0 is a perfect copy, and anything else / 0 infinitely bad."""
    error, deviation = float(error), float(deviation)
    if deviation > 0:
        return error / deviation
    return 0.0 if error == 0 else math.inf


def _add_totals(first, second):
    """Joins two parts; the deviations are from each part's own mean (Chan et al., 1979)."""
    total = {key: first[key] + second[key] for key in first}
    share = second["frames"] / total["frames"].clamp_min(1.0)
    for mean, deviation in MOMENTS:
        if mean in total:
            difference = second[mean] - first[mean]
            total[mean] = first[mean] + difference * share
            total[deviation] += difference.square().sum(dim=-1) * first["frames"] * share
    return total


def _gather_totals(totals):
    """Joins the totals of all processes, those included that collected nothing."""
    if not is_distributed():
        return totals
    if totals is not None:
        totals = {name: value.cpu() for name, value in totals.items()}
    joined = None
    for part in all_gather_object(totals):
        if part is not None and part["frames"] > 0:
            joined = part if joined is None else _add_totals(joined, part)
    return joined
