"""The invertible 1x1 convolution."""

from waveglow_vq.lobes.flows.inference_cache import InferenceCache
from waveglow_vq.lobes.flows.transforms import FlowContext, Transform
from waveglow_vq.utils.devices import at_least_fp32, in_float64, returned, without_tf32

import torch
from torch import nn


class InvertibleConv1x1(InferenceCache, Transform):
    """Mixes channels with a learned invertible matrix (Glow, Kingma and Dhariwal 2018, eq. 9):

        y_i = W x_i,    logdet = groups * log |det W|

    W starts as a random rotation. The log-determinant is taken by ``slogdet``, which also holds
    for a negative determinant. Products are in fp32 on GPUs too, not in TF32, which would lose what
    the inverse needs.

    Arguments
    ---------
    channels : int
        Size of W.

    Example
    -------
    >>> import torch
    >>> flow = InvertibleConv1x1(4)
    >>> x = torch.randn(2, 4, 10)
    >>> y, logdet = flow(x)
    >>> torch.allclose(flow.inverse(y), x, atol=1e-5), logdet.shape
    (True, torch.Size([2]))
    """

    def __init__(self, channels):
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        if torch.det(rotation) < 0:
            rotation[:, 0] = -rotation[:, 0]
        self.weight = nn.Parameter(rotation.contiguous())

    def _prepare(self, dtype):
        # The inverse, which is sensitive, and the log-determinant.
        inverse, weight = self._inverse(), self.weight
        logabsdet = torch.linalg.slogdet(weight.to(inverse.device)).logabsdet
        if inverse.device != weight.device:
            inverse = returned(inverse, weight)
        return inverse, logabsdet.to(weight.device)

    def _inverse(self):
        # fp64 for the few numbers of W, so that a chain of many flows stays exact.
        return torch.linalg.inv(in_float64(self.weight))

    def forward(self, x, context=FlowContext()):
        """See :class:`Transform`."""
        x = at_least_fp32(x)
        with torch.autocast(x.device.type, enabled=False), without_tf32():
            y = self.weight @ x
            cached = self.prepared()
            per_group = torch.linalg.slogdet(self.weight).logabsdet if cached is None else cached[1]
            if context.mask is None:
                groups = torch.full((x.shape[0],), x.shape[-1], device=x.device)
            else:
                # A mask may be in half precision, which cannot count beyond 2048 or 256.
                groups = context.mask.sum(dim=(1, 2), dtype=x.dtype)
            return y, per_group * groups.to(x.dtype)

    def inverse(self, y, context=FlowContext()):
        """See :class:`Transform`."""
        y = at_least_fp32(y)
        with torch.autocast(y.device.type, enabled=False), without_tf32():
            cached = self.prepared()
            return returned(self._inverse() if cached is None else cached[0], y) @ y
