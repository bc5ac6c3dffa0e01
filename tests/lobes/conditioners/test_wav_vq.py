from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer

import pytest
import torch

from tests.lobes.conditioners.conditioner_base import (
    HOP,
    assert_items_equal_themselves_alone,
    ready,
    same,
)
from tests.lobes.flows.transform_base import random_tensor, tiny_features


def wave_vq(strides=(2, 4), quantizer=SoftEMQuantizer, **options):
    torch.manual_seed(0)
    quantizer = quantizer(12, 6, initialization="normal")
    options = {"channels": 10, "mel_head": True, **options}
    return ready(WaveVQConditioner(tiny_features(), quantizer, strides, **options))


@pytest.mark.parametrize("strides", [(2, 4), (8,), (2, 2, 2), (4, 4), (1, 2)])
@pytest.mark.parametrize("speaker_channels", [0, 3])
def test_item_of_a_padded_batch_equals_itself_alone(strides, speaker_channels):
    conditioner = wave_vq(strides, speaker_channels=speaker_channels)
    hop = conditioner.hop
    items = [random_tensor(1, frames * HOP, seed=frames) for frames in (9, 4, 7)]
    who = {"speaker": random_tensor(3, 3, seed=1)} if speaker_channels else None
    both = assert_items_equal_themselves_alone(
        conditioner, items, lambda x: x.shape[-1] // hop, lambda x: x.shape[-1] // hop, who
    )
    assert both.hop == hop == conditioner.samples_per_code
    assert both.local.shape == (3, 10, 9 * HOP // hop) and both.log_mel.shape == (3, 8, 9)


@pytest.mark.parametrize("mel_head", [True, False])
@pytest.mark.parametrize("speaker_channels", [0, 3])
def test_codes_decode_to_the_condition_of_forward(mel_head, speaker_channels):
    conditioner = wave_vq(mel_head=mel_head, speaker_channels=speaker_channels)
    wav, lengths = random_tensor(2, 6 * HOP), torch.tensor([1.0, 0.5])
    who = {"speaker": random_tensor(2, 3, seed=1)} if speaker_channels else {}
    for these in (None, lengths):
        condition = conditioner(wav, these, **who)
        codes = conditioner.encode(wav, these)
        assert torch.equal(codes, condition.quantized.indices)
        decoded = conditioner.decode(codes, **who)
        same(decoded.local, condition.local)
        assert (decoded.log_mel is None) is (condition.log_mel is None) is (not mel_head)
        if mel_head:
            same(decoded.log_mel, condition.log_mel)


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
