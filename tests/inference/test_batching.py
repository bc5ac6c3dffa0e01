"""What is padded stays silence, and lengths may be as long as the batch."""

import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.inference.batching import batch_log_mels
from waveglow_vq.inference.inputs import item_counts
from waveglow_vq.utils.masking import fill_padding, relative_lengths

import pytest
import torch


def test_log_mels_of_a_batch_are_those_of_its_items_and_silence_behind_them():
    features, counts = LogMel(), torch.tensor([3000, 2600, 1024])
    wavs = 0.1 * torch.randn(3, 3000)
    log_mels, frames = batch_log_mels(features, wavs, counts)
    assert log_mels.shape == (3, 80, 12) and frames.tolist() == [12, 11, 5]
    for item, count, own in zip(range(3), counts.tolist(), frames.tolist(), strict=True):
        alone = features(wavs[item : item + 1, :count])[0]
        torch.testing.assert_close(log_mels[item, :, :own], alone, rtol=0, atol=1e-5)
        # In log-mels zero would be loud.
        assert bool((log_mels[item, :, own:] == math.log(features.floor)).all())
    whole, frames = batch_log_mels(features, wavs, torch.tensor([3000] * 3))
    assert torch.equal(whole, features(wavs)) and frames.tolist() == [12, 12, 12]


def test_lengths_from_the_least_to_the_whole():
    assert item_counts("lens", None, 2, 7).tolist() == [7, 7]
    assert item_counts("lens", [1, 7], 2, 7).tolist() == [1, 7]
    assert item_counts("lens", [2.0, 7.0], 2, 7).tolist() == [2, 7]
    # Sevenths, as fp32 has them, are rounded and not cut.
    assert item_counts("lens", torch.arange(1, 8) / 7, 7, 7).tolist() == list(range(1, 8))
    assert item_counts("lens", torch.arange(1, 50) / 49, 49, 49).tolist() == list(range(1, 50))
    for wrong in ([0, 7], [1, 8], [0.0, 1.0], [-1, 2], [float("nan"), 1.0]):
        with pytest.raises(UserError, match="^lens: .*does not fit a batch that is 7 long"):
            item_counts("lens", wrong, 2, 7)
    with pytest.raises(UserError, match="^lens: 3 lengths for a batch of 2"):
        item_counts("lens", [1, 2, 3], 2, 7)


def test_relative_lengths_only_where_something_is_padded():
    assert relative_lengths(torch.tensor([7, 7]), 7) is None
    lengths = relative_lengths(torch.tensor([7, 3]), 7)
    assert lengths.dtype == torch.float64 and lengths.tolist() == [1.0, 3 / 7]


def test_padding_is_filled_from_the_end_of_each_item_on():
    x = torch.arange(6.0).view(2, 3)
    assert fill_padding(x, torch.tensor([1, 3]), -1.0).tolist() == [[0, -1, -1], [3, 4, 5]]
    assert torch.equal(
        fill_padding(x[:, None], torch.tensor([1, 3]), -1.0)[:, 0],
        fill_padding(x, torch.tensor([1, 3]), -1.0),
    )
