import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from waveglow_vq.audio.features import LogMel
from waveglow_vq.lobes.filters import blockwise, numba_kernels
from waveglow_vq.lobes.filters.blockwise import recursive_filter_blocks
from waveglow_vq.lobes.filters.kernels import kernels_for
from waveglow_vq.lobes.flows import envelope
from waveglow_vq.lobes.flows.envelope import (
    EnvelopeContext,
    EnvelopeFlow,
    MelPredictor,
    levinson_durbin,
)

import numpy as np
import pytest
import torch

from tests.inference.exports import voiced_speech_like
from tests.lobes.flows.transform_base import random_tensor


@pytest.fixture
def plain(monkeypatch):
    """Calls a function with the plain forms."""

    def call(function, *arguments):
        with monkeypatch.context() as patch:
            for module in (blockwise, envelope):
                patch.setattr(module, "kernels_for", lambda *tensors: None)
            return function(*arguments)

    return call


def speech_case(blocks, order=128, block=128, batch=1):
    """Predictors of voiced speech, stiff as they come, what drives them, and a history."""
    updates = 256 // block
    samples = max(2048, (blocks // updates + 1) * 256)
    wav = torch.stack([voiced_speech_like(samples, f0=110 + 40 * b, seed=b) for b in range(batch)])
    made = MelPredictor(LogMel(), order, updates)(LogMel()(wav))
    gain = made.log_gain[:, :blocks].exp().repeat_interleave(block, dim=1)
    driven = random_tensor(batch, blocks * block, seed=5) * gain
    return driven, made.coefficients[:, :blocks], random_tensor(batch, order, seed=6) * 0.01


def small_case(blocks, order, block, batch=2):
    coefficients = random_tensor(batch, blocks, order, seed=1)
    coefficients = 0.9 * coefficients / coefficients.abs().sum(-1, keepdim=True)
    history = random_tensor(batch, order, seed=3)
    return random_tensor(batch, blocks * block, seed=2), coefficients, history


CASES = {
    "speech": lambda: speech_case(40),
    "speech, a batch": lambda: speech_case(10, batch=3),
    "speech, blocks of 64": lambda: speech_case(20, block=64),
    "speech, one block a frame": lambda: speech_case(6, order=60, block=256),
    # Orders and blocks below, at and above what is computed together; not multiples of it.
    **{
        f"{blocks} blocks of {block}, order {order}": (
            lambda blocks=blocks, order=order, block=block: small_case(blocks, order, block)
        )
        for blocks, order, block in [
            (1, 1, 1), (3, 1, 7), (3, 2, 4), (4, 5, 6), (5, 16, 3), (2, 70, 67), (3, 200, 128),
        ]
    },
}  # fmt: skip


def assert_close_to(found, expected, relative=1e-12):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    scale = expected.abs().amax().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=relative * scale)


@pytest.mark.parametrize("case", CASES)
def test_recursion_equals_the_plain_one(case, plain):
    inputs = CASES[case]()
    assert kernels_for(*inputs) is not None
    copies = [x.clone() for x in inputs]
    found = recursive_filter_blocks(*inputs)
    assert_close_to(found, plain(recursive_filter_blocks, *inputs))
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


def spectra(rows, bins=513, range_db=60.0):
    """Autocorrelations of smooth random spectra, ``[rows, bins]``."""
    log = random_tensor(rows, bins, seed=8).cumsum(-1)
    log = (log - log.amin(-1, keepdim=True)) / (log.amax(-1) - log.amin(-1))[:, None]
    r = torch.fft.irfft((log * range_db / 10 * np.log(10)).exp())
    r[:, 0] *= 1 + 1e-5
    return r


@pytest.mark.parametrize("order", [1, 2, 3, 24, 128])
@pytest.mark.parametrize("range_db", [10.0, 60.0])
def test_levinson_is_as_exact_as_the_plain_one(order, range_db, plain):
    """Against the recursion in long double: of steep spectra, fp64 itself loses digits."""
    r = spectra(20, range_db=range_db)[:, : order + 1]
    assert kernels_for(r) is not None
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("no long double here")
    exact, left = long_levinson(r.numpy())
    worst = [
        np.abs(a.numpy() - exact).max() + np.abs(e.numpy() / left - 1).max()
        for a, e in (levinson_durbin(r), plain(levinson_durbin, r))
    ]
    assert worst[0] <= 3 * worst[1] + 1e-14
    if range_db == 10:
        assert worst[0] < 1e-12


def long_levinson(r):
    r = r.astype(np.longdouble)
    a, error = r[:, :0], r[:, 0]
    for i in range(1, r.shape[1]):
        reflection = -(r[:, i] + (a * r[:, 1:i][:, ::-1]).sum(-1)) / error
        a = np.concatenate([a + reflection[:, None] * a[:, ::-1], reflection[:, None]], axis=1)
        error = error * (1 - reflection**2)
    return a, error


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0)])
def test_levinson_takes_any_shape(shape, plain):
    r = spectra(6)[:, :9].expand(*shape, 6, 9) if 0 in shape else spectra(6)[:, :9]
    r = r[0] if shape == () else r[: int(np.prod(shape))].reshape(*shape, 9)
    for found, expected in zip(levinson_durbin(r), plain(levinson_durbin, r), strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_predictors_of_many_frames_are_those_of_few(plain):
    """Portions, and what is not a multiple of them; a batch larger than a portion."""
    predictor = MelPredictor(LogMel(), order=20)
    for batch, frames in ((1, 70), (3, 50), (envelope.PREDICTORS_AT_ONCE + 1, 2)):
        log_mel = random_tensor(batch, 80, frames) - 4.0
        found, expected = predictor(log_mel), plain(predictor, log_mel)
        torch.testing.assert_close(found.coefficients, expected.coefficients, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.log_gain, expected.log_gain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("samples,blocks", [(0, 0), (0, 2), (4, 0), (7, 2)])
def test_refuses_what_cannot_be_cut_in_blocks(samples, blocks, plain):
    inputs = torch.zeros(1, samples), torch.zeros(1, blocks, 3), torch.zeros(1, 3)
    for call in (
        lambda *x: recursive_filter_blocks(*x),
        lambda *x: plain(recursive_filter_blocks, *x),
    ):
        with pytest.raises(ValueError, match="blocks"):
            call(*[x.double() for x in inputs])


def test_only_where_nobody_wants_a_gradient():
    driven, coefficients, history = small_case(2, 3, 4)
    assert kernels_for(driven, coefficients, history) is not None
    assert kernels_for(driven.float(), coefficients, history) is None
    for wanted in (driven, coefficients, history):
        wanted.requires_grad_()
        assert kernels_for(driven, coefficients, history) is None
        assert recursive_filter_blocks(driven, coefficients, history).requires_grad
        with torch.no_grad():
            assert kernels_for(driven, coefficients, history) is not None
            assert not recursive_filter_blocks(driven, coefficients, history).requires_grad
        with torch.inference_mode():
            recursive_filter_blocks(driven, coefficients, history)
        wanted.requires_grad_(False)
    r = spectra(2)[:, :5].requires_grad_()
    assert kernels_for(r) is None and levinson_durbin(r)[0].requires_grad


def test_derivatives_forwards_are_not_lost():
    """Tangents ride on tensors that require no gradient."""
    r = spectra(1)[:, :4]
    _, tangent = torch.autograd.functional.jvp(lambda x: levinson_durbin(x)[0], r, r)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(r, torch.ones_like(r))
        assert kernels_for(dual) is None
        assert torch.autograd.forward_ad.unpack_dual(levinson_durbin(dual)[0]).tangent is not None
    # Predictors do not depend on the level.
    assert tangent.abs().max() < 1e-9


def test_tensors_of_inference_mode_and_views():
    inputs = small_case(3, 5, 6)
    expected = recursive_filter_blocks(*inputs)
    with torch.inference_mode():
        made = [x.clone() for x in inputs]
        found = recursive_filter_blocks(*made)
        assert found.is_inference() and torch.equal(found, expected)
        r = spectra(3)[:, :8]
        assert levinson_durbin(r)[0].is_inference()
    strided = [torch.stack([x, x], dim=-1)[..., 0] for x in inputs]
    assert not any(x.is_contiguous() for x in strided)
    assert torch.equal(recursive_filter_blocks(*strided), expected)


def test_items_in_threads_are_the_items_alone(monkeypatch):
    monkeypatch.setattr(numba_kernels, "SAMPLES_PER_THREAD", 1)
    monkeypatch.setattr(numba_kernels, "ROWS_PER_THREAD", 1)
    inputs, r = small_case(3, 5, 6, batch=7), spectra(11)[:, :9]
    alone = [recursive_filter_blocks(*(x[b : b + 1] for x in inputs)) for b in range(7)]
    rows = [levinson_durbin(row)[0] for row in r]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(recursive_filter_blocks(*inputs), torch.cat(alone))
    assert torch.equal(levinson_durbin(r)[0], torch.stack(rows))


def test_several_threads_at_once():
    cases = [small_case(20, 30, 64, batch=2) for _ in range(8)]
    expected = recursive_filter_blocks(*cases[0])
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda case: recursive_filter_blocks(*case), cases * 4):
            assert torch.equal(found, expected)


def test_not_a_number_stays_where_it_was():
    driven, coefficients, history = small_case(4, 3, 5, batch=2)
    driven[1, 12] = float("nan")
    result = recursive_filter_blocks(driven, coefficients, history)
    assert torch.isfinite(result[0]).all() and torch.isfinite(result[1, :12]).all()
    assert result[1, 12:].isnan().all()


def test_models_can_be_exported_and_compiled(plain):
    """torch sees the plain form."""
    flow = EnvelopeFlow(MelPredictor(LogMel(), order=4, updates_per_frame=1))
    noise, log_mel = torch.randn(1, 1, 512), torch.randn(1, 80, 2) - 4

    class Inverse(torch.nn.Module):
        def forward(self, noise, log_mel):
            return flow.inverse(noise, EnvelopeContext(log_mel))

    with torch.no_grad():
        expected = plain(Inverse(), noise, log_mel)
        exported = torch.export.export(Inverse(), (noise, log_mel), strict=False).module()
        torch.testing.assert_close(exported(noise, log_mel), expected, rtol=0, atol=1e-6)
        compiled = torch.compile(Inverse(), backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(noise, log_mel), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traces_hold_no_results():
    r = spectra(2)[:, :5]
    traced = torch.jit.trace(lambda x: levinson_durbin(x)[0], r[:1])
    torch.testing.assert_close(traced(r[1:]), levinson_durbin(r[1:])[0], rtol=1e-9, atol=1e-9)


WITHOUT = """
import sys
{setup}
from waveglow_vq.lobes.filters.blockwise import recursive_filter_blocks
from waveglow_vq.lobes.filters.kernels import kernels_for
import torch
x = torch.ones(1, 4, dtype=torch.float64)
print(kernels_for(x) is None)
print(recursive_filter_blocks(x, torch.full_like(x[None], -0.5)[..., :1], x[:, :1]).tolist())
"""


def run_python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\n"), result.stderr


RESULT = "[[1.5, 1.75, 1.875, 1.9375]]"


def test_without_numba_the_plain_form_serves():
    printed, errors = run_python(WITHOUT.format(setup="sys.modules['numba'] = None"))
    assert printed[:2] == ["True", RESULT] and not errors


def test_without_a_folder_for_compiled_code(tmp_path):
    """Neither the package's folder nor the user's can be written: here, since there is a file
    where numba would put one. Compiled again then, in each process."""
    (tmp_path / "file").touch()
    refuse = (
        "import os, numba.core.caching as caching\n"
        "def refuse(*a): raise OSError('read-only')\n"
        "caching._CacheLocator.ensure_cache_path = refuse"
    )
    printed, _ = run_python(WITHOUT.format(setup=refuse), HOME=str(tmp_path / "file"))
    assert printed[:2] == ["False", RESULT]


def test_without_room_for_compiled_code(tmp_path):
    full = (
        "import numba.core.caching as caching\n"
        "def full(*a): raise OSError('no space left on device')\n"
        "caching.IndexDataCacheFile.save = full"
    )
    printed, _ = run_python(WITHOUT.format(setup=full), NUMBA_CACHE_DIR=str(tmp_path / "numba"))
    assert printed[:2] == ["False", RESULT]
