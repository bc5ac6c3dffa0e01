"""The conditioner without codes: the log-mel."""

from waveglow_vq.lobes.conditioners.base import Condition, Conditioner, normalize_log_mel
from waveglow_vq.lobes.layers import ResidualStack
from waveglow_vq.utils.masking import frame_mask, masked

from torch import nn
from torch.nn import functional as F


class MelConditioner(Conditioner):
    """The log-mel itself, or a small convolutional network's view of it, as the condition.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    channels : int
        Channels of the network and of the local condition; with 0 layers the condition is the
        log-mel as it is, as in the published WaveGlow.
    layers : int
        Residual blocks; 0 for no network.
    kernel_size : int
        Taps of its convolutions in frames.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.audio.features import LogMel
    >>> condition = MelConditioner(LogMel(), channels=32)(torch.randn(2, 80, 9))
    >>> condition.local.shape, condition.hop
    (torch.Size([2, 32, 9]), 256)
    """

    def __init__(self, features, channels=128, layers=2, kernel_size=3):
        super().__init__(features, channels if layers else features.n_mels)
        # As it is, a log-mel is far from zero.
        self.is_normalized = layers > 0
        self.network = None
        if layers:
            self.network = _FrameNetwork(features.n_mels, channels, channels, layers, kernel_size)

    @property
    def receptive_field(self):
        """Frames of the log-mel that a frame of the condition sees to either side."""
        return 0 if self.network is None else self.network.receptive_field

    def forward(self, features, lengths=None, speaker=None):
        """Log-mel ``[batch, n_mels, frames]`` to a Condition; the log-mel says who speaks, so
        that no speaker is used."""
        local = features
        if self.network is not None:
            mask = frame_mask(lengths, features.shape[-1])
            local = self.network(normalize_log_mel(features), mask)
        return Condition(local, self.hop, None, features)


class _FrameNetwork(nn.Module):
    """Projection, residual stack, projection; all at frame rate."""

    def __init__(self, inputs, channels, outputs, layers, kernel_size):
        super().__init__()
        self.start = nn.Conv1d(inputs, channels, kernel_size, padding=kernel_size // 2)
        self.stack = ResidualStack(channels, layers, kernel_size)
        self.end = nn.Conv1d(channels, outputs, 1)

    @property
    def receptive_field(self):
        return self.start.kernel_size[0] // 2 + self.stack.receptive_field

    def forward(self, x, mask=None):
        x = self.stack(self.start(masked(x, mask)), mask)
        return masked(self.end(F.gelu(x)), mask)
