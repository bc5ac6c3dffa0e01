from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners import (
    MelConditioner,
    ResidualStack,
    code_mask,
    frame_mask,
    relative_code_lengths,
)
from waveglow_vq.lobes.mel_vq import MelVQConditioner
from waveglow_vq.lobes.quantizers import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.lobes.wave_vq import WaveVQConditioner

import pytest
import torch

from tests.lobes.transform_base import random_tensor, randomised, tiny_features

HOP = 16


def mel_vq(stride, quantizer=SoftEMQuantizer, **options):
    quantizer = quantizer(12, 6, initialization="normal")
    conditioner = MelVQConditioner(tiny_features(), quantizer, stride, channels=10, **options)
    return ready(conditioner)


def wave_vq(strides=(2, 4), quantizer=SoftEMQuantizer, **options):
    quantizer = quantizer(12, 6, initialization="normal")
    options = {"channels": 10, "mel_head": True, **options}
    return ready(WaveVQConditioner(tiny_features(), quantizer, strides, **options))


def ready(conditioner):
    """With biases and codes that are not near zero, so that padding could be seen."""
    return randomised(conditioner, 0.1).eval()


def mels(frames, batch=1, seed=0):
    return 2 * random_tensor(batch, 8, frames, seed=seed) - 5


def same(found, expected, atol=1e-5):
    # The predicted log-mel is fp32 by contract.
    torch.testing.assert_close(found, expected, rtol=0, atol=atol, check_dtype=False)


