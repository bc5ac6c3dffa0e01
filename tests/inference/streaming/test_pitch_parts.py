"""Streams of flows that see pulses equal the whole."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.inference.streaming.pitch_parts import excited_parts, followed_parts, swapped_parts
from waveglow_vq.inference.streaming.refining import refine_look_ahead
from waveglow_vq.inference.streaming.waveform import stream_noise, stream_waveform
from waveglow_vq.lobes.conditioners import MelConditioner
from waveglow_vq.lobes.flows.transforms import unsqueeze
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.source.excitation import swapped

import pytest
import torch

from tests.inference.exports import speech_like

FEATURES = LogMel()
HOP, FRAMES = 256, 90


@pytest.fixture(scope="module", params=["read", "given"])
def model(request):
    torch.manual_seed(0)
    flows = WaveGlow(
        FEATURES, 8, flows=3, layers=5, channels=4, envelope={"order": 8}, excitation=True
    )
    model = WaveGlowVQ(MelConditioner(FEATURES, channels=8), flows).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.conditioner.pitch = object() if request.param == "given" else None
    return model


@pytest.fixture(scope="module")
def wav():
    return speech_like(FRAMES * HOP)[None]


@pytest.fixture
def condition(model, wav):
    log_mel = FEATURES(wav)
    time = torch.arange(log_mel.shape[-1])[None]
    f0 = (90 + 20 * torch.sin(time / 7)) * (torch.sin(time / 5) > -0.3)
    with torch.no_grad():
        return MelConditioner.forward(model.conditioner, log_mel)._replace(f0=f0)


def parts_of(condition, frames):
    pieces = zip(
        condition.local.split(frames, -1),
        condition.log_mel.split(frames, -1),
        condition.f0.split(frames, -1),
        strict=True,
    )
    return [condition._replace(local=a, log_mel=b, f0=c) for a, b, c in pieces]


@pytest.mark.parametrize("sizes", [(1, 5), (7, 4), (200, 30)])
def test_streams_equal_the_whole(model, condition, wav, sizes):
    parts, chunk = parts_of(condition, sizes[0]), sizes[1]
    whole = model.sample(condition, generator=0)
    plain = model.vocoder.inverse(
        torch.zeros(1, 8, FRAMES * 32), model.excited(condition).local, condition.log_mel
    )
    assert plain.abs().max() > 0
    blocks = list(stream_waveform(model, parts, generator=0, chunk_frames=chunk))
    torch.testing.assert_close(torch.cat(blocks, 1), whole, rtol=0, atol=1e-5)
    there = model.excited(condition, wav=wav)
    z, _ = model.vocoder(wav, there.local, there.log_mel)
    noise = stream_noise(model, parts, wav.split(1000, 1), FRAMES, chunk_frames=chunk)
    torch.testing.assert_close(torch.cat(list(noise), 1), unsqueeze(z), rtol=0, atol=1e-3)


@pytest.mark.parametrize("frames", [1, 7, 200])
def test_swaps_equal_the_whole(model, condition, wav, frames):
    higher = condition._replace(f0=condition.f0 * 1.5)
    integrals = model.excited(condition), model.excited(higher)
    expected = swapped(model.excited(condition, wav=wav), *integrals).local
    followed = followed_parts(model, parts_of(condition, frames), wav.split(3000, 1))
    source, target = (excited_parts(model, parts_of(c, frames)) for c in (condition, higher))
    found = torch.cat([part.local for part in swapped_parts(followed, source, target)], dim=-1)
    torch.testing.assert_close(found[:, :-1], expected[:, :-1], rtol=1e-4, atol=1e-4)
    off = (found - expected)[:, -1, :FRAMES]
    assert float((off - off.round()).abs().max()) < 1e-4


def test_look_ahead(model, condition):
    """A chunk comes as soon as so many frames behind it are known."""
    taken = []
    parts = (taken.append(part) or part for part in parts_of(condition, 1))
    blocks = stream_waveform(model, parts, generator=0, chunk_frames=4)
    next(blocks)
    next(blocks)
    frames = refine_look_ahead(model, FEATURES, 0).frames
    assert len(taken) == 8 + frames
