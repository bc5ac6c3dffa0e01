"""The vocoder as one graph, noise in and waveform out, which torch.export and ONNX can hold.

It computes what :class:`~waveglow_vq.lobes.model.WaveGlowVQ` does, by the same modules, but for
what a graph cannot hold: whatever depends on the weights alone, such as inverses, is constant, and
the two loops of the envelope, over the coefficients of a predictor and over time, are scans whose
steps all have one shape.
"""

import copy

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.filters.steps import step_of_block
from waveglow_vq.lobes.flows.coupling import FlowStep
from waveglow_vq.lobes.flows.network.folded_weights import fold, fold_condition
from waveglow_vq.lobes.flows.network.wavenet import WaveNet
from waveglow_vq.lobes.flows.transforms import Transform
from waveglow_vq.lobes.flows.upsampling import interpolate_frames
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.source.excitation import excited

import torch
from torch import nn
from torch._higher_order_ops.scan import scan
from torch.nn.functional import pad
from torch.nn.utils import parametrize


def export_program(vocoder):
    """The vocoder as an ``ExportedProgram``, for lengths and batches of any size:

        (log_mel [B, n_mels, frames], noise [B, group_size, frames * hop / group_size])
            -> waveform [B, frames * hop]

    and for a model that knows speakers, their numbers, int64 ``[B]`` (-1: unknown), as a third
    input. The noise is standard normal times the sampling temperature sigma: column i holds the
    samples ``i * group_size`` and following. The program runs on CPU and in fp32, the envelope in
    fp64; what depends on the weights alone is constant in it.

    Arguments
    ---------
    vocoder : WaveGlowVocoder, VoiceConverter or WaveGlowVQ
        A model of log-mels, without codes; it stays as it is.

    Returns
    -------
    torch.export.ExportedProgram

    Raises
    ------
    UserError
        If the model has codes, or is conditioned on waveforms.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.conditioners.mel import MelConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> features = LogMel()
    >>> flows = WaveGlow(features, prior="white", flows=1, layers=1, channels=8)
    >>> program = export_program(WaveGlowVQ(MelConditioner(features, layers=0), flows))
    >>> program.module()(torch.randn(1, 80, 5) - 5, torch.randn(1, 8, 160)).shape
    torch.Size([1, 1280])
    """
    graph = VocoderGraph(model_of(vocoder))
    # Shorter ones would be other graphs to the tracing, which tells sizes of one from others.
    batch, frames = torch.export.Dim("batch"), torch.export.Dim("frames", min=3)
    shapes = [{0: batch, 2: frames}, {0: batch, 2: graph.groups_per_frame * frames}, {0: batch}]
    inputs = graph.example(batch=2, frames=7)
    with torch.no_grad():
        program = torch.export.export(
            graph, inputs, dynamic_shapes=tuple(shapes[: len(inputs)]), strict=False
        )
    # Contexts in which only constants were computed are empty, and could not be loaded again.
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def model_of(vocoder):
    """The model of an interface, or the model itself, after a check that it can be exported."""
    model = vocoder.mods.model if hasattr(vocoder, "mods") else vocoder
    if not isinstance(model, WaveGlowVQ) or not model.conditioner.is_vocoder:
        raise UserError(
            "the model has codes, and only vocoders of log-mels are exported: train one with "
            "mel.yaml, or use waveglow_vq.inference.SpeechCodec or VoiceConverter"
        )
    return model


