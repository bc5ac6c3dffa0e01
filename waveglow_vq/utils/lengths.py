"""Counts of frames, codes and samples, and the relative lengths that stand for them.

Half precision cannot count beyond 256 (bf16) or 2048 (fp16), and fp32 cannot tell the samples of
long recordings apart: whole numbers are kept as such, and what is between is fp64
(fp32 on devices without, which is exact for four million steps).

Authors
 * The waveglow-vq developers, 2026
"""

from waveglow_vq.utils.devices import exact


def whole_lengths(lengths, total):
    """Relative lengths as counts.

    Arguments
    ---------
    lengths : torch.Tensor
        Shares of ``total`` in (0, 1], of any shape.
    total : int
        Steps of the padded batch.

    Returns
    -------
    torch.Tensor
        int64.

    Example
    -------
    >>> import torch
    >>> whole_lengths(torch.tensor([1.0, 601 / 999]), 999)
    tensor([999, 601])
    """
    return (exact(lengths) * total).round().long()


def shares(counts, total):
    """Counts as relative lengths: the inverse of :func:`whole_lengths`."""
    return exact(counts) / total
