"""The coupling network: a non-causal WaveNet with local and global condition.

Authors
 * The waveglow-vq developers, 2026
"""

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows import FlowContext, frames_to_groups

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class WaveNet(nn.Module):
    """Gated dilated convolutions over groups (WaveNet, van den Oord et al. 2016, eq. 2 and 3;
    non-causal as in WaveGlow, Prenger et al. 2018, section 2.1). Layer i has dilation 2^i and

        h <- h + residual,    (residual, skip) = V_i (tanh(u) * sigmoid(v)),
        (u, v) = W_i * h + C_i local + S_i speaker

    and the sum of the skips is projected to the output. The last projection starts at zero, so
    that a coupling starts as the identity.

    The condition's projection is linear, as is the interpolation from frames to groups: so the
    projection is done at frame rate, where it costs a few hundredths, and interpolated after.

    Arguments
    ---------
    in_channels : int
        Channels of the input.
    out_channels : int
        Channels of the output.
    channels : int
        Channels of the residual and of the skip path.
    layers : int
        Number of dilated layers.
    kernel_size : int
        Taps of the dilated convolutions, odd.
    condition_channels : int
        Channels of the local condition; 0 for none.
    speaker_channels : int
        Channels of the global condition; 0 for none.
    use_weight_norm : bool
        Whether every layer but the last is weight-normalised (Salimans and Kingma 2016).

    Example
    -------
    >>> import torch
    >>> network = WaveNet(4, 8, channels=16, layers=2, condition_channels=80)
    >>> context = FlowContext(local=torch.randn(2, 80, 5), groups_per_frame=32)
    >>> network(torch.randn(2, 4, 5 * 32), context).shape
    torch.Size([2, 8, 160])
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        channels=64,
        layers=5,
        kernel_size=3,
        condition_channels=0,
        speaker_channels=0,
        use_weight_norm=True,
    ):
        super().__init__()
        if kernel_size % 2 == 0:
            raise UserError(f"kernel_size: {kernel_size}; it has to be odd")
        normalised = weight_norm if use_weight_norm else (lambda module: module)
        self.channels = channels
        self.kernel_size = kernel_size
        self.start = normalised(nn.Conv1d(in_channels, channels, 1))
        self.dilated = nn.ModuleList()
        self.residual_skip = nn.ModuleList()
        for i in range(layers):
            padding = 2**i * (kernel_size - 1) // 2
            dilated = nn.Conv1d(channels, 2 * channels, kernel_size, dilation=2**i, padding=padding)
            self.dilated.append(normalised(dilated))
            # Nothing follows the residual of the last layer.
            outputs = 2 * channels if i < layers - 1 else channels
            self.residual_skip.append(normalised(nn.Conv1d(channels, outputs, 1)))
        self.local = self.speaker = None
        if condition_channels:
            self.local = normalised(nn.Conv1d(condition_channels, 2 * channels * layers, 1))
        if speaker_channels:
            self.speaker = normalised(nn.Linear(speaker_channels, 2 * channels * layers))
        self.end = nn.Conv1d(channels, out_channels, 1)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    @property
    def receptive_field(self):
        """Groups that an output sees to either side of its own."""
        return (self.kernel_size - 1) // 2 * (2 ** len(self.dilated) - 1)

    def _conditions(self, context):
        """What each layer adds to its pre-activations, ``[batch, 2 * channels, frames or 1]``."""
        condition = None
        if self.local is not None:
            condition = self.local(context.local)
        if self.speaker is not None and context.speaker is not None:
            bias = self.speaker(context.speaker)[..., None]
            condition = bias if condition is None else condition + bias
        if condition is None:
            return [None] * len(self.dilated)
        return condition.chunk(len(self.dilated), dim=1)

    def forward(self, x, context=FlowContext()):
        """Computes the output.

        Arguments
        ---------
        x : torch.Tensor
            ``[batch, in_channels, groups]``.
        context : FlowContext
            The conditions; with a mask, padded groups are held at zero as the convolutions'
            own padding is, so that an item does not depend on what it is batched with.

        Returns
        -------
        torch.Tensor
            ``[batch, out_channels, groups]``.
        """
        hidden = self.start(x)
        skips = 0
        last = len(self.dilated) - 1
        for i, condition in enumerate(self._conditions(context)):
            if context.mask is not None:
                hidden = hidden * context.mask
            gates = self.dilated[i](hidden)
            if condition is not None:
                if condition.shape[-1] > 1:
                    groups = gates.shape[-1]
                    condition = frames_to_groups(condition, groups, context.groups_per_frame)
                gates = gates + condition
            filtered, gate = gates.chunk(2, dim=1)
            acts = torch.tanh(filtered) * torch.sigmoid(gate)
            out = self.residual_skip[i](acts)
            if i < last:
                residual, skip = out.chunk(2, dim=1)
                hidden = hidden + residual
                skips = skips + skip
            else:
                skips = skips + out
        return self.end(skips)
