"""The invertible transforms and their one contract.

Every transform has ``forward(x, context) -> (y, logdet)`` and ``inverse(y, context) -> x`` with x
and y ``[batch, channels, groups]`` and logdet ``[batch]``, the logarithm of |det dy/dx| of each
item. Flow arithmetic is never done below fp32, whatever autocast says; with fp64 inputs and
parameters it is done in fp64.

A third method serves training in little memory (recompute.py): ``rebuild(y, context) -> (parts, y,
logdet)`` recovers x from y and runs forward from it with a graph, its network evaluated once for
both. ``parts`` are the leaves of that graph which, concatenated over the channels, are x.

Authors
 * The waveglow-vq developers, 2026
"""

from typing import NamedTuple

from waveglow_vq.lobes.flows.inference_cache import InferenceCache
from waveglow_vq.utils.devices import in_float64, returned

import torch
from torch import nn


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
    """

    local: torch.Tensor | None = None
    speaker: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    groups_per_frame: int = 1


def at_least_fp32(x):
    """fp16 and bf16 become fp32; fp32 and fp64 stay."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def sum_over_groups(x, mask=None):
    """Sums ``[batch, channels, groups]`` to ``[batch]``, leaving padded groups out."""
    if mask is not None:
        x = torch.where(mask.bool(), x, torch.zeros((), dtype=x.dtype, device=x.device))
    return x.sum(dim=(1, 2))


def leaf(x):
    """The same values, as the beginning of a graph of their own."""
    return x.detach().requires_grad_()


def squeeze(wav, group_size):
    """Cuts waveforms into groups of consecutive samples; a permutation, so logdet is 0.

    Arguments
    ---------
    wav : torch.Tensor
        ``[batch, samples]``, samples a multiple of ``group_size``.
    group_size : int
        Samples in a group.

    Returns
    -------
    torch.Tensor
        ``[batch, group_size, groups]``: channel r of group i is sample ``i * group_size + r``.

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


def interpolate_frames(frames, per_frame):
    """Linear interpolation of a frame-rate sequence at the centres of ``per_frame`` equal parts
    of every frame's hop; the last frame is held.

    Part r of frame f is centred ``(r + 0.5) / per_frame`` of the way to frame f + 1, because
    frame f is centred on sample ``f * hop``.

    Arguments
    ---------
    frames : torch.Tensor
        ``[..., frames]``.
    per_frame : int
        Number of parts.

    Returns
    -------
    torch.Tensor
        ``[..., frames * per_frame]``.

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


class InvertibleConv1x1(InferenceCache):
    """Mixes channels with a learned invertible matrix (Glow, Kingma and Dhariwal 2018, eq. 9):

        y_i = W x_i,    logdet = groups * log |det W|

    W starts as a random rotation. The log-determinant is taken by ``slogdet``, which also holds
    for a negative determinant.

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
        """See the module's contract."""
        x = at_least_fp32(x)
        with torch.autocast(x.device.type, enabled=False):
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
        """See the module's contract."""
        y = at_least_fp32(y)
        with torch.autocast(y.device.type, enabled=False):
            cached = self.prepared()
            return returned(self._inverse() if cached is None else cached[0], y) @ y

    def rebuild(self, y, context=FlowContext()):
        """See the module's contract."""
        with torch.no_grad():
            x = self.inverse(y, context)
        x = leaf(x)
        return (x,), *self(x, context)


class AffineCoupling(nn.Module):
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

    def _shift_and_log_scale(self, x_a, context):
        shift, log_scale = at_least_fp32(self.network(x_a, context)).chunk(2, dim=1)
        return shift, log_scale.clamp(-self.log_scale_bound, self.log_scale_bound)

    def forward(self, x, context=FlowContext()):
        """See the module's contract."""
        x_a, x_b = x[:, : self.kept], x[:, self.kept :]
        return self._couple(x_a, x_b, *self._shift_and_log_scale(x_a, context), context)

    @staticmethod
    def _couple(x_a, x_b, shift, log_scale, context):
        y = torch.cat([x_a, log_scale.exp() * x_b + shift], dim=1)
        return y, sum_over_groups(log_scale, context.mask)

    def inverse(self, y, context=FlowContext()):
        """See the module's contract."""
        y_a, y_b = y[:, : self.kept], y[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(y_a, context)
        return torch.cat([y_a, (y_b - shift) * (-log_scale).exp()], dim=1)

    def rebuild(self, y, context=FlowContext()):
        """See the module's contract."""
        x_a, y_b = leaf(y[:, : self.kept]), y[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(x_a, context)
        with torch.no_grad():
            x_b = (y_b - shift) * (-log_scale).exp()
        x_b = leaf(x_b)
        return (x_a, x_b), *self._couple(x_a, x_b, shift, log_scale, context)


class FlowStep(nn.Module):
    """One step of a chain: FiLM (by option), invertible 1x1 convolution, affine coupling."""

    def __init__(self, conv, coupling, film=None):
        super().__init__()
        self.film = film
        self.conv = conv
        self.coupling = coupling

    @property
    def transforms(self):
        """In the order in which forward applies them."""
        return [flow for flow in (self.film, self.conv, self.coupling) if flow is not None]

    def forward(self, x, context=FlowContext()):
        """See the module's contract."""
        logdet = 0
        for transform in self.transforms:
            x, term = transform(x, context)
            logdet = logdet + term
        return x, logdet

    def inverse(self, y, context=FlowContext()):
        """See the module's contract."""
        for transform in reversed(self.transforms):
            y = transform.inverse(y, context)
        return y


class FiLM(nn.Module):
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
        """See the module's contract."""
        x = at_least_fp32(x)
        return self._modulate(x, *self._shift_and_log_scale(x, context), context)

    @staticmethod
    def _modulate(x, shift, log_scale, context):
        y = log_scale.exp() * x + shift
        return y, sum_over_groups(log_scale.expand_as(x), context.mask)

    def inverse(self, y, context=FlowContext()):
        """See the module's contract."""
        y = at_least_fp32(y)
        shift, log_scale = self._shift_and_log_scale(y, context)
        return (y - shift) * (-log_scale).exp()

    def rebuild(self, y, context=FlowContext()):
        """See the module's contract."""
        shift, log_scale = self._shift_and_log_scale(y, context)
        with torch.no_grad():
            x = (y - shift) * (-log_scale).exp()
        x = leaf(x)
        return (x,), *self._modulate(x, shift, log_scale, context)


def frames_to_groups(frames, groups, per_frame):
    """Brings a condition ``[..., frames]`` to ``[..., groups]`` by :func:`interpolate_frames`.

    More frames than ``groups / per_frame`` may be given, as where the frame that follows a
    segment is known. With ``per_frame`` 1 the condition is at group rate and stays as it is.
    """
    if per_frame > 1:
        frames = interpolate_frames(frames, per_frame)
    return frames[..., :groups]


def zero_linear(inputs, outputs, layer, *arguments):
    """``layer(inputs, outputs, *arguments)`` that starts at zero, or None without inputs."""
    if inputs == 0:
        return None
    module = layer(inputs, outputs, *arguments)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    return module
