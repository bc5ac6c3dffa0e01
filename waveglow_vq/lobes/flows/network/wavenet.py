"""The coupling network: a non-causal WaveNet with local and global condition."""

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows.inference_cache import InferenceCache
from waveglow_vq.lobes.flows.network.folded_wavenet import FoldedWaveNet
from waveglow_vq.lobes.flows.network.folded_weights import fold, fold_condition
from waveglow_vq.lobes.flows.network.gated_layers import layer_inputs, run_layers
from waveglow_vq.lobes.flows.network.weight_norm import weight_norm
from waveglow_vq.lobes.flows.transforms import FlowContext
from waveglow_vq.lobes.flows.upsampling import frames_to_groups

import torch
from torch import nn
from torch.nn.functional import conv1d, linear, pad


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

    # Folded weights that an export takes for constants.
    exported = None

    @property
    def receptive_field(self):
        """Groups that an output sees to either side of its own."""
        return (self.kernel_size - 1) // 2 * (2 ** len(self.dilated) - 1)

    @property
    def dilations(self):
        """Those of the layers."""
        return [layer.dilation[0] for layer in self.dilated]

    def _prepare(self, dtype):
        return FoldedWaveNet(self, dtype)

    def forward(self, x, context=FlowContext()):
        """Computes the output, in the layout ``[batch, groups, channels]`` (see gated_layers.py),
        with folded weights (see folded_weights.py). What was prepared for inference (see
        folded_wavenet.py) is used in its place.

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
            ``[batch, out_channels, groups]``, at least fp32.
        """
        if torch.compiler.is_exporting():
            return self.channels_first(x, context)
        folded = self.prepared()
        if folded is not None:
            return folded(x, context)
        dtype = self.end.weight.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        # Products of weights, and what is at frame rate, are not rounded to what autocast would
        # have them.
        with torch.autocast(x.device.type, enabled=False):
            weights, condition = fold(self), fold_condition(self)
            inputs = layer_inputs(x, context, weights, condition, self.dilations, dtype)
            total = run_layers(*inputs)
        return total[:, : x.shape[-1], : self.end.out_channels].transpose(1, 2)

    def channels_first(self, x, context=FlowContext()):
        """As :meth:`forward`, in the layout of x and without the operations of one device: for
        export."""
        weights, condition = self.exported or (fold(self), fold_condition(self))
        mask, groups = context.mask, x.shape[-1]
        ones = torch.ones_like(x[:, :1]) if mask is None else mask.to(x.dtype)
        x = torch.cat([x * ones, ones], dim=1)
        x = pad(x, (0, 0, 0, weights.start.shape[2] - x.shape[1]))
        hidden, total, last = conv1d(x, weights.start.transpose(1, 2)), 0, len(self.dilated) - 1
        for i, dilation in enumerate(self.dilations):
            kernel = weights.dilated[i - 1] if i else weights.first
            reach = self.kernel_size // 2 * dilation
            source = hidden if i else x
            gates = conv1d(source, kernel.transpose(1, 2), padding=reach, dilation=dilation)
            gates = gates + self._channels_first_condition(condition, i, context, groups)
            filtered, gate = gates.sigmoid().chunk(2, dim=1)
            kernel, bias = weights.last, weights.last_bias
            if i < last:
                kernel, bias = weights.outs[i], weights.out_biases[i]
            out = conv1d((filtered - 0.5) * gate, kernel.transpose(1, 2), bias)
            if i < last:
                hidden = hidden + out[:, : self.channels]
                hidden = hidden if mask is None else hidden * ones
                out = out[:, self.channels :]
            total = total + out
        return total[:, : self.end.out_channels]

    def _channels_first_condition(self, condition, i, context, groups):
        term = condition.bias[i][:, None]
        if condition.speaker is not None and context.speaker is not None:
            speaker = linear(context.speaker, condition.speaker[i], condition.speaker_bias[i])
            term = term + speaker[..., None]
        if condition.local is not None:
            local = conv1d(context.local, condition.local[i][..., None]) + term
            term = frames_to_groups(local, groups, context.groups_per_frame)
        return term
