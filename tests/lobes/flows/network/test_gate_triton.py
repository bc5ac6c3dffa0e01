"""The kernels for CUDA: on a GPU where there is one, else by Triton's interpreter."""

import logging

from waveglow_vq.lobes.filters import kernels
from waveglow_vq.lobes.flows.network import gate_triton

import pytest
import torch
from torch.testing import assert_close

from tests.lobes.triton_interpreter import (
    DEVICE,
    INTERPRETED,
    run_by_the_interpreter,
    runs_elsewhere,
    runs_here,
)

TOLERANCES = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}
kinds = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: str(dtype)[6:])
needs_triton = pytest.mark.skipif(gate_triton.triton is None, reason="needs triton")
# Batch, of the frames, channels, steps, frames, steps per frame, whether rows are added.
CASES = {
    "whole frames": (2, 2, 16, 24, 3, 8, False),
    "a frame more, a part of an interval": (2, 1, 12, 19, 4, 8, True),
    "the last frame is held, tiles of a part of an interval": (1, 1, 3, 170, 2, 48, False),
    "more frames than needed, several blocks of channels": (1, 1, 70, 45, 5, 40, True),
    "one frame": (2, 1, 8, 150, 1, 0, False),
    "one frame for each item, interpolated": (2, 2, 5, 11, 1, 4, True),
    "a frame for each step": (1, 1, 8, 5, 5, 1, False),
}


@needs_triton
@runs_elsewhere
def test_by_the_interpreter():
    run_by_the_interpreter(__file__)


def plain_gate(gates, frames, per_frame, rows):
    """In fp64, for autograd."""
    t = torch.arange(gates.shape[1])
    place = t.double()
    f = (t // per_frame if per_frame else 0 * t).clamp(max=frames.shape[1] - 1)
    weight = ((place % per_frame + 0.5) / per_frame if per_frame else 0 * place)[:, None]
    following = frames[:, (f + 1).clamp(max=frames.shape[1] - 1)]
    a, b = (gates + rows + frames[:, f] + weight * (following - frames[:, f])).chunk(2, dim=-1)
    return (a.sigmoid() - 0.5) * b.sigmoid()


def inside(tensor, larger):
    """A tensor on the device, in the middle of something larger."""
    moved = torch.full([n + 4 for n in tensor.shape], 7.0, dtype=tensor.dtype, device=DEVICE)
    view = moved[2:-2, 2:-2, 2:-2] if larger else tensor.to(DEVICE, copy=True)
    view.copy_(tensor)
    return view, moved


@runs_here
@kinds
@pytest.mark.parametrize("case", CASES)
def test_gate(case, dtype):
    batch, items, channels, steps, count, per_frame, has_rows = CASES[case]
    wide = torch.promote_types(dtype, torch.float32)
    gates = torch.randn(batch, steps, 2 * channels).to(dtype)
    rows = torch.randn(batch, steps, 2 * channels).to(dtype) * has_rows
    frames = torch.randn(items, count, 2 * channels).to(wide)
    gradient = torch.randn(batch, steps, channels).to(dtype)
    leaves = [x.double().requires_grad_() for x in (gates, frames, rows)]
    expected = plain_gate(leaves[0], leaves[1], per_frame, leaves[2])
    expected.backward(gradient.double())
    # A view of the frames of three layers.
    layers = torch.stack([frames] * 3, dim=2).flatten(2).to(DEVICE)
    layer = layers[..., 2 * channels : 4 * channels]
    moved, around = inside(gates, larger=True)
    options = {"rows": inside(rows, larger=True)[0]} if has_rows else {}
    tolerance = {"rtol": 0, "atol": TOLERANCES[dtype]}
    acts = gate_triton.gate(moved.clone(), layer, per_frame, **options)
    assert acts.dtype == dtype
    assert_close(acts.cpu().double(), expected, **tolerance)
    found, kept = gate_triton.gate(moved, layer, per_frame, keep=True, **options)
    assert torch.equal(found, acts)
    to_gates, to_frames, acts = gate_triton.gate_backward(
        inside(gradient, larger=True)[0], kept, per_frame, count
    )
    assert_close(acts.cpu().double(), expected, **tolerance)
    assert_close(to_gates.cpu().double(), leaves[0].grad, **tolerance)
    assert to_frames.dtype == wide and to_frames.shape == (batch, count, 2 * channels)
    if items == 1:
        to_frames = to_frames.sum(0, keepdim=True)
    tolerance["atol"] *= 20
    assert_close(to_frames.cpu().double(), leaves[1].grad, **tolerance)
    # Nothing is written beside.
    moved.fill_(7.0)
    assert (around == 7.0).all()


@runs_here
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_large_preactivations(dtype):
    gates = torch.tensor([-1e4, -800.0, -100.0, 0.0, 100.0, 1e4], dtype=dtype, device=DEVICE)
    gates = torch.cat([gates, gates.flip(0)]).view(1, 1, 12)
    a, b = gates.sigmoid().chunk(2, dim=-1)
    acts, kept = gate_triton.gate(gates, torch.zeros_like(gates), 0, keep=True)
    assert_close(acts, (a - 0.5) * b)
    for gradient in gate_triton.gate_backward(torch.ones_like(acts), kept, 0, 1):
        assert gradient.isfinite().all()


@runs_here
@kinds
@pytest.mark.parametrize("channels, skips", [(16, 8), (5, 3), (70, 66)])
@pytest.mark.parametrize("is_bare", [False, True], ids=["", "without bias and lengths"])
def test_residual_skip(channels, skips, is_bare, dtype):
    wide, steps = torch.promote_types(dtype, torch.float32), 130
    out, hidden = (torch.randn(2, steps, n).to(dtype) for n in (channels + skips, channels))
    total, bias = torch.randn(2, steps, skips).to(wide), torch.randn(channels + skips).to(dtype)
    lengths = None if is_bare else torch.tensor([steps - 40, steps])
    bias = None if is_bare else bias
    mask = torch.ones(2, steps, 1, dtype=torch.float64)
    mask[0, steps - 40 :] = is_bare
    sums = out.double() + (0 if is_bare else bias.double())
    tolerance = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype]}

    moved, around = inside(total, larger=True)
    extra = [None if x is None else x.to(DEVICE) for x in (bias, lengths)]
    following = gate_triton.residual_skip(
        inside(out, larger=True)[0], inside(hidden, larger=True)[0], moved, *extra
    )
    assert following.dtype == dtype
    expected = (hidden.double() + sums[..., :channels]) * mask
    assert_close(following.cpu().double(), expected, **tolerance)
    expected = total.double() + sums[..., channels:]
    assert_close(moved.cpu().double(), expected, rtol=1e-6, atol=1e-6)
    # The last layer has no residual.
    if not is_bare:
        extra[0] = extra[0][channels:]
    skip = inside(out[..., channels:], larger=True)[0]
    assert gate_triton.residual_skip(skip, None, moved, *extra) is None
    assert_close(moved.cpu().double(), expected + sums[..., channels:], rtol=1e-6, atol=1e-6)
    moved.fill_(7.0)
    assert (around == 7.0).all()

    both = inside(out, larger=True)[0]
    gate_triton.add_residual(both, hidden.to(DEVICE), extra[1])
    expected = (out[..., :channels].double() + hidden.double()) * mask
    assert_close(both[..., :channels].cpu().double(), expected, **tolerance)
    assert torch.equal(both[..., channels:].cpu(), out[..., channels:])


