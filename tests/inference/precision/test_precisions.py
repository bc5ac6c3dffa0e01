"""A padded item is what it is alone, in every precision and beyond what half precision counts."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.inference import WaveGlowVocoder
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ

import pytest
import torch

HOP, FRAMES, OWN = 64, 267, 259


@pytest.fixture(scope="module")
def parts():
    """The smallest of models."""
    features = LogMel(hop_length=HOP, n_fft=256, win_length=256, n_mels=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conditioner = MelConditioner(features, channels=4, layers=1)
        flows = WaveGlow(features, 4, flows=1, layers=1, channels=4, envelope={"order": 4})
        for parameter in flows.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return {"model": WaveGlowVQ(conditioner, flows), "features": features}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_odd_lengths(parts, precision, dtype):
    run_opts = {"device": "cpu", "precision": precision}
    vocoder = WaveGlowVocoder(modules=parts, hparams={}, run_opts=run_opts)
    vocoder.prepare_inference(dtype)
    mel = torch.randn(2, 8, FRAMES, generator=torch.Generator().manual_seed(1)) - 5
    batch = vocoder.decode_batch(mel, torch.tensor([FRAMES, OWN]), generator=3)
    alone = vocoder.decode_spectrogram(mel[1, :, :OWN], generator=3)
    own = OWN * HOP
    torch.testing.assert_close(batch[1, :, :own], alone, atol=1e-4, rtol=1e-4)
    assert not batch[1, :, own:].any()
    assert alone[0, -HOP:].abs().max() > 1e-3  # what would be missing


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lengths_that_cannot_be_told_apart(parts, dtype):
    vocoder = WaveGlowVocoder(modules=parts, hparams={}, run_opts={"device": "cpu"})
    lengths = torch.tensor([FRAMES, OWN]).to(dtype)
    with pytest.raises(UserError, match="mel_lens: b?float16 cannot tell 267 lengths apart"):
        vocoder.decode_batch(torch.zeros(2, 8, FRAMES), lengths)