def assert_items_equal_themselves_alone(conditioner, items, length_of, code_length_of):
    """The batch is padded with values that would be heard if they were used."""
    longest = max(item.shape[-1] for item in items)
    batch = torch.cat(
        [torch.nn.functional.pad(x, (0, longest - x.shape[-1]), value=3.0) for x in items]
    )
    lengths = torch.tensor([item.shape[-1] / longest for item in items])
    both = conditioner(batch, lengths)
    for b, item in enumerate(items):
        alone = conditioner(item)
        frames = length_of(item)
        assert alone.local.shape[-1] == frames
        same(both.local[b, :, :frames], alone.local[0])
        if alone.log_mel is not None:
            mel_frames = alone.log_mel.shape[-1]
            same(both.log_mel[b, :, :mel_frames], alone.log_mel[0])
        if alone.quantized is not None:
            codes = code_length_of(item)
            assert alone.quantized.indices.shape == (1, codes)
            # The codes hide small differences, the vectors before them do not.
            vectors = conditioner.encoder(batch, lengths)[b, :codes]
            same(vectors, conditioner.encoder(item)[0], atol=1e-12)
            indices = both.quantized.indices[b]
            assert torch.equal(indices[:codes], alone.quantized.indices[0])
            assert (indices[codes:] == -1).all()
            assert torch.equal(conditioner.encode(batch, lengths)[b], indices)
            same(both.quantized.quantized[b, :codes], alone.quantized.quantized[0])
    return both


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("quantizer", [SoftEMQuantizer, EMAQuantizer])
def test_mel_vq_item_of_a_padded_batch_equals_itself_alone(stride, quantizer):
    conditioner = mel_vq(stride, quantizer)
    items = [mels(frames, seed=frames) for frames in (13, 8, 11, 1)]
    both = assert_items_equal_themselves_alone(
        conditioner, items, lambda x: x.shape[-1], lambda x: -(-x.shape[-1] // stride)
    )
    assert both.local.shape == (4, 10, 13) and both.hop == HOP
    assert both.log_mel.shape == (4, 8, 13)
    assert both.quantized.indices.shape == (4, -(-13 // stride))


@pytest.mark.parametrize("strides", [(2, 4), (8,), (2, 2, 2), (4, 4), (1, 2)])
def test_wave_vq_item_of_a_padded_batch_equals_itself_alone(strides):
    conditioner = wave_vq(strides)
    hop = conditioner.hop
    items = [random_tensor(1, frames * HOP, seed=frames) for frames in (9, 4, 7)]
    both = assert_items_equal_themselves_alone(
        conditioner, items, lambda x: x.shape[-1] // hop, lambda x: x.shape[-1] // hop
    )
    assert both.hop == hop == conditioner.samples_per_code
    assert both.local.shape == (3, 10, 9 * HOP // hop) and both.log_mel.shape == (3, 8, 9)


@pytest.mark.parametrize("layers", [0, 2])
def test_mel_item_of_a_padded_batch_equals_itself_alone(layers):
    conditioner = ready(MelConditioner(tiny_features(), channels=10, layers=layers))
    items = [mels(frames, seed=frames) for frames in (9, 4, 7)]
    assert_items_equal_themselves_alone(conditioner, items, lambda x: x.shape[-1], None)


def test_mel_conditioner_without_layers_hands_the_mel_on():
    conditioner, mel = MelConditioner(tiny_features(), channels=10, layers=0), mels(5)
    condition = conditioner(mel)
    assert condition.local is mel and condition.log_mel is mel and condition.quantized is None
    assert conditioner.channels == 8 and condition.hop == HOP and not list(conditioner.parameters())


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("frames", [11, 12])
def test_mel_vq_codes_decode_to_the_condition_of_forward(stride, frames):
    conditioner, mel = mel_vq(stride), mels(frames, batch=2)
    condition = conditioner(mel)
    codes = conditioner.encode(mel)
    assert codes.dtype == torch.int64 and torch.equal(codes, condition.quantized.indices)
    decoded = conditioner.decode(codes, frames)
    same(decoded.local, condition.local)
    same(decoded.log_mel, condition.log_mel)
    assert decoded.hop == condition.hop and decoded.quantized is None
    assert conditioner.decode(codes).local.shape[-1] == codes.shape[1] * stride


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padded_mel_vq_codes_decode_like_each_alone(stride):
    conditioner = mel_vq(stride)
    codes = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, -1, -1]])
    both, alone = conditioner.decode(codes), conditioner.decode(codes[1:, :3])
    frames = 3 * stride
    same(both.local[1:, :, :frames], alone.local)
    same(both.log_mel[1:, :, :frames], alone.log_mel)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_ragged_mel_vq_codes_decode_to_the_condition_of_forward(stride):
    """Codes do not say how many frames of the last of them are meant: the lengths do."""
    conditioner, mel = mel_vq(stride), mels(11, batch=2)
    lengths = torch.tensor([1.0, 7 / 11])
    condition = conditioner(mel, lengths)
    decoded = conditioner.decode(conditioner.encode(mel, lengths), 11, lengths)
    same(decoded.local, condition.local)
    same(decoded.log_mel[1, :, :7], condition.log_mel[1, :, :7])


@pytest.mark.parametrize("mel_head", [True, False])
def test_wave_vq_codes_decode_to_the_condition_of_forward(mel_head):
    conditioner, wav = wave_vq(mel_head=mel_head), random_tensor(2, 6 * HOP)
    lengths = torch.tensor([1.0, 0.5])
    for these in (None, lengths):
        condition = conditioner(wav, these)
        codes = conditioner.encode(wav, these)
        assert torch.equal(codes, condition.quantized.indices)
        decoded = conditioner.decode(codes)
        same(decoded.local, condition.local)
        assert (decoded.log_mel is None) is (condition.log_mel is None) is (not mel_head)
        if mel_head:
            same(decoded.log_mel, condition.log_mel)


def test_gradient_reaches_encoder_and_decoder_through_the_codes():
    for conditioner, features in ((mel_vq(2), mels(8)), (wave_vq(), random_tensor(1, 4 * HOP))):
        conditioner.train()
        condition = conditioner(features)
        (condition.local.sum() + condition.log_mel.sum()).backward()
        for name, parameter in conditioner.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_predicted_log_mel_is_fp32_under_autocast():
    conditioner = mel_vq(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        condition = conditioner(mels(8).float())
    assert condition.log_mel.dtype == torch.float32
    assert condition.local.dtype == torch.bfloat16


def test_masks_and_lengths():
    assert frame_mask(None, 4) is None and frame_mask(torch.ones(2), 4) is None
    # 7 of 11 frames with stride 3 are 3 of 4 codes; one of 11 is one code.
    lengths = torch.tensor([1.0, 7 / 11, 1 / 11])
    assert relative_code_lengths(lengths, 11, 3).tolist() == [1.0, 0.75, 0.25]
    assert code_mask(lengths, 11, 3).sum(-1).flatten().tolist() == [4, 3, 1]
    # Rounding in fp32 must not lose or gain a frame at any length that occurs.
    for frames in (87, 861, 1000):
        counts = torch.arange(1, frames + 1)
        mask = frame_mask(counts / frames, frames)
        assert torch.equal(mask.sum(-1).flatten(), counts)
    last = torch.tensor([220416]) / 220417  # ten seconds in samples
    assert frame_mask(last, 220417).sum() == 220416


def test_residual_stack_holds_padding_at_zero():
    stack = ready(ResidualStack(6, 2))
    x = random_tensor(1, 6, 9)
    mask = torch.arange(9).lt(5)[None, None]
    same(stack(x, mask)[..., :5], stack(x[..., :5]), atol=1e-12)


def test_bad_options():
    with pytest.raises(UserError, match="stride: 0"):
        mel_vq(0)
    with pytest.raises(UserError, match="strides: their product 12 does not divide the hop of 16"):
        wave_vq((3, 4))
    with pytest.raises(UserError, match="kernel_size: 2"):
        mel_vq(2, kernel_size=2)
