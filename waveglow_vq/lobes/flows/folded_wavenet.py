"""The coupling network as inference computes it: the same numbers, in fewer and faster operations.

Folded, once and for all, are: weight normalization; the last projection into the skips' and the
first one into the first dilated layer (see WaveNet); the biases and the speaker's term into the
condition; and the tanh into a sigmoid, which vectorized libraries compute several times faster:

    tanh(u) sigmoid(v) = 2 (sigmoid(2 u) - 1/2) sigmoid(v)

whose factors of two go, exactly, into the weights before and behind.

The layout is [time, channels], that of the convolution kernels which come near to the arithmetic
peak: oneDNN's for channels_last on CPU, those of tensor cores on GPU. On CPU the layers are
computed item by item, so that padding costs nothing and cannot leak, and chunk by chunk, so that
what a layer has written is still in a cache when it is read again; a chunk needs no overlap, since
the whole input of its layer is there.
"""

import copy

from waveglow_vq.lobes.flows.transforms import FlowContext
from waveglow_vq.utils.devices import supports_float64

import torch
from torch.nn.functional import conv2d, linear

# Bytes of the pre-activations that a layer computes at once on CPU; from measurements.
CHUNK_BYTES = 2**23
# A 1x1 convolution is the same with any dilation. One that is not 1 keeps torch from taking
# another, slower library for it where there is only one thread.
ANY_DILATION = (1, 2)


