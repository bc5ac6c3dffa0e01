import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.filters.blockwise import BLOCKS_AT_ONCE, filter_blocks
from waveglow_vq.lobes.flows.envelope import (
    EnvelopeContext,
    EnvelopeFlow,
    MelPredictor,
    Predictor,
    all_pole,
    levinson_durbin,
    prediction_error,
)

import numpy as np
import pytest
import scipy.signal
import torch

from tests.lobes.flows.transform_base import TransformContract, random_tensor, tiny_features

FRAMES, HOP, BANDS = 3, 16, 8


def log_mel(frames=FRAMES, batch=2, seed=21):
    """Log-mels that differ much from frame to frame and from band to band."""
    return random_tensor(batch, BANDS, frames, seed=seed) - 1.0


def flow_case(order, updates, history=False, samples=None, following=0):
    flow = EnvelopeFlow(MelPredictor(tiny_features(), order, updates_per_frame=updates))
    context = EnvelopeContext(
        log_mel(FRAMES + following),
        random_tensor(2, order, seed=22) if history else None,
        None if samples is None else torch.tensor(samples),
    )
    return flow, random_tensor(2, 1, FRAMES * HOP, seed=23), context


class TestEnvelopeFlow(TransformContract):
    # Orders smaller and larger than a block (16, 8 or 4 samples) and than a whole segment.
    cases = {
        f"order {order}, {updates} updates{', history' if history else ''}": (
            lambda order=order, updates=updates, history=history: flow_case(order, updates, history)
        )
        for order, updates in ((3, 1), (16, 1), (24, 1), (3, 2), (12, 2), (3, 4), (60, 4))
        for history in (False, True)
    }
    cases["a frame follows"] = lambda: flow_case(6, 2, True, following=1)