class VocoderGraph(nn.Module):
    """Conditioner, flows and envelope as one function of tensors; see :func:`export_program`. The
    model is copied.
    """

    def __init__(self, model):
        super().__init__()
        # A copy in memory of its own, without what the model may have prepared for inference.
        model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        self.conditioner, self.speakers = model.conditioner, model.speakers
        self.flows = model.vocoder
        self.n_mels = model.conditioner.n_mels
        self.group_size = self.flows.group_size
        self.groups_per_frame = self.flows.hop // self.group_size
        self.reader = None
        if self.flows.excitation:
            self.reader = copy.deepcopy(model.pitch_reader)
        for module in list(self.modules()):
            if parametrize.is_parametrized(module):
                _fold_parametrizations(module)
            if isinstance(module, WaveNet):
                _fold_products(module)
            if isinstance(module, FlowStep):
                module.conv = _Inverse1x1(module.conv)
        self.envelope = None
        if self.flows.envelope is not None:
            self.envelope = _Envelope(self.flows.envelope.predictor)

    def forward(self, log_mel, noise, speaker=None):
        """See :func:`export_program`."""
        vectors = None if self.speakers is None else self.speakers(speaker)
        condition = self.conditioner(log_mel)
        if self.reader is not None:
            condition = excited(condition, self.flows, self.reader)
        signal = self.flows.inverse_flows(noise, condition.local, vectors)
        return signal if self.envelope is None else self.envelope(signal, log_mel)

    def example(self, batch, frames, seed=0):
        """Inputs like those of use: a log-mel that wanders, noise, speakers of different kinds."""
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(batch, self.n_mels, 1, generator=generator) - 5
        walk = 0.2 * torch.randn(batch, self.n_mels, frames, generator=generator).cumsum(-1)
        groups = frames * self.groups_per_frame
        noise = torch.randn(batch, self.group_size, groups, generator=generator)
        inputs = ((start + walk).clamp(-11.5, 1.0), noise)
        if self.speakers is None:
            return inputs
        # The first one, the unknown one, the last one, ...
        numbers = torch.tensor([0, -1, self.speakers.count - 1]).repeat(batch)[:batch]
        return (*inputs, numbers)


def _fold_parametrizations(module):
    """As ``parametrize.remove_parametrizations``, which however changes the class of the module,
    that of the original of a copy too."""
    weights = {name: getattr(module, name).detach() for name in module.parametrizations}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, weight in weights.items():
        module.register_parameter(name, nn.Parameter(weight, requires_grad=False))


def _fold_products(network):
    """Makes constants of a coupling network's products of weights, computed in fp64."""
    weights, condition = fold(network, torch.float64), fold_condition(network, torch.float64)
    network.exported = weights.to(torch.float32), condition.to(torch.float32)


class _Inverse1x1(Transform):
    """The inverse of an InvertibleConv1x1, as constants: computed in fp64, stored in fp32."""

    def __init__(self, conv):
        super().__init__()
        inverse = torch.linalg.inv(conv.weight.detach().double()).to(conv.weight.dtype)
        self.register_buffer("inverse_weight", inverse)

    def inverse(self, y, context):
        """See :class:`~waveglow_vq.lobes.flows.transforms.Transform`."""
        return self.inverse_weight @ y


class _Envelope(nn.Module):
    """The inverse of the envelope flow, in fp64 as there."""

    def __init__(self, predictor):
        super().__init__()
        self.predictor = predictor
        # A product of matrices instead of the Fourier transform, which few runtimes have in fp64:
        # r_k = 1/N (S_0 + (-1)^k S_{N/2} + 2 sum_j S_j cos(2 pi j k / N)).
        bins = torch.eye(len(predictor.offset), dtype=torch.float64)
        cosines = torch.fft.irfft(bins)[:, : predictor.order + 1]
        self.register_buffer("cosines", cosines * predictor.lag_window)

    def forward(self, error, log_mel):
        """``[batch, samples]`` and ``[batch, n_mels, frames]`` to ``[batch, samples]``."""
        made = self.predictor
        log_mel = interpolate_frames(log_mel.double(), made.updates_per_frame)
        coefficients, residual = levinson_durbin_scan(made.power(log_mel) @ self.cosines)
        driven = error.double().unflatten(-1, (-1, made.block)) * residual.sqrt()[..., None]
        return all_pole_scan(driven, coefficients).to(error.dtype)


def levinson_durbin_scan(autocorrelation):
    """As :func:`~waveglow_vq.lobes.flows.envelope.levinson_durbin`, in steps of one shape.

    The predictor A and its time reverse B, which grow by a coefficient in each step, are filled up
    with zeros (the lattice of Itakura and Saito):

        k = - sum_j A_j r_{i-j} / E,   A <- A + k z^-1 B,   B <- z^-1 B + k A,   E <- (1 - k^2) E

    Example
    -------
    >>> import torch
    >>> a, error = levinson_durbin_scan(torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.float64))
    >>> [round(value, 2) + 0.0 for value in a[0].tolist()], error.item()
    ([-0.5, 0.0], 0.75)
    """
    r = autocorrelation

    def step(carry, latest):
        a, b, lags, error = carry
        # r_i, r_{i-1}, ..., r_0, 0, ...: what the coefficients meet.
        lags = torch.cat([latest, lags[..., :-1]], dim=-1)
        b = torch.cat([torch.zeros_like(latest), b[..., :-1]], dim=-1)
        k = -(a * lags).sum(-1, keepdim=True) / error
        return (a + k * b, b + k * a, lags, error * (1 - k * k)), k.clone()

    first, rest = r[..., :1], torch.zeros_like(r[..., 1:])
    one = torch.cat([torch.ones_like(first), rest], dim=-1)
    carry = (one, one.clone(), torch.cat([first, rest], dim=-1), _laid_out(first))
    (a, _, _, error), _ = scan(step, carry, r[..., 1:, None].movedim(-2, 0))
    return a[..., 1:], error[..., 0]


