"""Samples of segments with gradients, on a tiny model."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.lobes.conditioners import MelConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.training.samples.drawing import draw_samples
from waveglow_vq.training.samples.sample_losses import SampleLosses
from waveglow_vq.utils.masking import shares

import pytest
import torch

FEATURES = LogMel()


@pytest.fixture
def model():
    vocoder = WaveGlow(FEATURES, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    model = WaveGlowVQ(MelConditioner(FEATURES, channels=16), vocoder).train()
    with torch.no_grad():
        # A new coupling network gives zeros, whatever it is given.
        for parameter in model.parameters():
            parameter += 0.03 * torch.randn(parameter.shape)
    return model


def segments(frames=16, starts=(0, 20, 31)):
    """Of utterances of 48 frames; the segments begin, lie within and end with theirs."""
    time = torch.arange(48 * 256) / 22050
    pitch = torch.tensor([110.0, 180.0, 240.0])[:, None]
    whole = sum(torch.sin(2 * torch.pi * k * pitch * time) / k for k in range(1, 12)) / 20
    whole = whole + 0.001 * torch.randn(whole.shape)
    mel = FEATURES(whole)[..., :48]
    starts = torch.tensor(starts)
    place = starts[:, None] * 256 + torch.arange(frames * 256)
    return {"wav": whole.gather(1, place), "mel": mel, "starts": starts}


def test_the_margin_is_drawn_within_the_utterance(model):
    inputs, seen = segments(), []
    model.vocoder.inverse = lambda z, local, log_mel, *rest: seen.append(log_mel) or z.flatten(1)
    draw_samples(model, FEATURES, inputs, margin=4)
    for item, begin in enumerate([0, 16, 23]):
        assert torch.equal(seen[0][item], inputs["mel"][item, :, begin : begin + 25])


def test_the_margin_is_cut_off_where_it_was_added(model):
    inputs = segments()
    model.vocoder.inverse = lambda z, *rest: torch.arange(float(z[0].numel())).expand(len(z), -1)
    drawn = draw_samples(model, FEATURES, inputs, margin=4)
    assert (drawn[:, 0] / 256).tolist() == [0, 4, 8]


@pytest.mark.parametrize("iterations", [0, 3])
def test_the_gradient_is_that_of_finite_differences(model, iterations):
    inputs = segments()
    losses = SampleLosses(22050)

    def loss():
        sound = draw_samples(model, FEATURES, inputs, 0.8, iterations, 4, generator=0)
        return sum(losses(sound, inputs["wav"]).values())

    loss().backward()
    parameters = list(model.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    size = torch.stack([p.grad.norm() for p in parameters]).norm()
    step = 0.003 / size**2
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            for parameter in parameters:
                parameter += sign * step * parameter.grad
            ends.append(float(loss()))
            for parameter in parameters:
                parameter -= sign * step * parameter.grad
    assert (ends[0] - ends[1]) / 2 == pytest.approx(0.003, rel=0.1)


def test_steps_lower_the_loss_of_samples(model):
    inputs, losses = segments(), SampleLosses(22050)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    seen = []
    for _ in range(12):
        sound = draw_samples(model, FEATURES, inputs, 0.8, 3, 4, generator=0)
        loss = sum(losses(sound, inputs["wav"]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.97 * seen[0]


def test_an_utterance_is_the_same_in_a_batch(model):
    model.eval()
    inputs = segments(40, (0, 0, 0))
    inputs.pop("starts")
    inputs["mel"] = inputs["mel"][..., :41]
    alone = draw_samples(model, FEATURES, inputs, 0.8, 3, generator=0)
    counts = torch.tensor([40, 30, 40])
    inputs["wav_lens"], inputs["mel_lens"] = shares(counts, 40), shares(counts + 1, 41)
    together = draw_samples(model, FEATURES, inputs, 0.8, 3, generator=0)
    assert torch.allclose(alone[0], together[0], atol=1e-6)
    assert together[1, 30 * 256 :].abs().max() == 0


def test_pulses_have_the_phase_of_the_recording():
    """Drawn without noise, and with weights that only let pulses pass, they lie where they do on
    the way to noise."""
    torch.manual_seed(0)
    flows = {"flows": 1, "layers": 1, "channels": 8, "early_every": 0, "prior": "white"}
    vocoder = WaveGlow(FEATURES, 16, excitation=True, **flows)
    model = WaveGlowVQ(MelConditioner(FEATURES, channels=16), vocoder).train()
    inputs, seen = segments(), []
    inverse = model.vocoder.inverse
    model.vocoder.inverse = lambda z, local, *rest: seen.append(local) or inverse(z, local, *rest)
    draw_samples(model, FEATURES, inputs, margin=4)
    condition = model.condition(inputs["mel"])
    there = model.excited(condition, None, inputs["wav"], inputs["starts"]).local
    for item, begin in enumerate([4 - 4, 4, 8]):
        drawn = seen[0][item, :, begin : begin + 16]
        off = drawn[-1] - there[item, -1, :16]
        assert (off - off.round()).abs().max() < 1e-5
        torch.testing.assert_close(drawn[:-1], there[item, :-1, :16])
    # And goes on as F0 says on either side.
    hertz, phase = seen[0][1, -3], seen[0][1, -1]
    steps = (hertz[:-1] + hertz[1:]) / 2 * 256 / 22050
    off = (phase[1:] - phase[:-1] - steps)[[0, 1, 2, 21, 22, 23]]
    assert (off - off.round()).abs().max() < 0.01