def test_logdet_counts_the_samples_that_are_not_padding():
    flow, x, context = flow_case(6, 2, samples=[48, 20])
    e, logdet = flow(x, context)
    log_gain = flow.predictor(context.log_mel).log_gain
    plain = [-sum(log_gain[b, n // 8].item() for n in range(end)) for b, end in enumerate((48, 20))]
    assert logdet.tolist() == pytest.approx(plain, abs=1e-9)


def test_padding_changes_nothing():
    flow, x, context = flow_case(6, 2, samples=[48, 32])
    alone, logdet = flow(x[1:, :, :32], EnvelopeContext(context.log_mel[1:, :, :3]))
    x[1, :, 32:] = 0
    e, both = flow(x, context)
    torch.testing.assert_close(e[1:, :, :32], alone, rtol=0, atol=1e-10)
    torch.testing.assert_close(both[1:], logdet, rtol=0, atol=1e-10)


def dense_levinson(r):
    order = len(r) - 1
    lags = (torch.arange(order)[:, None] - torch.arange(order)).abs()
    a = torch.linalg.solve(r[lags], -r[1:])
    return a, r[0] + (a * r[1:]).sum()


def positive_definite(order, seed=0, range_db=60.0):
    """Autocorrelation of a smooth random spectrum with the given dynamic range."""
    spectrum = random_tensor(513, seed=seed).cumsum(0)
    spectrum = (spectrum - spectrum.min()) / (spectrum.max() - spectrum.min())
    power = torch.exp(spectrum * range_db / 10 * math.log(10))
    r = torch.fft.irfft(power)[: order + 1]
    r[0] *= 1 + 1e-5
    return r


@pytest.mark.parametrize("order", [1, 2, 16, 128])
def test_levinson_durbin_equals_a_dense_solve(order):
    r = torch.stack([positive_definite(order, seed) for seed in range(3)])
    a, error = levinson_durbin(r)
    assert a.shape == (3, order) and error.shape == (3,)
    for b in range(3):
        expected_a, expected_error = dense_levinson(r[b])
        torch.testing.assert_close(a[b], expected_a, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(error[b], expected_error, rtol=1e-6, atol=0)


@pytest.mark.parametrize("order", [8, 24, 128])
def test_predictors_are_stable(order):
    predictor = MelPredictor(LogMel(), order)
    # Harsh: 20 dB up and down from band to band.
    mel = 2.3 * random_tensor(1, 80, 4) - 5.0
    for a in predictor(mel).coefficients[0].numpy():
        assert np.abs(np.roots([1.0, *a])).max() < 1.0


def test_the_dynamic_range_is_bounded_by_the_white_noise_correction():
    """Of a line in silence: r_0 is raised by its share, as if by white noise so far below."""
    mel = torch.full((1, 80, 1), math.log(1e-5), dtype=torch.float64)
    mel[0, 30] = 2.0
    kinds = [{}, {"white_noise_correction": 1e-3}, {"white_noise_correction": 0.0}]
    predictors = [MelPredictor(LogMel(), 64, **options) for options in kinds]
    spectrum = predictors[0].power(mel)[0, 0]
    r = torch.fft.irfft(spectrum)[:65]
    ranges = []
    for correction, predictor in zip((1e-5, 1e-3, 0.0), predictors, strict=True):
        expected, error = dense_levinson(torch.cat([r[:1] * (1 + correction), r[1:]]))
        found = predictor(mel)
        torch.testing.assert_close(found.coefficients[0, 0], expected, rtol=1e-6, atol=1e-6)
        assert float(found.log_gain[0, 0]) == pytest.approx(0.5 * math.log(error), abs=1e-6)
        response = torch.fft.rfft(torch.cat([torch.ones(1), expected]), 1024).abs().log10()
        ranges.append(20 * float(response.max() - response.min()))
    assert ranges[1] < ranges[0] < ranges[2]


def plain_loops(x, predictor, history):
    """Both directions as the docstring of the flow states them, sample by sample."""
    (batch, samples), order = x.shape, predictor.coefficients.shape[-1]
    error, drawn = torch.zeros_like(x), torch.zeros_like(x)
    for b in range(batch):
        before = [0.0] * order if history is None else history[b].tolist()
        speech, made, coefficients = before + x[b].tolist(), list(before), None
        for n in range(samples):
            if n % predictor.block == 0:
                coefficients = predictor.coefficients[b, n // predictor.block].tolist()
                gain = math.exp(predictor.log_gain[b, n // predictor.block])
            last = order + n - 1
            past = sum(a * speech[last - k] for k, a in enumerate(coefficients))
            error[b, n] = (speech[order + n] + past) / gain
            past = sum(a * made[last - k] for k, a in enumerate(coefficients))
            made.append(gain * x[b, n].item() - past)
            drawn[b, n] = made[-1]
    return error, drawn


def any_predictor(batch, blocks, order, block):
    coefficients = random_tensor(batch, blocks, order, seed=1) * 0.5 / order
    return Predictor(coefficients, random_tensor(batch, blocks, seed=2), block)


# Blocks of one step of the recursion and of several, one of a prime number of samples; orders
# below, at and above the block; more items than blocks are taken at once.
@pytest.mark.parametrize(
    "batch,blocks,order,block",
    [
        (2, 4, 5, 16),
        (2, 4, 16, 16),
        (2, 4, 20, 16),
        (1, 3, 10, 128),
        (1, 3, 100, 96),
        (1, 2, 3, 67),
        (BLOCKS_AT_ONCE + 1, 3, 3, 4),
    ],
)
@pytest.mark.parametrize("with_history", [True, False])
def test_both_directions_equal_plain_loops(batch, blocks, order, block, with_history):
    predictor = any_predictor(batch, blocks, order, block)
    x = random_tensor(batch, block * blocks, seed=3)
    history = random_tensor(batch, order, seed=4) if with_history else None
    expected_error, expected_x = plain_loops(x, predictor, history)
    error = prediction_error(x, predictor, history)
    torch.testing.assert_close(error, expected_error, rtol=0, atol=1e-10)
    torch.testing.assert_close(all_pole(x, predictor, history), expected_x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("blocks,order,block", [(3, 4, 8), (3, 12, 8), (2, 70, 128)])
def test_gradients_of_the_recursion(blocks, order, block):
    a, log_gain, _ = any_predictor(2, blocks, order, block)
    e, history = random_tensor(2, blocks * block, seed=3), random_tensor(2, order, seed=4)

    def recursion(e, a, log_gain, history):
        return all_pole(e, Predictor(a, log_gain, block), history)

    inputs = [tensor.requires_grad_() for tensor in (e, a, log_gain, history)]
    assert torch.autograd.gradcheck(recursion, inputs, fast_mode=True)


def test_filter_blocks_equals_unfold_and_multiply():
    spans, taps = random_tensor(2, 3, 21), random_tensor(2, 3, 6, seed=1)
    expected = (spans.unfold(-1, 6, 1) * taps[:, :, None]).sum(-1)
    torch.testing.assert_close(filter_blocks(spans, taps), expected, rtol=0, atol=1e-12)


def test_all_pole_goes_on_from_portion_to_portion():
    """Longer than what is computed at once."""
    frames = 2 * BLOCKS_AT_ONCE + 5
    flow = EnvelopeFlow(MelPredictor(tiny_features(), 6, updates_per_frame=1))
    context = EnvelopeContext(0.2 * log_mel(frames, 1))
    x = random_tensor(1, 1, frames * HOP)
    e, _ = flow(x, context)
    torch.testing.assert_close(flow.inverse(e, context), x, rtol=0, atol=1e-8)


def test_all_pole_equals_torchlpc():
    torchlpc = pytest.importorskip("torchlpc")
    predictor = MelPredictor(tiny_features(), 12)(log_mel())
    e = random_tensor(2, FRAMES * HOP)
    dense = predictor.coefficients.repeat_interleave(predictor.block, dim=1)
    gain = predictor.log_gain.exp().repeat_interleave(predictor.block, dim=1)
    expected = torchlpc.sample_wise_lpc(gain * e, dense)
    torch.testing.assert_close(all_pole(e, predictor), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("order,updates", [(5, 1), (20, 2), (40, 4)])
def test_segment_with_history_is_the_crop_of_the_utterance(order, updates):
    flow = EnvelopeFlow(MelPredictor(tiny_features(), order, updates_per_frame=updates))
    mel, x = log_mel(13, 1), random_tensor(1, 1, 12 * HOP)
    whole, _ = flow(x, EnvelopeContext(mel))
    log_gain = flow.predictor(mel).log_gain.repeat_interleave(HOP // updates, dim=1)
    for first, count in ((0, 4), (5, 3), (8, 4)):
        start, end = first * HOP, (first + count) * HOP
        history = torch.nn.functional.pad(x[:, 0, :start], (order, 0))[:, -order:]
        # With the frame that follows, to which the last predictors are interpolated.
        context = EnvelopeContext(mel[..., first : first + count + 1], history)
        e, logdet = flow(x[..., start:end], context)
        torch.testing.assert_close(e, whole[..., start:end], rtol=0, atol=1e-9)
        torch.testing.assert_close(logdet, -log_gain[:, start:end].sum(1), rtol=0, atol=1e-9)
        back = flow.inverse(e, context)
        torch.testing.assert_close(back, x[..., start:end], rtol=0, atol=1e-9)


def test_gradients():
    flow, x, context = flow_case(4, 2, history=True)
    mel = context.log_mel[:1, :, :2].clone().requires_grad_()
    x, history = x[:1, :, : 2 * HOP], context.history[:1]

    def forward(mel, x):
        return flow(x, EnvelopeContext(mel, history))

    def inverse(mel, e):
        return flow.inverse(e, EnvelopeContext(mel, history))

    assert torch.autograd.gradcheck(forward, (mel, x.requires_grad_()), fast_mode=True)
    assert torch.autograd.gradcheck(inverse, (mel, x), fast_mode=True)


def synthetic_speech(seconds=3.0, seed=0):
    """Noise with two formants and a floor 35 dB below them, at the loudness of speech."""
    rate, denominator = 22050, np.array([1.0])
    for hz, width in ((500, 200), (1800, 400)):
        radius = math.exp(-math.pi * width / rate)
        pole = [1, -2 * radius * math.cos(2 * math.pi * hz / rate), radius**2]
        denominator = np.convolve(denominator, pole)
    noise = np.random.default_rng(seed).standard_normal((2, int(seconds * rate)))
    wav = scipy.signal.lfilter([1.0], denominator, noise[0])
    wav = 0.05 * (wav / wav.std() + 0.1 * noise[1])
    return torch.from_numpy(wav)[None, : int(seconds * rate) // 256 * 256]


def test_whitens_noise_of_known_envelope():
    """The mean magnitude of noise is sqrt(pi) / 2 of its root mean square: -1.05 dB. Up to the
    last band, that is; what is above is not in the mel."""
    wav, features = synthetic_speech(), LogMel()
    mel = features(wav)
    steady = mel.exp().mean(-1, keepdim=True).log().expand_as(mel)
    flow = EnvelopeFlow(MelPredictor(features, order=64, gain_db=1.05))
    e = flow(wav[:, None], EnvelopeContext(steady))[0][0, 0]
    assert e.var().item() == pytest.approx(1.0, abs=0.03)
    for signal, flattest, steepest in ((e, 0.0, 1.0), (wav[0], 20.0, 40.0)):
        hz, power = scipy.signal.welch(signal.numpy(), 22050, nperseg=512)
        bands = [10 * math.log10(p.mean()) for p in np.split(power[4:180], 16)]
        assert flattest <= max(bands) - min(bands) <= steepest


def test_whitens_noise_by_its_own_mel():
    wav, features = synthetic_speech(), LogMel()
    flow = EnvelopeFlow(MelPredictor(features))
    e = flow(wav[:, None], EnvelopeContext(features(wav)))[0]
    assert e.var().item() == pytest.approx(1.0, abs=0.25)


def test_a_copy_at_half_loudness_has_the_same_error():
    wav, features = synthetic_speech(0.3), LogMel()
    flow = EnvelopeFlow(MelPredictor(features, order=24))
    e, logdet = flow(wav[:, None], EnvelopeContext(features(wav)))
    quiet_e, quiet_logdet = flow(wav[:, None] / 2, EnvelopeContext(features(wav / 2)))
    torch.testing.assert_close(quiet_e, e, rtol=1e-4, atol=1e-4)
    expected = wav.shape[1] * math.log(2)
    assert (quiet_logdet - logdet).item() == pytest.approx(expected, rel=1e-5)


def test_silence_is_finite():
    features = LogMel()
    wav = torch.zeros(1, 2048, requires_grad=True)
    flow = EnvelopeFlow(MelPredictor(features))
    mel = features(wav).detach().requires_grad_()
    assert mel.unique().tolist() == pytest.approx([math.log(1e-5)])
    e, logdet = flow(wav[:, None], EnvelopeContext(mel))
    assert torch.equal(e, torch.zeros_like(e)) and torch.isfinite(logdet).all()
    (e.square().sum() - logdet.sum()).backward()
    assert torch.isfinite(mel.grad).all() and torch.isfinite(wav.grad).all()
    noise = flow.inverse(torch.randn(1, 1, 2048), EnvelopeContext(mel))
    # Noise of unit variance comes out far below a step of 16 bits.
    assert noise.abs().max() < 1e-4


def test_long_recursion_in_fp32_stays_exact():
    wav, features = synthetic_speech(2.0).float(), LogMel()
    flow = EnvelopeFlow(MelPredictor(features))
    context = EnvelopeContext(features(wav))
    e, _ = flow(wav[:, None], context)
    assert e.dtype == torch.float32
    torch.testing.assert_close(flow.inverse(e, context), wav[:, None], rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", ["half", "float", "bfloat16", "double", "to"])
def test_conversions_keep_the_fp64_buffers(change):
    predictor = MelPredictor(tiny_features(), order=6, lag_window_hz=40.0)
    before = {name: value.clone() for name, value in predictor.named_buffers()}
    holder = torch.nn.Sequential(predictor)
    holder.to(torch.float16) if change == "to" else getattr(holder, change)()
    after = dict(predictor.named_buffers())
    assert set(after) == {"interpolation", "offset", "lag_window"}
    for name, value in after.items():
        assert value.dtype == torch.float64
        assert torch.equal(value, before[name]), f"{name} was rounded on the way"


def test_has_nothing_to_save():
    flow = EnvelopeFlow(MelPredictor(tiny_features(), 4))
    assert not flow.state_dict() and not list(flow.parameters())


def test_bad_options():
    with pytest.raises(UserError, match="updates_per_frame"):
        MelPredictor(tiny_features(), 4, updates_per_frame=3)
    with pytest.raises(UserError, match="order"):
        MelPredictor(tiny_features(), 0)
