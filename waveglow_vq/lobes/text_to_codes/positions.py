"""Positions in a sequence as vectors."""

import math

import torch


def sinusoids(positions, channels):
    """Encodes positions ``[T]``, which need not be whole, in an even number of channels, fp32
    ``[T, channels]``:

        p(t)_2i = sin(t / 10000^(2i / channels)),   p(t)_2i+1 = cos(t / 10000^(2i / channels))

    (Vaswani et al., 2017, section 3.5).

    Example
    -------
    >>> sinusoids(torch.tensor([0.0, 1.5]), 4).shape
    torch.Size([2, 4])
    """
    pairs = torch.arange(0, channels, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float()[:, None] * torch.exp(pairs * (-math.log(10000.0) / channels))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
