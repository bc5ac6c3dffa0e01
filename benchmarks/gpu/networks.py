"""The coupling network and the envelope's recursions on the device against their definitions on the
CPU; and how rows of a comparison are made."""

import contextlib
import math

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.inference.exported_model import DTYPES
from waveglow_vq.lobes.filters.blockwise import recursive_filter_blocks
from waveglow_vq.lobes.filters.kernels import kernels_for
from waveglow_vq.lobes.flows.envelope import levinson_durbin
from waveglow_vq.lobes.flows.inference_cache import prepare_inference
from waveglow_vq.lobes.flows.network.wavenet import WaveNet
from waveglow_vq.lobes.flows.transforms import FlowContext
from waveglow_vq.lobes.flows.upsampling import frames_to_groups

import torch
from torch.nn.functional import conv1d

# Most error relative to the norm: of outputs and of each gradient.
NETWORKS = {"fp32": 1e-5, "tf32": 5e-3, "fp16": 5e-3, "bf16": 0.05}


# ---- figures


def at_most(figure, bar, **more):
    """A row; NaN never passes."""
    return {"figure": figure, "bar": f"at most {bar:g}", "passed": bool(figure <= bar), **more}


def at_least(figure, bar, **more):
    """A row."""
    return {"figure": figure, "bar": f"at least {bar:g}", "passed": bool(figure >= bar), **more}


def relative(found, expected):
    """Norm of the error by the norm."""
    found, expected = (x.detach().double().cpu() for x in (found, expected))
    return float((found - expected).norm() / expected.norm())


def decibel(found, expected):
    """Signal to error; 300 where there is none."""
    error = relative(found, expected)
    return -20 * math.log10(error) if error > 1e-15 else (300.0 if error == error else error)


@contextlib.contextmanager
def tensor_float(allowed):
    """Whether fp32 products of a GPU may be rounded to TF32."""
    modules = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [module.allow_tf32 for module in modules]
    for module in modules:
        module.allow_tf32 = allowed
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.allow_tf32 = value


def in_precision(dtype, call):
    """Calls it with TF32 where it is asked for."""
    with tensor_float(dtype == "tf32"):
        return call()


def autocast(device, dtype):
    """Autocast of a precision; nothing in fp32."""
    kind = DTYPES.get(dtype, torch.float32)
    return torch.autocast(torch.device(device).type, kind, enabled=kind != torch.float32)


# ---- a coupling network


def network_as_defined(network, x, context):
    """What the papers write: interpolate the condition, then project it; no fold."""
    mask = 1 if context.mask is None else context.mask
    hidden, skips, channels = network.start(x * mask), 0, network.channels
    local = frames_to_groups(context.local, x.shape[-1], context.groups_per_frame)
    for i, (dilated, out) in enumerate(zip(network.dilated, network.residual_skip, strict=True)):
        rows = slice(2 * channels * i, 2 * channels * (i + 1))
        options = {"padding": dilated.padding, "dilation": dilated.dilation}
        gates = conv1d(hidden * mask, dilated.weight, dilated.bias, **options)
        gates = gates + conv1d(local, network.local.weight[rows], network.local.bias[rows])
        y = out(gates[:, :channels].tanh() * gates[:, channels:].sigmoid())
        if i < len(network.dilated) - 1:
            hidden, y = hidden + y[:, :channels], y[:, channels:]
        skips = skips + y
    return network.end(skips)


def network_case(options, masked):
    """A network of the base size (tiny's on CPU), its input, its context, and a weight for its
    output; in fp64 on CPU."""
    torch.manual_seed(0)
    on_cuda = torch.device(options.device).type == "cuda"
    channels, layers = (256, 8) if on_cuda else (32, 5)
    network = WaveNet(4, 8, channels=channels, layers=layers, condition_channels=80).double()
    network.end.weight.data.normal_(0, channels**-0.5)
    frames, batch = 10, 3
    x = torch.randn(batch, 4, 32 * frames).double()
    local = torch.randn(batch, 80, frames).double()
    mask = None
    if masked:
        lengths = torch.tensor([32 * frames, 32 * 6, 32])
        mask = (torch.arange(x.shape[-1]) < lengths[:, None])[:, None].double()
    weight = torch.randn(batch, 8, x.shape[-1]).double()
    return network, x, FlowContext(local, mask=mask, groups_per_frame=32), weight


