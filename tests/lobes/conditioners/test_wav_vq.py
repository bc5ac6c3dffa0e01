from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer

import pytest
import torch

from tests.lobes.conditioners.conditioner_base import (
    HOP,
    ConditionerContract,
    ready,
)
from tests.lobes.flows.transform_base import random_tensor, tiny_features


def wave_vq(strides=(2, 4), quantizer=SoftEMQuantizer, **options):
    torch.manual_seed(0)
    quantizer = quantizer(12, 6, initialization="normal")
    options = {"channels": 10, "mel_head": True, **options}
    return ready(WaveVQConditioner(tiny_features(), quantizer, strides, **options))


class TestWaveVQ(ConditionerContract):
    cases = {
        f"{strides}, {options}": (
            lambda strides=strides, options=options: (
                wave_vq(strides, **options),
                options.get("speaker_channels", 0),
            )
        )
        for strides in [(2, 4), (8,), (2, 2, 2), (4, 4), (1, 2)]
        for options in ({}, {"speaker_channels": 3}, {"mel_head": False})
    }


def test_another_speaker_has_the_same_codes_and_another_condition():
    conditioner, wav = wave_vq(speaker_channels=3), random_tensor(1, 6 * HOP)
    one, other = (conditioner(wav, speaker=random_tensor(1, 3, seed=s)) for s in (1, 2))
    assert torch.equal(one.quantized.indices, other.quantized.indices)
    assert (one.local - other.local).abs().max() > 0.01
    assert (one.log_mel - other.log_mel).abs().max() > 0.01


@pytest.mark.parametrize("quantizer", [SoftEMQuantizer, EMAQuantizer])
@pytest.mark.parametrize("speaker_channels", [0, 3])
def test_gradient_reaches_encoder_and_decoder_through_the_codes(quantizer, speaker_channels):
    conditioner = wave_vq(quantizer=quantizer, speaker_channels=speaker_channels).train()
    speaker = random_tensor(1, 3, seed=1) if speaker_channels else None
    condition = conditioner(random_tensor(1, 4 * HOP), speaker=speaker)
    (condition.local.sum() + condition.log_mel.sum()).backward()
    for name, parameter in conditioner.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_without_speakers_it_has_the_parameters_of_the_published_setting():
    """So that models trained before there were speakers can be loaded."""
    names = {name.rsplit(".", 1)[0] for name, _ in wave_vq(layers=1).named_parameters()}
    stacks = ("stacks.0", "stacks.1", "stack")
    blocks = [f"{stack}.{layer}.0" for stack in stacks for layer in ("wide", "narrow")]
    assert names == {"down.0", "down.1", "to_code", "quantizer", "from_code", "mel_head", *blocks}


def test_bad_options():
    with pytest.raises(UserError, match="strides: their product 12 does not divide the hop of 16"):
        wave_vq((3, 4))
