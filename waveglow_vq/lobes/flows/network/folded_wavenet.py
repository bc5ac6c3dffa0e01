"""The coupling network as inference computes it: the same numbers, faster.

Weights are folded once and for all (see folded_weights.py). On CPU the layers are computed item by
item, so that padding costs nothing and cannot leak, and chunk by chunk, so that what a layer has
written is still in a cache when it is read again; a chunk needs no overlap, since the whole input
of its layer is there.
"""

import copy

from waveglow_vq.lobes.flows.network.folded_weights import fold, fold_condition
from waveglow_vq.lobes.flows.network.gated_layers import convolve_chunk, layer_inputs, run_layers
from waveglow_vq.lobes.flows.network.gates import gate
from waveglow_vq.lobes.flows.transforms import FlowContext
from waveglow_vq.utils.devices import supports_float64

import torch

# Bytes of the pre-activations that a layer computes at once on CPU; from measurements.
CHUNK_BYTES = 2**23


class FoldedWaveNet:
    """A :class:`~waveglow_vq.lobes.flows.network.wavenet.WaveNet` prepared for inference;
    called alike.

    Arguments
    ---------
    network : WaveNet
        The network.
    dtype : torch.dtype
        Precision of the convolutions and of what is between them; None: that of the weights.

    Example
    -------
    >>> import torch
    >>> from waveglow_vq.lobes.flows.transforms import FlowContext
    >>> from waveglow_vq.lobes.flows.network.wavenet import WaveNet
    >>> network = WaveNet(4, 8, channels=16, layers=2, condition_channels=80)
    >>> _ = torch.nn.init.normal_(network.end.weight)
    >>> context = FlowContext(local=torch.randn(2, 80, 5), groups_per_frame=32)
    >>> x = torch.randn(2, 4, 5 * 32)
    >>> with torch.no_grad():
    ...     torch.allclose(FoldedWaveNet(network)(x, context), network(x, context), atol=1e-5)
    True
    """

    def __init__(self, network, dtype=None):
        device, kind = network.end.weight.device, network.end.weight.dtype
        self.dtype = dtype or kind
        self.channels, self.outputs = network.channels, network.end.out_channels
        self.taps, self.dilations = network.kernel_size, network.dilations
        if not supports_float64(device):
            network = copy.deepcopy(network).cpu()  # weights are folded in fp64
        weights = fold(network, torch.float64).to(self.dtype).to(device)
        condition = fold_condition(network, torch.float64)
        self.weights, self.condition = weights, condition.to(kind).to(device)

    def __call__(self, x, context):
        """As :meth:`~waveglow_vq.lobes.flows.network.wavenet.WaveNet.forward`; what is padded
        comes out as something finite."""
        with torch.autocast(x.device.type, enabled=False):
            if x.device.type != "cpu":
                return self._run(x, context)
            lengths = [x.shape[-1]] * len(x)
            if context.mask is not None:
                lengths = context.mask[:, 0].bool().sum(-1).tolist()
            y = x.new_zeros(len(x), self.outputs, x.shape[-1], dtype=self.condition.bias.dtype)
            for i, groups in enumerate(lengths):
                item = slice(i, i + 1)
                alone = FlowContext(
                    None if context.local is None else context.local[item],
                    None if context.speaker is None else context.speaker[item],
                    groups_per_frame=context.groups_per_frame,
                )
                y[item, :, :groups] = self._run_chunks(x[item, :, :groups], alone)
            return y

    def _inputs(self, x, context):
        more = self.weights, self.condition, self.dilations, self.dtype
        return layer_inputs(x, context, *more)

    def _run(self, x, context):
        total = run_layers(*self._inputs(x, context))
        return total[:, : x.shape[-1], : self.outputs].transpose(1, 2)

    def _run_chunks(self, x, context):
        """As :meth:`_run`, of one item that is not padded."""
        own, weights, frames, per_frame, _, rows, local, _ = self._inputs(x, context)
        groups, reach = own.shape[1], self.taps // 2 * self.dilations[-1]
        # Zeros on both sides, as the convolutions' own padding.
        source = own.new_zeros(1, groups + 2 * reach, own.shape[2])
        source[:, reach : reach + groups] = own
        hidden = own.new_zeros(1, groups + 2 * reach, self.channels)
        following = torch.zeros_like(hidden)
        size = CHUNK_BYTES // (2 * self.channels * self.dtype.itemsize)
        size = max(size // max(per_frame, 1), 1) * max(per_frame, 1)
        chunks = [(a, min(a + size, groups)) for a in range(0, groups, size)]
        for a, b in chunks:
            hidden[:, reach + a : reach + b] = convolve_chunk(own[:, a:b], weights.start)
        total = own.new_zeros(1, groups, len(weights.last), dtype=x.dtype)
        for i, dilation in enumerate(self.dilations):
            halo = self.taps // 2 * dilation
            kernel = weights.dilated[i - 1] if i else weights.first
            for a, b in chunks:
                gates = convolve_chunk(
                    source[:, reach + a - halo : reach + b + halo], kernel, dilation
                )
                first = a // per_frame if per_frame else 0
                added = None if rows is None else convolve_chunk(rows[:, a:b], local[i])
                acts = gate(gates, frames[i, :, first:], per_frame, added)
                if i == len(self.dilations) - 1:
                    total[:, a:b] += convolve_chunk(acts, weights.last, bias=weights.last_bias)
                    continue
                seen = slice(reach + a, reach + b)
                out = convolve_chunk(acts, weights.outs[i], bias=weights.out_biases[i])
                torch.add(out[..., : self.channels], hidden[:, seen], out=following[:, seen])
                total[:, a:b] += out[..., self.channels :]
            hidden, following = following, hidden
            source = hidden
        return total[..., : self.outputs].transpose(1, 2)
