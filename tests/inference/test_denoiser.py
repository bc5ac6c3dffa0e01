import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.inference.denoiser import HOP, MARGIN, bias_magnitude, denoise, magnitudes
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ

import pytest
import torch

from tests.inference.exports import voiced_speech_like

# What a WaveGlow with groups of 8 samples leaves: two lines of the multiples of an eighth.
PERIOD = torch.tensor([3.0, -1.0, 0.5, 1.0, -3.0, -1.0, 0.5, 0.0], dtype=torch.float64) / 100


def tone(samples):
    return PERIOD.repeat(samples // 8 + 1)[None, :samples]


BIAS = magnitudes(tone(1024))[0]


def speech(samples, seed=0):
    return voiced_speech_like(samples, seed=seed).double()[None]


def white_vocoder(tone_of_couplings=0.0, speakers=None, **options):
    """A vocoder whose coupling networks add a tone, and do nothing else."""
    torch.manual_seed(0)
    features = LogMel()
    flows = WaveGlow(
        features,
        16,
        flows=3,
        layers=2,
        channels=8,
        early_every=2,
        speaker_channels=4 if speakers else 0,
        **({"prior": "white"} | options),
    )
    for step in flows.steps:
        shift = step.coupling.network.end.bias
        shift.data[: len(shift) // 2] = tone_of_couplings * torch.randn(len(shift) // 2)
    return WaveGlowVQ(MelConditioner(features, channels=16), flows, speakers=speakers).eval()


def test_a_strength_of_zero_changes_nothing():
    wav = speech(3000)
    assert torch.equal(denoise(wav, BIAS, 0.0), wav)


@pytest.mark.parametrize("samples", [1, 100, 256, 700, 1024, 5000])
@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_without_a_bias_speech_comes_back(samples, dtype, tolerance):
    wav = speech(6000)[:, -samples:].to(dtype)
    result = denoise(wav, torch.zeros(513), 0.1)
    assert result.dtype == dtype
    torch.testing.assert_close(result, wav, rtol=0, atol=tolerance)


def test_half_precision_becomes_fp32():
    assert denoise(speech(1000).half(), BIAS, 0.1).dtype == torch.float32


@pytest.mark.parametrize("strength", [0.01, 0.1, 0.5])
def test_a_tone_falls_by_the_strength(strength):
    rest = denoise(tone(8192), BIAS, strength)[0, MARGIN:-MARGIN]
    expected = (1 - strength) * tone(8192)[0, MARGIN:-MARGIN]
    torch.testing.assert_close(rest, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_a_tone_vanishes_and_never_turns_over(strength):
    rest = denoise(tone(8192), BIAS, strength)[0, MARGIN:-MARGIN]
    assert rest.abs().max() < 1e-15


def test_the_tone_behind_speech_falls_and_the_speech_stays():
    clean = 10 * speech(22050)
    for strength in (0.01, 0.1, 1.0):
        noisy = clean + tone(22050)
        result = denoise(noisy, BIAS, strength)
        # The line at an eighth of the rate, where this speech has next to nothing.
        lines = [
            magnitudes(x[0, 1024:-1024].unfold(0, 1024, 256))[:, 128].mean()
            for x in (result, noisy)
        ]
        assert (lines[0] / lines[1]).item() == pytest.approx(1 - strength, abs=0.05)
        change = (denoise(clean, BIAS, strength) - clean).square().mean() / clean.square().mean()
        # -20 dB would be all of a tone that is 20 dB below the speech.
        assert 10 * math.log10(change) < 20 * math.log10(strength) - 20


def published(wav, bias, strength):
    """As published: reflected at the ends, transforms by hand."""
    window = torch.hann_window(1024, dtype=wav.dtype)
    padded = torch.nn.functional.pad(wav[:, None], (512, 512), mode="reflect")[:, 0]
    frames = padded.unfold(-1, 1024, 256) * window
    spectrum = torch.fft.rfft(frames)
    kept = (spectrum.abs() - strength * bias).clamp_min(0)
    frames = torch.fft.irfft(torch.polar(kept, spectrum.angle())) * window
    result, weight = torch.zeros_like(padded), torch.zeros_like(padded)
    for i in range(frames.shape[1]):
        result[:, i * 256 : i * 256 + 1024] += frames[:, i]
        weight[:, i * 256 : i * 256 + 1024] += window.square()
    return (result / weight.clamp_min(1e-8))[:, 512:-512]


def test_equals_the_published_denoiser_away_from_the_ends():
    wav = speech(5120)
    expected = published(wav, BIAS, 0.3)
    result = denoise(wav, BIAS, 0.3)
    inner = slice(MARGIN, -MARGIN)
    torch.testing.assert_close(result[:, inner], expected[:, inner], rtol=0, atol=1e-12)


@pytest.mark.parametrize("first,last", [(0, 6), (4, 5), (7, 19), (16, 22)])
def test_a_slice_with_its_margin_gives_what_the_whole_gives(first, last):
    """Frames ``first`` to ``last`` of 22 and a half."""
    wav = speech(22 * HOP + 100)
    total = wav.shape[-1]
    whole = denoise(wav, BIAS, 0.3)
    start, end = first * HOP, total if last == 22 else last * HOP
    begin = max(0, start - MARGIN)
    piece = denoise(wav[:, begin : end + MARGIN], BIAS, 0.3)[:, start - begin : end - begin]
    torch.testing.assert_close(piece, whole[:, start:end], rtol=0, atol=1e-14)


def test_the_margin_is_needed_up_to_its_last_sample():
    """Not larger than it must be: a change 1023 samples away is seen."""
    wav = speech(6 * HOP + MARGIN)
    changed = wav.clone()
    changed[:, 5 * HOP + MARGIN - 1] += 1
    differs = (denoise(changed, BIAS, 0.3) - denoise(wav, BIAS, 0.3))[0].abs() > 1e-12
    assert not differs[: 5 * HOP].any() and differs[5 * HOP : 5 * HOP + HOP].any()


@pytest.mark.parametrize("samples", [256, 1000, 3 * 256])
def test_padding_with_zeros_does_not_matter(samples):
    wavs = torch.cat([speech(2560), speech(2560, seed=1)])
    wavs[1, samples:] = 0
    alone = denoise(wavs[1:, :samples], BIAS, 0.3)
    torch.testing.assert_close(denoise(wavs, BIAS, 0.3)[1:, :samples], alone, rtol=0, atol=1e-14)


def test_silence_stays_silence():
    assert torch.equal(denoise(torch.zeros(2, 3000), BIAS, 0.1), torch.zeros(2, 3000))


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_refuses_strengths_that_make_no_sense(strength):
    with pytest.raises(UserError, match="denoise"):
        denoise(speech(1000), BIAS, strength)


@pytest.mark.parametrize(
    "options", [{}, {"condition_geometry": "sample"}, {"prior": "envelope"}], ids=str
)
def test_the_tone_of_a_model(options):
    """Without noise the model says nothing but its tone, and the denoiser takes all of it."""
    model = white_vocoder(0.05, **options)
    for step in model.vocoder.steps:
        # Couplings that listen to the condition too.
        step.coupling.network.end.weight.data.normal_(0, 0.01)
    bias = bias_magnitude(model)
    assert bias.shape == (513,) and not bias.requires_grad
    local = model.conditioner(torch.zeros(1, 80, 30)).local
    wav = model.vocoder.inverse_flows(torch.zeros(1, 8, 30 * 32), local).detach()
    inner = slice(8 * 256, -8 * 256)
    assert wav[:, inner].std() > 0.01
    for strength in (0.1, 0.5):
        rest = denoise(wav, bias, strength)[:, inner]
        torch.testing.assert_close(rest, (1 - strength) * wav[:, inner], rtol=0, atol=1e-5)
    assert denoise(wav, bias, 1.001)[:, inner].abs().max() < 1e-5


def test_the_tone_of_a_model_that_is_a_flat_line():
    """One whose couplings have learned nothing is silent without noise."""
    assert bias_magnitude(white_vocoder()).max() == 0


def test_refuses_models_with_speakers():
    with pytest.raises(UserError, match="speakers"):
        bias_magnitude(white_vocoder(speakers=SpeakerCondition(3, 4)))


def test_refuses_models_with_codes(codec):
    with pytest.raises(UserError, match="codes"):
        bias_magnitude(codec.mods.model)
