"""The coupling network: a non-causal WaveNet with local and global condition."""

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows.folded_wavenet import FoldedWaveNet
from waveglow_vq.lobes.flows.inference_cache import InferenceCache
from waveglow_vq.lobes.flows.transforms import FlowContext
from waveglow_vq.lobes.flows.upsampling import frames_to_groups
from waveglow_vq.lobes.flows.weight_norm import weight_norm

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv1d, pad

# Channels of folded weights are filled up with zeros to a multiple of this, as half-precision
# units of GPUs want them.
MULTIPLE = 8


class WaveNet(InferenceCache):
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
        Whether every layer but the last is weight-normalized (Salimans and Kingma 2016).

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
            raise UserError(f"kernel_size: {kernel_size}; it must be odd")
        normalized = weight_norm if use_weight_norm else (lambda module: module)
        self.channels = channels
        self.kernel_size = kernel_size
        self.start = normalized(nn.Conv1d(in_channels, channels, 1))
        self.dilated = nn.ModuleList()
        self.residual_skip = nn.ModuleList()
        for i in range(layers):
            padding = 2**i * (kernel_size - 1) // 2
            dilated = nn.Conv1d(channels, 2 * channels, kernel_size, dilation=2**i, padding=padding)
            self.dilated.append(normalized(dilated))
            # Nothing follows the residual of the last layer.
            outputs = 2 * channels if i < layers - 1 else channels
            self.residual_skip.append(normalized(nn.Conv1d(channels, outputs, 1)))
        self.local = self.speaker = None
        if condition_channels:
            self.local = normalized(nn.Conv1d(condition_channels, 2 * channels * layers, 1))
        if speaker_channels:
            self.speaker = normalized(nn.Linear(speaker_channels, 2 * channels * layers))
        self.end = nn.Conv1d(channels, out_channels, 1)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    @property
    def receptive_field(self):
        """Groups that an output sees to either side of its own."""
        return (self.kernel_size - 1) // 2 * (2 ** len(self.dilated) - 1)

    def _conditions(self, groups, context):
        """What each layer adds to its pre-activations, one after another, each when it is asked
        for: ``[batch, 2 * channels, groups]``, 1 for groups where it is constant, or None."""
        size = 2 * self.channels
        nothing = [None] * len(self.dilated)
        speakers = locals_ = nothing
        if self.speaker is not None and context.speaker is not None:
            speakers = self.speaker(context.speaker)[..., None].split(size, dim=1)
        if self.local is not None and context.groups_per_frame > 1:
            locals_ = self.local(context.local).split(size, dim=1)
        elif self.local is not None:
            # One by one: the projection of all layers at group rate is the largest tensor of the
            # network, and is slower to write and to read than to compute.
            weights, biases = self.local.weight.split(size), self.local.bias.split(size)
            pairs = zip(weights, biases, strict=True)
            locals_ = (conv1d(context.local[..., :groups], *pair) for pair in pairs)
        for local, speaker in zip(locals_, speakers, strict=True):
            condition = local if speaker is None else speaker
            if local is not None and speaker is not None:
                condition = local + speaker
            if condition is not None and condition.shape[-1] > 1:
                condition = frames_to_groups(condition, groups, context.groups_per_frame)
            yield condition

    def _prepare(self, dtype):
        return FoldedWaveNet(self, dtype)

    def folded_outputs(self, kind=None):
        """Weight and bias of one 1x1 convolution for each layer, whose outputs are the residual
        and, in the place of the skip, what the skip adds to the network's output:

            end(sum_i skip_i) = sum_i (E V_i acts_i + E b_i) + e

        with E, e of the last projection and V_i, b_i of the skips: a few channels instead of as
        many as the network has. Computed with the given type, where one is given.
        """
        kind = kind or self.end.weight.dtype
        missing = -len(self.end.weight) % MULTIPLE
        end = pad(self.end.weight[..., 0].to(kind), (0, 0, 0, missing))
        shift = pad(self.end.bias.to(kind), (0, missing))
        for layer in self.residual_skip:
            weight, bias = layer.weight[..., 0].to(kind), layer.bias.to(kind)
            sizes = [len(weight) - self.channels, self.channels]
            (residual, skip), (residual_bias, skip_bias) = weight.split(sizes), bias.split(sizes)
            shift = shift + end @ skip_bias
            yield torch.cat([residual, end @ skip])[..., None], torch.cat([residual_bias, shift])
            shift = torch.zeros_like(shift)

    def folded_start(self, kind=None):
        """Weights of the first projection and of the first dilated layer, both for the network's
        input; a channel of ones, behind it, stands for the projection's bias."""
        kind = kind or self.start.weight.dtype
        start = torch.cat([self.start.weight[..., 0], self.start.bias[:, None]], dim=1).to(kind)
        start = pad(start, (0, -start.shape[1] % MULTIPLE))
        dilated = torch.einsum("oik,ic->ock", self.dilated[0].weight.to(kind), start)
        return start[..., None], dilated

    def _first_gates(self, x, mask, weight):
        ones = torch.ones_like(x[:, :1]) if mask is None else mask.to(x.dtype)
        x = pad(torch.cat([x, ones], dim=1), (0, 0, 0, weight.shape[1] - x.shape[1] - 1))
        return conv1d(x, weight, self.dilated[0].bias, padding=self.dilated[0].padding)

    def forward(self, x, context=FlowContext()):
        """Computes the output.

        The layers are applied as they are defined, but for two folds of linear maps that follow
        each other, which save 13 % of the published model's multiplications: the first projection
        into the first dilated layer, and the skips into the last projection. What was prepared for
        inference (see folded_wavenet.py) is used in its place.

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
        folded = self.prepared()
        if folded is not None:
            return folded(x, context)
        mask, groups = context.mask, x.shape[-1]
        if mask is not None:
            x = x * mask
        # Products of weights are not rounded to what autocast would have them.
        with torch.autocast(x.device.type, enabled=False):
            (_, first), outputs = self.folded_start(), list(self.folded_outputs())
        hidden, total = self.start(x), 0
        layers = zip(self.dilated, outputs, self._conditions(groups, context), strict=True)
        for i, (dilated, (weight, bias), condition) in enumerate(layers):
            if i == 0:
                gates = self._first_gates(x, mask, first)
            else:
                hidden = hidden if mask is None else hidden * mask
                gates = dilated(hidden)
            if condition is not None:
                gates = gates.add_(condition)
            out = conv1d(gated(gates), weight, bias)
            if i < len(self.dilated) - 1:
                hidden = hidden + out[:, : self.channels]
                out = out[:, self.channels :]
            total = total + out
        return total[:, : self.end.out_channels]


def gated(gates):
    """``tanh(u) * sigmoid(v)`` of ``gates = (u, v)``, halves of the channels. It writes to
    ``gates``: nobody else may need them.

    Example
    -------
    >>> import torch
    >>> gated(torch.tensor([0.5, 0.0]).view(1, 2, 1)).item()
    0.23105...
    """
    if torch.compiler.is_compiling():
        filtered, gate = gates.chunk(2, dim=1)
        return filtered.tanh() * gate.sigmoid()
    if torch.is_grad_enabled():
        return _Gate.apply(gates)
    filtered, gate = gates.chunk(2, dim=1)
    return filtered.tanh_() * gate.sigmoid_()


class _Gate(torch.autograd.Function):
    """As :func:`gated`. The derivatives, s (1 - t^2) and t s (1 - s) with t the tanh and s the
    sigmoid, take the place of the pre-activations, so that nothing else is held until the backward
    pass, which is one multiplication."""

    @staticmethod
    def forward(ctx, gates):
        filtered, gate = gates.chunk(2, dim=1)
        acts = filtered.tanh_() * gate.sigmoid_()
        torch.addcmul(gate, acts, filtered, value=-1, out=filtered)
        torch.addcmul(acts, acts, gate, value=-1, out=gate)
        ctx.save_for_backward(gates)
        return acts

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (derivatives,) = ctx.saved_tensors
        halves = derivatives.unflatten(1, (2, -1))
        return (gradient[:, None] * halves).reshape(derivatives.shape)