@runs_here
def test_any_layout_of_a_convolution():
    gates, gradient = torch.randn(2, 12, 9), torch.randn(2, 6, 9)
    frames = torch.randn(1, 3, 12)
    results = []
    for layout in (torch.Tensor.contiguous, lambda x: x):
        moved, to_acts = (layout(x.to(DEVICE).transpose(1, 2)) for x in (gates, gradient))
        acts, kept = gate_triton.gate(moved, frames.to(DEVICE), 4, keep=True)
        results.append((acts.clone(), *gate_triton.gate_backward(to_acts, kept, 4, 3)))
    assert all(map(torch.equal, *results))


# Compute capabilities, and types that they have.
CHIPS = [(70, torch.float16), (75, torch.float32), (80, torch.bfloat16), (90, torch.bfloat16)]
TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.int64: "*i64",
}


class Launches(list):
    """Stands for a kernel, and remembers what it is launched with."""

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.append((arguments, options))


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")
@pytest.mark.parametrize("chip, dtype", CHIPS)
def test_compiles_without_a_gpu(chip, dtype, monkeypatch, tmp_path):
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    names = [name for name in vars(gate_triton) if name.endswith("_kernel")]
    functions = {name: getattr(gate_triton, name) for name in names}
    launches = {name: Launches() for name in names}
    for name in names:
        monkeypatch.setattr(gate_triton, name, launches[name])
    gates, out = torch.zeros(2, 8, 128, dtype=dtype), torch.zeros(2, 8, 72, dtype=dtype)
    total, lengths = torch.zeros(2, 8, 8), torch.tensor([5, 8])
    acts, kept = gate_triton.gate(gates, torch.zeros(1, 3, 128), 4, gates.clone(), keep=True)
    gate_triton.gate_backward(acts, kept, 4, 3)
    gate_triton.residual_skip(out, acts, total, out[0, 0], lengths)
    gate_triton.add_residual(out, acts, lengths)
    for name, function in functions.items():
        ((arguments, options),) = launches[name]
        settings = {name: options.pop(name) for name in gate_triton.OPTIONS}
        signature = {
            key: TYPES[x.dtype] if isinstance(x, torch.Tensor) else "i32"
            for key, x in zip(function.arg_names, arguments, strict=False)
        }
        signature |= dict.fromkeys(options, "constexpr")
        source = ASTSource(function, signature, options)
        compiled = compile(source, target=GPUTarget("cuda", chip, 32), options=settings)
        assert compiled.asm["cubin"], name


# Whether they serve is asked once per device.


@pytest.fixture
def chip(monkeypatch):
    """Pretends that there is a GPU; sets its compute capability."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: name)
    gate_triton._available.cache_clear()
    yield lambda *version: monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: version
    )
    gate_triton._available.cache_clear()


def test_available_is_asked_once(chip, monkeypatch):
    tried = []
    monkeypatch.setattr(gate_triton, "_warm_up", tried.append)
    chip(7, 0)
    assert gate_triton.available("cuda:0") and gate_triton.available(torch.device("cuda:0"))
    assert tried == [torch.device("cuda:0")]
    assert not gate_triton.available("cpu")


def test_old_gpus_and_failing_compilers_have_the_plain_form(chip, monkeypatch, caplog):
    chip(6, 1)
    assert not gate_triton.available("cuda:0")

    def fail(device):
        raise RuntimeError("no compiler")

    gate_triton._available.cache_clear()
    chip(9, 0)
    monkeypatch.setattr(gate_triton, "_warm_up", fail)
    with caplog.at_level(logging.WARNING):
        assert not gate_triton.available("cuda:0") and not gate_triton.available("cuda:0")
    assert caplog.text.count("Triton is not used for the coupling networks") == 1
