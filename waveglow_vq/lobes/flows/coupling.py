"""The affine coupling layer, and the flow step that it ends."""

from waveglow_vq.lobes.flows.transforms import (
    CompositeTransform,
    FlowContext,
    Transform,
    sum_over_groups,
)
from waveglow_vq.utils.devices import at_least_fp32

import torch


class AffineCoupling(Transform):
    """Affine coupling layer (RealNVP, Dinh et al. 2017, eq. 7-8; WaveGlow, eq. 5-7):

        x = (x_a, x_b),    (t, log s) = network(x_a, context)
        y_a = x_a,    y_b = exp(log s) * x_b + t,    logdet = sum log s

    Arguments
    ---------
    network : torch.nn.Module
        ``network(x_a, context)`` returns ``[batch, 2 * (channels - kept), groups]``: first the
        shifts t, then the log-scales.
    kept : int
        Number of leading channels in x_a.
    log_scale_bound : float
        Log-scales are clamped to this magnitude: no single layer can overflow.
    """

    def __init__(self, network, kept, log_scale_bound=8.0):
        super().__init__()
        self.network = network
        self.kept = kept
        self.log_scale_bound = log_scale_bound

    @property
    def receptive_field(self):
        """That of the network."""
        return self.network.receptive_field

    def _shift_and_log_scale(self, x_a, context):
        seen = x_a if context.source is None else torch.cat([x_a, context.source], dim=1)
        shift, log_scale = at_least_fp32(self.network(seen, context)).chunk(2, dim=1)
        return shift, log_scale.clamp(-self.log_scale_bound, self.log_scale_bound)

    def forward(self, x, context=FlowContext()):
        """See :class:`Transform`."""
        x_a, x_b = x[:, : self.kept], x[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(x_a, context)
        y = torch.cat([x_a, log_scale.exp() * x_b + shift], dim=1)
        return y, sum_over_groups(log_scale, context.mask)

    def inverse(self, y, context=FlowContext()):
        """See :class:`Transform`."""
        y_a, y_b = y[:, : self.kept], y[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(y_a, context)
        return torch.cat([y_a, (y_b - shift) * (-log_scale).exp()], dim=1)


class FlowStep(CompositeTransform):
    """One step of WaveGlow: a transform of one's own and FiLM (by option), invertible 1x1
    convolution, affine coupling.

    Arguments
    ---------
    conv, coupling, film, own : Transform
        The transforms; the last two may be None.
    first : int
        Channels before this one have left the chain: they pass unchanged.
    """

    def __init__(self, conv, coupling, film=None, own=None, first=0):
        super().__init__()
        self.own = own
        self.film = film
        self.conv = conv
        self.coupling = coupling
        self.first = first

    @property
    def transforms(self):
        """In the order in which forward applies them."""
        flows = (self.own, self.film, self.conv, self.coupling)
        return [flow for flow in flows if flow is not None]

    def forward(self, x, context=FlowContext()):
        """See :class:`Transform`."""
        y, logdet = super().forward(x[:, self.first :], context)
        return self._with_early(x, y), logdet

    def inverse(self, y, context=FlowContext()):
        """See :class:`Transform`."""
        return self._with_early(y, super().inverse(y[:, self.first :], context))

    def _with_early(self, whole, x):
        return torch.cat([whole[:, : self.first], x], dim=1) if self.first else x
