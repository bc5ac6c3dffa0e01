"""The weights of a coupling network as its layers are computed: normalized and folded, all layers
together."""

from typing import NamedTuple

import torch
from torch.nn.functional import pad
from torch.nn.utils import parametrize

# Channels of folded weights are filled up with zeros to a multiple of this, as half-precision
# units of GPUs want them.
MULTIPLE = 8


class FoldedWeights(NamedTuple):
    """Weights of L layers for rows of channels. Kernels are ``[outputs, taps, inputs]``, those of
    1x1 convolutions have one tap.

    Arguments
    ---------
    start : torch.Tensor
        Of the first projection, ``[channels, 1, inputs]``; the input behind the network's own is
        always one and stands for the bias.
    first : torch.Tensor
        Of the first dilated layer, for the network's inputs: ``[2 * channels, taps, inputs]``.
    dilated : torch.Tensor
        Of the other dilated layers, ``[L - 1, 2 * channels, taps, channels]``.
    outs : torch.Tensor
        To the residual and what the skip adds to the output, ``[L - 1, channels + outputs, 1,
        channels]``.
    last : torch.Tensor
        Of the last layer, which has no residual: ``[outputs, 1, channels]``.
    out_biases, last_bias : torch.Tensor
        ``[L - 1, channels + outputs]`` and ``[outputs]``.
    """

    start: torch.Tensor
    first: torch.Tensor
    dilated: torch.Tensor
    outs: torch.Tensor
    last: torch.Tensor
    out_biases: torch.Tensor
    last_bias: torch.Tensor

    def to(self, dtype):
        """In another precision, or on another device."""
        return FoldedWeights(*(weight.to(dtype) for weight in self))


class ConditionWeights(NamedTuple):
    """What biases and conditions add to the pre-activations ``(2 u, v)`` of all layers: ``bias
    [L, 2 * channels]``, and the projections ``[L, 2 * channels, inputs]``, or None."""

    bias: torch.Tensor
    local: torch.Tensor | None
    speaker: torch.Tensor | None
    speaker_bias: torch.Tensor | None

    def to(self, dtype):
        """As of :class:`FoldedWeights`."""
        return ConditionWeights(*(None if w is None else w.to(dtype) for w in self))


def fold(network, dtype=None):
    """The :class:`FoldedWeights` of a :class:`~waveglow_vq.lobes.flows.network.wavenet.WaveNet`,
    with gradients; computed with the given type, where one is given.

    Two linear maps that follow each other are one: the first projection and the first dilated
    layer; and the skips, with V_i and b_i, and the last projection, with E and e:

        end(sum_i skip_i) = sum_i (E V_i acts_i + E b_i) + e

    which saves 13 % of the published model's multiplications. The gate's factors of two (see
    gates.py) are in, too.
    """
    channels = network.channels
    start = torch.cat(
        [
            _weights([network.start], dtype)[0],
            _stack([network.start.bias], dtype)[0, :, None, None],
        ],
        dim=2,
    )
    start = pad(start, (0, -start.shape[2] % MULTIPLE))
    two = _tanh_factor(channels, start)[:, None, None]
    first = two * torch.einsum("oki,ic->okc", _weights([network.dilated[0]], dtype)[0], start[:, 0])
    missing = -network.end.out_channels % MULTIPLE
    end = pad(_stack([network.end.weight], dtype)[0, :, 0], (0, 0, 0, missing))
    shift = pad(_stack([network.end.bias], dtype)[0], (0, missing))
    last = 2 * end @ _weights([network.residual_skip[-1]], dtype)[0, :, 0]
    last_bias = end @ _stack([network.residual_skip[-1].bias], dtype)[0] + shift
    if len(network.dilated) == 1:
        none = start.new_zeros(0)
        return FoldedWeights(start, first, none, none, last[:, None], none, last_bias)
    dilated = two * _weights(list(network.dilated)[1:], dtype)
    sizes = [channels, channels]
    residual, skip = _weights(list(network.residual_skip)[:-1], dtype)[:, :, 0].split(sizes, dim=1)
    outs = 2 * torch.cat([residual, end @ skip], dim=1)
    biases = _stack([layer.bias for layer in list(network.residual_skip)[:-1]], dtype)
    residual, skip = biases.split(sizes, dim=1)
    out_biases = torch.cat([residual, skip @ end.t()], dim=1)
    return FoldedWeights(
        start, first, dilated, outs[:, :, None], last[:, None], out_biases, last_bias
    )


def fold_condition(network, dtype=None):
    """The :class:`ConditionWeights` of a network, as :func:`fold`."""
    layers = len(network.dilated)
    bias = _stack([layer.bias for layer in network.dilated], dtype)
    local = speaker = speaker_bias = more = None
    two = _tanh_factor(network.channels, bias)
    if network.local is not None:
        local = _weights([network.local], dtype).view(layers, 2 * network.channels, -1)
        # In products of their own: of a sum, both parameters would get one and the same tensor as
        # their gradient, which what changes gradients in place would change twice.
        more = two * _stack([network.local.bias], dtype).view_as(bias)
    if network.speaker is not None:
        speaker = two[:, None] * _weights([network.speaker], dtype).view(*bias.shape, -1)
        speaker_bias = two * _stack([network.speaker.bias], dtype).view_as(bias)
    if local is not None:
        local = two[:, None] * local
    bias = two * bias if more is None else two * bias + more
    return ConditionWeights(bias, local, speaker, speaker_bias)


def _tanh_factor(channels, like):
    """Two for the first half of the pre-activations, which is the tanh's."""
    return torch.cat([like.new_full((channels,), 2), like.new_ones(channels)])


def _weights(layers, dtype):
    """Weights of layers of one shape, ``[L, outputs, taps, inputs]`` of convolutions, ``[L,
    outputs, inputs]`` of linear layers. Normalized, where that is asked for, as torch does it layer
    by layer (Salimans and Kingma 2016, eq. 2):

        w = g v / |v|
    """
    if not parametrize.is_parametrized(layers[0], "weight"):
        return _stack([layer.weight for layer in layers], dtype)
    parts = [layer.parametrizations.weight for layer in layers]
    gains = _stack([part.original0 for part in parts], dtype)
    directions = _stack([part.original1 for part in parts], dtype)
    dims = tuple(range(2, directions.dim()))
    return directions * (gains / torch.linalg.vector_norm(directions, dim=dims, keepdim=True))


def _stack(weights, dtype):
    stacked = torch.stack(weights)
    if stacked.requires_grad:
        # Gradients laid out as the parameters are, as the buckets of DDP want them.
        stacked.register_hook(lambda gradient: gradient.flatten().view(gradient.shape))
    if stacked.dim() == 4:
        stacked = stacked.transpose(2, 3).contiguous()
    return stacked if dtype is None else stacked.to(dtype)
