"""From frames to groups of samples: linear interpolation, and NVIDIA's learned upsampling."""

from waveglow_vq.lobes.flows.inference_cache import InferenceCache

import torch
from torch import nn
from torch.nn.functional import conv1d, pad

# Hops that the kernel is long.
HOPS = 4


def interpolate_frames(frames, per_frame):
    """Linear interpolation of a frame-rate sequence ``[..., frames]`` at the centres of
    ``per_frame`` equal parts of every frame's hop, ``[..., frames * per_frame]``; the last frame is
    held.

    Part r of frame f is centred ``(r + 0.5) / per_frame`` of the way to frame f + 1, because frame
    f is centred on sample ``f * hop``.

    Example
    -------
    >>> import torch
    >>> interpolate_frames(torch.tensor([0.0, 4.0]), 2)
    tensor([1., 3., 4., 4.])
    """
    following = torch.cat([frames[..., 1:], frames[..., -1:]], dim=-1)
    weight = (torch.arange(per_frame, device=frames.device) + 0.5) / per_frame
    weight = weight.to(frames.dtype)
    return torch.lerp(frames[..., None], following[..., None], weight).flatten(-2)


def frames_to_groups(frames, groups, per_frame):
    """Brings a condition ``[..., frames]`` to ``[..., groups]`` by :func:`interpolate_frames`.

    More frames than ``groups / per_frame`` may be given, as where the frame that follows a
    segment is known. With ``per_frame`` 1 the condition is at group rate and stays as it is.
    """
    if per_frame > 1:
        frames = interpolate_frames(frames, per_frame)
    return frames[..., :groups]


class LearnedUpsampling(nn.ConvTranspose1d, InferenceCache):
    """A transposed convolution of four hops, squeezed into groups: the condition of the published
    WaveGlow (Prenger et al. 2018, section 3.2, and its public code). What the kernel adds behind
    the last frame is cut off.

    Prepared for inference, it is a convolution of four taps at frame rate whose outputs are all the
    samples of a frame at once, in the layout that the coupling networks read.

    Arguments
    ---------
    channels : int
        Channels of the condition.
    hop : int
        Samples per frame.
    group_size : int
        Samples per group.

    Example
    -------
    >>> import torch
    >>> LearnedUpsampling(80, hop=256, group_size=8)(torch.randn(2, 80, 5)).shape
    torch.Size([2, 640, 160])
    """

    def __init__(self, channels, hop, group_size):
        super().__init__(channels, channels, HOPS * hop, hop)
        self.group_size = group_size

    def _prepare(self, dtype):
        (hop,), channels, size = self.stride, self.in_channels, self.group_size
        # Out of frame f comes sample s of frame f + j: [in, out, j, groups, r], s in groups and r.
        taps = self.weight.view(channels, channels, HOPS, hop // size, size)
        # As [groups, out, r] of one frame, from the frames before it, the earliest first.
        taps = taps.flip(2).permute(3, 1, 4, 0, 2).reshape(-1, channels, HOPS)
        bias = self.bias[:, None].expand(-1, size).flatten().repeat(hop // size)
        return taps.contiguous(), bias

    def forward(self, frames):
        """``[batch, channels, frames]`` to ``[batch, channels * group_size, groups]``: channel
        ``c * group_size + r`` is that of sample r of a group."""
        cached = self.prepared()
        if cached is not None:
            rows = conv1d(pad(frames, (HOPS - 1, 0)), *cached).transpose(1, 2)
            width = self.in_channels * self.group_size
            return rows.reshape(len(rows), -1, width).transpose(1, 2)
        samples = super().forward(frames)[..., : frames.shape[-1] * self.stride[0]]
        return samples.unflatten(-1, (-1, self.group_size)).transpose(2, 3).flatten(1, 2)
