"""FiLM as a conditional affine flow."""

from waveglow_vq.lobes.flows.transforms import FlowContext, Transform, sum_over_groups
from waveglow_vq.lobes.flows.upsampling import frames_to_groups
from waveglow_vq.lobes.layers import zero_linear
from waveglow_vq.utils.devices import at_least_fp32

from torch import nn


class FiLM(Transform):
    """Feature-wise linear modulation (Perez et al. 2018, eq. 2) as a conditional affine flow:

        y = exp(log s(c)) * x + t(c),    logdet = sum log s(c)

    with log s and t linear in the local and the global condition c. There is no activation
    behind them, since one would cut half of the modulations off. It starts as the identity.

    Arguments
    ---------
    channels : int
        Channels of x.
    condition_channels : int
        Channels of the local condition; 0 for none.
    speaker_channels : int
        Channels of the global condition; 0 for none.
    log_scale_bound : float
        As in :class:`AffineCoupling`.

    Example
    -------
    >>> import torch
    >>> flow = FiLM(8, condition_channels=80)
    >>> context = FlowContext(local=torch.randn(2, 80, 5), groups_per_frame=32)
    >>> y, logdet = flow(torch.randn(2, 8, 5 * 32), context)
    >>> y.shape, logdet.shape
    (torch.Size([2, 8, 160]), torch.Size([2]))
    """

    def __init__(self, channels, condition_channels=0, speaker_channels=0, log_scale_bound=8.0):
        super().__init__()
        self.channels = channels
        self.log_scale_bound = log_scale_bound
        self.local = zero_linear(condition_channels, 2 * channels, nn.Conv1d, 1)
        self.speaker = zero_linear(speaker_channels, 2 * channels, nn.Linear)

    def _shift_and_log_scale(self, x, context):
        modulation = x.new_zeros(x.shape[0], 2 * self.channels, 1)
        if self.local is not None:
            modulation = at_least_fp32(self.local(context.local))
        if self.speaker is not None and context.speaker is not None:
            modulation = modulation + at_least_fp32(self.speaker(context.speaker))[..., None]
        if modulation.shape[-1] > 1:
            modulation = frames_to_groups(modulation, x.shape[-1], context.groups_per_frame)
        shift, log_scale = modulation.chunk(2, dim=1)
        return shift, log_scale.clamp(-self.log_scale_bound, self.log_scale_bound)

    def forward(self, x, context=FlowContext()):
        """See :class:`Transform`."""
        x = at_least_fp32(x)
        shift, log_scale = self._shift_and_log_scale(x, context)
        y = log_scale.exp() * x + shift
        return y, sum_over_groups(log_scale.expand_as(x), context.mask)

    def inverse(self, y, context=FlowContext()):
        """See :class:`Transform`."""
        y = at_least_fp32(y)
        shift, log_scale = self._shift_and_log_scale(y, context)
        return (y - shift) * (-log_scale).exp()
