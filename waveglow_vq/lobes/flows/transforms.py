"""The contract of invertible transforms, and chains of them."""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class FlowContext(NamedTuple):
    """What the transforms of a chain are conditioned on; every field may be None.

    Arguments
    ---------
    local : torch.Tensor
        Local condition ``[batch, condition_channels, frames]``.
    speaker : torch.Tensor
        Global condition ``[batch, speaker_channels]``.
    mask : torch.Tensor
        1 where a group belongs to its item and 0 where it is padding,
        ``[batch, 1, groups]``. None where nothing is padded.
    groups_per_frame : int
        Groups of samples in a frame of the local condition; 1 where it is at group rate.
    source : torch.Tensor
        What excites the voice, ``[batch, group_size, groups]``, for couplings that see it.
    """

    local: torch.Tensor | None = None
    speaker: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    groups_per_frame: int = 1
    source: torch.Tensor | None = None


class Transform(nn.Module):
    """An invertible transform of ``x [batch, channels, groups]`` given a context.

    ``forward(x, context)`` returns y, of the shape of x, and ``logdet [batch]``, the logarithm of
    |det dy/dx| of each item; ``inverse(y, context)`` returns x. What is computed on x and y is
    never below fp32, whatever autocast says, and in fp64 with fp64 inputs and parameters.
    ``receptive_field`` is how many groups to either side of a group y and x depend on.

    Example
    -------
    >>> import torch
    >>> class Reversal(Transform):
    ...     def forward(self, x, context=FlowContext()):
    ...         return x.flip(1), x.new_zeros(len(x))
    ...
    ...     def inverse(self, y, context=FlowContext()):
    ...         return y.flip(1)
    >>> x = torch.randn(2, 4, 10)
    >>> y, logdet = Chain([Reversal(), Reversal()])(x)
    >>> torch.equal(x, y), logdet
    (True, tensor([0., 0.]))
    """

    receptive_field = 0

    def forward(self, x, context=FlowContext()):
        """To y and the log-determinant."""
        raise NotImplementedError

    def inverse(self, y, context=FlowContext()):
        """Back to x."""
        raise NotImplementedError


class CompositeTransform(Transform):
    """Transforms one after another; subclasses say which by ``transforms``."""

    transforms = ()

    @property
    def receptive_field(self):
        """That of all transforms together."""
        return sum(transform.receptive_field for transform in self.transforms)

    def forward(self, x, context=FlowContext(), memory_efficient=False):
        """See :class:`Transform`; with ``memory_efficient``, of each transform the input alone is
        kept for the backward pass, which computes the transform again."""
        logdet = x.new_zeros(len(x))
        for transform in self.transforms:
            if memory_efficient and torch.is_grad_enabled():
                x, term = checkpoint(transform, x, context, use_reentrant=False)
            else:
                x, term = transform(x, context)
            logdet = logdet + term
        return x, logdet

    def inverse(self, y, context=FlowContext(), narrow=None):
        """See :class:`Transform`; ``narrow(transform, y, context)``, if given, cuts off what is not
        needed behind each transform."""
        for transform in reversed(self.transforms):
            y = transform.inverse(y, context)
            if narrow is not None:
                y, context = narrow(transform, y, context)
        return y


class Chain(CompositeTransform, nn.ModuleList):
    """A list of transforms that is one."""

    @property
    def transforms(self):
        """In the order in which forward applies them."""
        return list(self)


def sum_over_groups(x, mask=None):
    """Sums ``[batch, channels, groups]`` to ``[batch]``, leaving padded groups out."""
    if mask is not None:
        x = torch.where(mask.bool(), x, torch.zeros((), dtype=x.dtype, device=x.device))
    return x.sum(dim=(1, 2))


def squeeze(wav, group_size):
    """Cuts waveforms ``[batch, samples]`` into groups of consecutive samples,
    ``[batch, group_size, groups]``: channel r of group i is sample ``i * group_size + r``. The
    group size divides the samples. It is a permutation, so logdet is 0.

    Example
    -------
    >>> import torch
    >>> squeeze(torch.arange(6.0)[None], 2)
    tensor([[[0., 2., 4.],
             [1., 3., 5.]]])
    """
    return wav.unflatten(-1, (-1, group_size)).transpose(1, 2)


def unsqueeze(x):
    """The inverse of :func:`squeeze`.

    Example
    -------
    >>> import torch
    >>> unsqueeze(squeeze(torch.arange(6.0)[None], 2))
    tensor([[0., 1., 2., 3., 4., 5.]])
    """
    return x.transpose(1, 2).flatten(1)