def all_pole_scan(driven, coefficients):
    """x_n = driven_n - sum_k a_{t(n),k} x_{n-k}, from silence, as
    :func:`~waveglow_vq.lobes.filters.blockwise.recursive_filter_blocks` does it, with one step of
    the scan for each of its steps: ``driven`` ``[batch, blocks, block]`` and ``coefficients``
    ``[batch, blocks, order]`` give ``[batch, blocks * block]``.

    Example
    -------
    >>> import torch
    >>> all_pole_scan(torch.ones(1, 2, 2), torch.full((1, 2, 1), -0.5))
    tensor([[1.0000, 1.5000, 1.7500, 1.8750]])
    """
    block, order = driven.shape[-1], coefficients.shape[-1]
    size = step_of_block(block)

    def in_time(x):
        """``[batch, blocks, n]`` to ``[steps, batch, n]``."""
        return x.repeat_interleave(block // size, dim=1).transpose(0, 1)

    # Row n holds a_P ... a_{n+1} from column n on, and h_n ... h_0.
    band = toeplitz_index(order, size, order, lower=False)
    triangle = toeplitz_index(size, size, size)

    def step(before, inputs):
        b, latest_last, impulse = inputs
        b = b[..., None] - toeplitz(latest_last, band) @ before[..., None]
        x = (toeplitz(impulse, triangle) @ b)[..., 0]
        return _laid_out(torch.cat([before, x], dim=-1)[..., -order:]), x

    inputs = (
        driven.unflatten(-1, (-1, size)).flatten(1, 2).transpose(0, 1),
        in_time(coefficients.flip(-1)),
        in_time(impulse_response(coefficients, size)),
    )
    silence = coefficients.new_zeros(coefficients.shape[0], order)
    _, x = scan(step, silence, inputs)
    return x.transpose(0, 1).flatten(1)


def _laid_out(x):
    """A copy in memory as every carry of a scan has to lie, whatever x is a part of."""
    return x.clone(memory_format=torch.contiguous_format)


def impulse_response(coefficients, length):
    """First samples of the impulse response h of 1 / A, ``[..., length]``.

    Twice as many from n of them, by block substitution: with H the lower-triangular Toeplitz
    matrix of h, and L that of the coefficients which reach from the second n samples to the first,

        h_{n ... 2n-1} = - H L h_{0 ... n-1}

    Example
    -------
    >>> import torch
    >>> impulse_response(torch.tensor([-0.5]), 4)
    tensor([1.0000, 0.5000, 0.2500, 0.1250])
    """
    taps = torch.cat([torch.ones_like(coefficients[..., :1]), coefficients], dim=-1)
    h = taps[..., :1]
    while h.shape[-1] < length:
        n = h.shape[-1]
        reaching = toeplitz(taps, toeplitz_index(taps.shape[-1], n, n, first=n))
        following = toeplitz(h, toeplitz_index(n, n, n)) @ (reaching @ h[..., None])
        h = torch.cat([h, -following[..., 0]], dim=-1)
    return h[..., :length]


def toeplitz_index(count, rows, columns, first=0, lower=True):
    """Where the entries of a Toeplitz matrix ``[rows, columns]`` come from: entry i, j is number
    ``first + i - j`` of ``count``, or ``j - i`` if not ``lower``; where there is no such number,
    ``count`` stands for zero."""
    # Of numbers, not tensors, so that it is a constant of the graph.
    shifts = [[i - j for j in range(columns)] for i in range(rows)]
    numbers = [[first + s if lower else -s for s in row] for row in shifts]
    return torch.tensor([[n if 0 <= n < count else count for n in row] for row in numbers])


def toeplitz(values, index):
    """Matrices ``[..., rows, columns]`` of the numbers ``values [..., count]``."""
    entries = pad(values, (0, 1)).index_select(-1, index.flatten())
    return entries.unflatten(-1, index.shape)
