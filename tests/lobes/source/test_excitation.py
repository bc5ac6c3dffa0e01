"""Flows that see pulses: exact likelihood, and items as they are alone."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners import MelConditioner
from waveglow_vq.lobes.flows.transforms import unsqueeze
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.source.excitation import excited, swapped
from waveglow_vq.utils.masking import fill_padding, shares

import pytest
import torch

FEATURES = LogMel()
HOP = 256


class Reader:
    """Half of the frames are voiced."""

    receptive_field = 3

    def __call__(self, log_mel):
        count = torch.arange(log_mel.shape[-1]).expand(len(log_mel), -1)
        return 110 + 5 * log_mel.mean(1).sin(), (count % 8 < 4).float()


@pytest.fixture(params=["frame", "group", "sample"])
def model(request, monkeypatch):
    monkeypatch.setattr("waveglow_vq.lobes.model.shipped_reader", lambda device: Reader())
    torch.manual_seed(0)
    flows = WaveGlow(
        FEATURES, 8, flows=3, layers=2, channels=4, early_every=2, envelope={"order": 8},
        condition_geometry=request.param, excitation=True
    )  # fmt: skip
    model = WaveGlowVQ(MelConditioner(FEATURES, channels=8), flows).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # what starts at zero does something
            parameter += 0.1 * torch.randn_like(parameter)
    return model.double()


def voice(items, frames):
    time = torch.arange(frames * HOP, dtype=torch.float64) / 22050
    hertz = torch.tensor([[111.0], [140.0]], dtype=torch.float64)[:items]
    wav = sum(torch.cos(2 * torch.pi * k * hertz * time) / k for k in range(1, 9))
    return 0.05 * wav + 0.001 * torch.randn(wav.shape, dtype=torch.float64)


def log_mel_of(wav):
    return FEATURES(wav.float()).double()


def test_round_trip_and_jacobian(model):
    """In fp64; the logarithm of the determinant against automatic differentiation."""
    wav = voice(1, 3)
    condition = model.condition(log_mel_of(wav))
    given = model.excited(condition, wav=wav)
    assert model.vocoder._flow_context(given.local, None, None, 3 * HOP).source.abs().max() > 1

    def to_noise(wav):
        return unsqueeze(model.vocoder(wav, given.local, given.log_mel)[0])

    z, logdet = model.vocoder(wav, given.local, given.log_mel)
    back = model.vocoder.inverse(z, given.local, given.log_mel)
    torch.testing.assert_close(back, wav, rtol=0, atol=1e-9)
    jacobian = torch.autograd.functional.jacobian(to_noise, wav)[0, :, 0]
    assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(float(logdet), abs=1e-6)


def test_the_flows_see_the_source(model):
    wav = voice(1, 12)
    condition = model.condition(log_mel_of(wav))
    given = model.excited(condition, wav=wav)
    other = given.local.clone()
    other[:, -1] += 0.5
    z, _ = model.vocoder(wav, given.local, given.log_mel)
    changed = (model.vocoder(wav, other, given.log_mel)[0] - z).abs().amax(1)[0]
    # Where it is voiced, and as far around as the layers see.
    assert (changed > 1e-3).any()
    assert not changed[6 * 32 : 7 * 32 - model.vocoder.steps.receptive_field].any()


def test_items_are_what_they_are_alone(model):
    # The shorter one ends on a voiced frame, behind which the reader finds none.
    wav, counts = voice(2, 20), torch.tensor([20, 11])
    wav = fill_padding(wav, counts * HOP, 3.0)  # what is padded is not looked at
    log_mel = torch.zeros(2, 80, 21, dtype=torch.float64)
    for item, count in enumerate(counts):
        own = log_mel_of(wav[item : item + 1, : count * HOP])
        log_mel[item, :, : count + 1] = own[0]
    lengths = shares(counts + 1, 21)
    condition = model.condition(log_mel, lengths)
    drawn = model.sample(condition, lengths, generator=0)
    z, logdet, _ = model.to_noise(
        wav, log_mel, condition, wav_lens=shares(counts, 20), mel_lens=lengths
    )
    for item, count in enumerate(counts.tolist()):
        own_wav = wav[item : item + 1, : count * HOP]
        own = model.condition(log_mel[item : item + 1, :, : count + 1])
        alone = model.sample(own, generator=0)[0]
        torch.testing.assert_close(drawn[item, : len(alone)], alone, rtol=0, atol=1e-5)
        own_z, own_logdet, _ = model.to_noise(own_wav, log_mel_of(own_wav), own)
        torch.testing.assert_close(z[item, :, : count * 32], own_z[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(logdet[item], own_logdet[0], rtol=0, atol=1e-4)


def test_segments_take_their_part(model):
    """The phase of a recording is that of each of its segments, but for their ends."""
    wav = voice(2, 40)
    condition = model.condition(log_mel_of(wav))
    whole = excited(condition, model.vocoder, Reader(), wav=wav).local
    starts = torch.tensor([5, 17])
    place = starts[:, None] * HOP + torch.arange(12 * HOP)
    part = excited(
        condition, model.vocoder, Reader(), wav=wav.gather(1, place), starts=starts
    ).local
    for item, start in enumerate(starts.tolist()):
        torch.testing.assert_close(
            part[item, :, 2:-3], whole[item, :, start + 2 : start + 10], rtol=0, atol=1e-4
        )


def test_a_swap_to_the_same_pitch_is_the_way_back(model):
    wav = voice(2, 20)
    condition = model.condition(log_mel_of(wav))
    there, integrals = model.excited(condition, wav=wav), model.excited(condition)
    back = swapped(there, integrals, integrals)
    # Rounding may put a whole phase to either side.
    off = (back.local - there.local)[:, -1]
    assert float((off - off.round()).abs().max()) < 1e-6
    assert torch.equal(back.local[:, :-1], there.local[:, :-1])


def test_pitch_has_to_be_known():
    features = LogMel(n_mels=40)
    flows = WaveGlow(features, 8, flows=1, layers=1, channels=4, excitation=True)
    with pytest.raises(UserError, match="excitation: pitch is only read off log-mels of"):
        WaveGlowVQ(MelConditioner(features, channels=8), flows)
