"""Layers that conditioners, speakers and flows share."""

from waveglow_vq.errors import UserError
from waveglow_vq.utils.masking import masked

from torch import nn
from torch.nn import functional as F


def zero_linear(inputs, outputs, layer, *arguments):
    """``layer(inputs, outputs, *arguments)`` that starts at zero, or None without inputs."""
    if inputs == 0:
        return None
    module = layer(inputs, outputs, *arguments)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    return module


class ResidualStack(nn.Module):
    """Residual convolutions at a constant rate: h <- h + W2 gelu(W1 * (s gelu(h) + t)), where the
    modulation s, t is linear in the global condition and, without one, 1 and 0.

    Padded frames are held at zero, as the convolutions' own padding is.

    Arguments
    ---------
    channels : int
        Channels.
    layers : int
        Residual blocks.
    kernel_size : int
        Taps of the first convolution of each block, odd.
    speaker_channels : int
        Channels of the global condition; 0 for none.
    dilation_cycle : int
        Block i has dilation ``2 ** (i % dilation_cycle)``.

    Example
    -------
    >>> import torch
    >>> ResidualStack(16, 2)(torch.randn(2, 16, 10)).shape
    torch.Size([2, 16, 10])
    """

    def __init__(self, channels, layers, kernel_size=3, speaker_channels=0, dilation_cycle=1):
        super().__init__()
        if kernel_size % 2 == 0:
            raise UserError(f"kernel_size: {kernel_size}; it must be odd")
        dilations = [2 ** (i % dilation_cycle) for i in range(layers)]
        self.wide = nn.ModuleList(
            nn.Conv1d(
                channels, channels, kernel_size, padding=kernel_size // 2 * dilation,
                dilation=dilation,
            )
            for dilation in dilations
        )  # fmt: skip
        self.narrow = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in range(layers))
        self.modulation = None
        if speaker_channels and layers:
            self.modulation = zero_linear(speaker_channels, 2 * channels * layers, nn.Linear)

    @property
    def receptive_field(self):
        """Steps that a step of the result sees to either side."""
        return sum(layer.padding[0] for layer in self.wide)

    def forward(self, x, mask=None, speaker=None):
        """``[batch, channels, frames]`` to the same; mask as from :func:`frame_mask`, speaker
        ``[batch, speaker_channels]``."""
        modulations = [None] * len(self.wide)
        if self.modulation is not None:
            modulations = self.modulation(speaker)[..., None].chunk(len(self.wide), dim=1)
        for wide, narrow, modulation in zip(self.wide, self.narrow, modulations, strict=True):
            hidden = F.gelu(x)
            if modulation is not None:
                scale, shift = modulation.chunk(2, dim=1)
                hidden = hidden * (1 + scale) + shift
            x = x + narrow(F.gelu(wide(masked(hidden, mask))))
        return x