class FoldedWaveNet:
    """A :class:`~waveglow_vq.lobes.flows.wavenet.WaveNet` prepared for inference; called alike.

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
    >>> from waveglow_vq.lobes.flows.wavenet import WaveNet
    >>> network = WaveNet(4, 8, channels=16, layers=2, condition_channels=80)
    >>> _ = torch.nn.init.normal_(network.end.weight)
    >>> context = FlowContext(local=torch.randn(2, 80, 5), groups_per_frame=32)
    >>> x = torch.randn(2, 4, 5 * 32)
    >>> with torch.no_grad():
    ...     torch.allclose(FoldedWaveNet(network)(x, context), network(x, context), atol=1e-5)
    True
    """

    def __init__(self, network, dtype=None):
        self.device = network.end.weight.device
        self.kind = network.end.weight.dtype  # of inputs, conditions, sums of skips and outputs
        self.dtype = dtype or self.kind
        self.channels = network.channels
        self.outputs = network.end.out_channels
        self.taps = network.kernel_size
        self.dilations = [layer.dilation[0] for layer in network.dilated]
        if not supports_float64(self.device):
            network = copy.deepcopy(network).cpu()  # weights are folded in fp64
        outs, out_biases = zip(*network.folded_outputs(torch.float64), strict=True)
        start, first = network.folded_start(torch.float64)
        dilated = [first, *(layer.weight.double() for layer in network.dilated[1:])]
        # The first half of the channels is the tanh's.
        two = first.new_ones(2 * self.channels)
        two[: self.channels] = 2
        self.start = self._kernel(start)
        self.dilated = [self._kernel(two[:, None, None] * weight) for weight in dilated]
        self.outs = [self._kernel(2 * weight) for weight in outs]
        # Of the residual; what is added to the skips is added once, to their sum.
        self.residual_biases = [self._as(b[: self.channels], self.dtype) for b in out_biases[:-1]]
        self.shift = self._as(sum(b[-len(out_biases[-1]) :] for b in out_biases), self.kind)

        biases = [two * layer.bias.double() for layer in network.dilated]
        self.local = self.speaker = None
        if network.local is not None:
            weights = network.local.weight.double().split(2 * self.channels)
            local = [(two[:, None, None] * weight)[..., 0] for weight in weights]
            self.local = [self._as(weight, self.kind) for weight in local]
            self.local_kernels = [self._kernel(weight[..., None]) for weight in self.local]
            more = network.local.bias.double().split(2 * self.channels)
            biases = [bias + two * b for bias, b in zip(biases, more, strict=True)]
        self.biases = [self._as(bias, self.kind) for bias in biases]
        if network.speaker is not None:
            two = two.repeat(len(self.dilations))
            weight = two[:, None] * network.speaker.weight.double()
            self.speaker = self._as(weight, self.kind)
            self.speaker_bias = self._as(two * network.speaker.bias.double(), self.kind)

    def _as(self, weight, dtype):
        return weight.to(dtype).to(self.device)

    def _kernel(self, weight):
        """That of a two-dimensional convolution of height 1."""
        weight = self._as(weight[:, :, None], self.dtype)
        return weight.contiguous(memory_format=torch.channels_last)

    def __call__(self, x, context):
        """As :meth:`~waveglow_vq.lobes.flows.wavenet.WaveNet.forward`; what is padded comes out as
        something finite."""
        with torch.autocast(x.device.type, enabled=False):
            if x.device.type != "cpu":
                return self._run(x, context)
            lengths = [x.shape[-1]] * len(x)
            if context.mask is not None:
                lengths = context.mask[:, 0].bool().sum(-1).tolist()
            y = x.new_zeros(len(x), self.outputs, x.shape[-1], dtype=self.kind)
            for i, groups in enumerate(lengths):
                item = slice(i, i + 1)
                alone = FlowContext(
                    None if context.local is None else context.local[item],
                    None if context.speaker is None else context.speaker[item],
                    groups_per_frame=context.groups_per_frame,
                )
                y[item, :, :groups] = self._run(x[item, :, :groups], alone)
            return y

    def _run(self, x, context):
        batch, inputs, groups = x.shape
        reach = (self.taps - 1) // 2 * self.dilations[-1]
        condition = _Condition(self, context)
        mask = None
        if context.mask is not None:
            mask = context.mask.transpose(1, 2).to(self.dtype)
        # Zeros on both sides, as the convolutions' own padding.
        shape = batch, groups + 2 * reach
        source = x.new_zeros(*shape, self.start.shape[1], dtype=self.dtype)
        source[:, reach : reach + groups, :inputs] = x.transpose(1, 2)
        source[:, reach : reach + groups, inputs] = 1
        if mask is not None:
            source[:, reach : reach + groups] *= mask
        hidden = source.new_zeros(*shape, self.channels)
        following = torch.zeros_like(hidden)
        chunks = self._chunks(x, context.groups_per_frame)
        for a, b in chunks:
            own = slice(reach + a, reach + b)
            hidden[:, own] = _convolve(source[:, own], self.start)
        total = self.shift.repeat(batch, groups, 1)
        for i, dilation in enumerate(self.dilations):
            halo = (self.taps - 1) // 2 * dilation
            for a, b in chunks:
                seen = source[:, reach + a - halo : reach + b + halo]
                gates = _convolve(seen, self.dilated[i], dilation)
                condition.add(gates, i, a, b)
                out = _convolve(_gate(gates), self.outs[i])
                if i < len(self.dilations) - 1:
                    own = slice(reach + a, reach + b)
                    residual = out[..., : self.channels] + self.residual_biases[i]
                    following[:, own] = residual.add_(hidden[:, own])
                    if mask is not None:
                        following[:, own] *= mask[:, a:b]
                    out = out[..., self.channels :]
                total[:, a:b] += out
            hidden, following = following, hidden
            source = hidden
        return total[..., : self.outputs].transpose(1, 2)

    def _chunks(self, x, per_frame):
        """Beginnings and ends of what a layer computes at once; whole frames."""
        groups = x.shape[-1]
        size = groups
        if x.device.type == "cpu":
            size = CHUNK_BYTES // (2 * self.channels * self.dtype.itemsize)
            size = max(size // per_frame, 1) * per_frame
        return [(a, min(a + size, groups)) for a in range(0, groups, size)]


class _Condition:
    """The condition of a call: what is added to the pre-activations of each layer."""

    def __init__(self, network, context):
        self.network = network
        self.dtype = network.dtype
        self.per_frame = context.groups_per_frame
        kind = network.kind
        biases = network.biases
        if network.speaker is not None and context.speaker is not None:
            terms = linear(context.speaker.to(kind), network.speaker, network.speaker_bias)
            terms = terms[:, None].split(2 * network.channels, dim=-1)
            biases = [bias + term for bias, term in zip(biases, terms, strict=True)]
        self.rows = self.frames = None
        if network.local is not None:
            rows = context.local.transpose(1, 2)
            if self.per_frame > 1:
                # Projected at frame rate. Interpolated, as frames_to_groups does it, from a frame
                # and the difference to the one that follows; the last one is held.
                layers = zip(biases, network.local, strict=True)
                frames = [linear(rows.to(kind), weight) + bias for bias, weight in layers]
                self.steps = [torch.diff(f, dim=1, append=f[:, -1:]).to(self.dtype) for f in frames]
                self.frames = [f.to(self.dtype) for f in frames]
                weight = (torch.arange(self.per_frame, device=rows.device) + 0.5) / self.per_frame
                self.weight = weight.to(self.dtype)[:, None]
            else:
                self.rows = rows.to(self.dtype).contiguous()
        self.biases = [bias.to(self.dtype) for bias in biases]

    def add(self, gates, i, a, b):
        """Adds that of layer i to ``[batch, b - a, 2 * channels]``, of groups a to b."""
        if self.frames is None:
            gates.add_(self.biases[i])
            if self.rows is not None:
                gates.add_(_convolve(self.rows[:, a:b], self.network.local_kernels[i]))
            return
        whole = (b - a) // self.per_frame * self.per_frame
        first, last = a // self.per_frame, (a + whole) // self.per_frame
        blocks = gates[:, :whole].unflatten(1, (-1, self.per_frame))
        blocks.add_(self.frames[i][:, first:last, None])
        blocks.addcmul_(self.steps[i][:, first:last, None], self.weight)
        if whole < b - a:
            rest = gates[:, whole:]
            rest.add_(self.frames[i][:, last : last + 1])
            rest.addcmul_(self.steps[i][:, last : last + 1], self.weight[: b - a - whole])


def _convolve(rows, kernel, dilation=None):
    """``[batch, time, channels]`` to the same, without padding."""
    # Strides and all those of an image in channels_last, as the convolution looks at them.
    image = rows[:, None].permute(0, 3, 1, 2)
    out = conv2d(image, kernel, dilation=ANY_DILATION if dilation is None else (1, dilation))
    return out.permute(0, 2, 3, 1)[:, 0]


def _gate(gates):
    """``(sigmoid(2 u) - 1/2) * sigmoid(v)`` of ``gates = (2 u, v)``, which it writes to."""
    filtered, gate = gates.sigmoid_().chunk(2, dim=-1)
    return filtered.sub_(0.5).mul(gate)
