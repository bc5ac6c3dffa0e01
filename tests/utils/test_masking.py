from waveglow_vq.utils.masking import (
    code_mask,
    crop_frames,
    frame_mask,
    masked_l1,
    masked_moments,
    relative_code_lengths,
    shares,
    whole_lengths,
)

import pytest
import torch


def test_every_count_comes_back():
    for total in (257, 2049, 22051):
        counts = torch.arange(1, total + 1)
        assert torch.equal(whole_lengths(shares(counts, total), total), counts)
        # As SpeechBrain's batches have them.
        assert torch.equal(whole_lengths((counts / total).float(), total), counts)
    # An hour, where fp32 has no room for odd samples.
    samples = torch.tensor([79_379_999])
    assert torch.equal(whole_lengths(shares(samples, 79_380_001), 79_380_001), samples)


def test_what_relative_lengths_decide():
    lengths = shares(torch.tensor([517, 1033]), 1033)
    assert frame_mask(lengths, 1033).sum((1, 2)).tolist() == [517, 1033]
    # 517 frames are 129 whole codes of 4 and one more.
    assert code_mask(lengths, 1033, 4).sum((1, 2)).tolist() == [130, 259]
    x = torch.arange(1033.0).expand(2, 1, -1)
    assert crop_frames(x, 1033, None, lengths)[:, 0, -1].tolist() == [516, 1032]
    assert masked_l1(x, torch.zeros_like(x), lengths) == (516 * 517 + 1032 * 1033) / 2 / 1550


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_of_half_precision_over_many_frames(dtype):
    x = torch.tensor([1.0, 3.0]).repeat(1050).view(1, 1, -1).to(dtype)
    mask = torch.ones_like(x)
    mask[..., 2051:] = 0
    mean, variance = masked_moments(x, mask)
    expected = x[..., :2051].double()
    torch.testing.assert_close(mean.item(), expected.mean().item(), rtol=1e-5, atol=0)
    assert abs(variance.item() - expected.var(unbiased=False).item()) < 1e-5


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