def moved(options, network, x, context, weight):
    """The case on the device in fp32."""
    to = {"device": options.device, "dtype": torch.float32}
    context = context._replace(
        local=context.local.to(**to), mask=None if context.mask is None else context.mask.to(**to)
    )
    return network.to(**to), x.to(**to), context, weight.to(**to)


def own_groups(y, context):
    """Zero where padded, in fp64."""
    return y.double() if context.mask is None else y.double() * context.mask


def of_network(options, dtype, masked):
    """Output and gradients of the training path."""
    case = network_case(options, masked)
    results = []
    for compute in (network_as_defined, lambda network, *inputs: network(*inputs)):
        network, x, context, weight = case
        leaves = [x.requires_grad_(), context.local.requires_grad_(), *network.parameters()]
        with autocast(options.device, dtype if results else "fp32"):
            y = own_groups(compute(network, x, context), context)
        gradients = torch.autograd.grad((y * weight).sum(), leaves)
        results.append([y.detach().cpu(), *(g.detach().double().cpu() for g in gradients)])
        context = context._replace(local=context.local.detach())
        case = moved(options, network, x.detach(), context, weight)
    errors = [relative(f, e) for e, f in zip(*results, strict=True)]
    return at_most(max(errors), NETWORKS[dtype], output=errors[0], input_gradient=errors[1])


@torch.no_grad()
def of_prepared(options, dtype, masked):
    """Output of what is prepared for inference."""
    network, x, context, weight = network_case(options, masked)
    network.eval()
    expected = own_groups(network_as_defined(network, x, context), context)
    network, x, context, _ = moved(options, network, x, context, weight)
    prepare_inference(network, DTYPES.get(dtype, torch.float32))
    found = own_groups(network(x, context), context)
    return at_most(relative(found, expected), NETWORKS[dtype])


# ---- the envelope


def kernels_are_used(options, dtype):
    """Which compiled kernels serve on the device."""
    kind = torch.zeros(1, dtype=torch.float64, device=options.device)
    filters = kernels_for(kind)
    name = "none" if filters is None else getattr(filters, "__name__", type(filters).__name__)
    found = {"filters": name.rpartition(".")[2]}
    try:
        from waveglow_vq.lobes.flows.network import gate_triton

        found["gates"] = str(gate_triton.available(torch.device(options.device)))
    except (ImportError, AttributeError) as error:
        found["gates"] = f"unknown: {error}"
    wanted = torch.device(options.device).type == "cuda"
    passed = (found["gates"] == "True") == wanted and filters is not None
    return {"figure": ", ".join(f"{k}: {v}" for k, v in found.items()), "passed": passed}


def envelope_case():
    """Driven samples, stable predictors and the samples before, in fp64 on CPU."""
    torch.manual_seed(0)
    rows = torch.randn(2, 40, 512).double()
    autocorrelation = torch.fft.irfft(torch.fft.rfft(rows, 1024).abs().square())[..., :129]
    coefficients = plain_levinson(autocorrelation)[0]
    return torch.randn(2, 40 * 128).double(), coefficients, torch.zeros(2, 128).double()


def plain_levinson(autocorrelation):
    """Where a gradient is wanted, the plain form serves."""
    return [x.detach() for x in levinson_durbin(autocorrelation.clone().requires_grad_())]


def of_recursion(options, dtype):
    """The filter of the device against the plain one."""
    driven, coefficients, history = envelope_case()
    expected = recursive_filter_blocks(driven.clone().requires_grad_(), coefficients, history)
    inputs = [x.to(options.device) for x in (driven, coefficients, history)]
    return at_most(relative(recursive_filter_blocks(*inputs), expected), 1e-9)


def of_levinson(options, dtype):
    """The predictors of the device against the plain ones."""
    torch.manual_seed(0)
    rows = torch.randn(64, 512).double()
    autocorrelation = torch.fft.irfft(torch.fft.rfft(rows, 1024).abs().square())[..., :129]
    expected = plain_levinson(autocorrelation)[0]
    found = levinson_durbin(autocorrelation.to(options.device))[0]
    return at_most(relative(found, expected), 1e-9)
