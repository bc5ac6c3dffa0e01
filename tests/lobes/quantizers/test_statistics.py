import math

from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.lobes.quantizers.statistics import (
    CodeStatistics,
    distinct_codes,
    merged_codes,
    participating_dimensions,
    second_moments,
    squared_distances,
)

import pytest
import torch

from tests.lobes.quantizers.quantizer_tools import summary


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def dimensions(frames):
    return participating_dimensions(second_moments(frames), len(frames))


def test_dimensions_of_a_spread():
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    for scale in (1e-6, 1.0, 1e6):
        frames = scale * torch.randn(4000, 5) * weights
        assert float(dimensions(frames)) == pytest.approx(3.0, abs=0.1)
    # Few frames do not hide the dimensions that they cannot fill.
    few = torch.stack([dimensions(torch.randn(40, 64)) for _ in range(50)])
    assert 45 < few.mean() <= 64
    assert float(dimensions(torch.zeros(10, 5))) <= 5.0


def test_merged_codes_are_found():
    codes = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 0.01], [5.0, 0.05], [9.0, 9.0]])
    assert merged_codes(codes, 0.02).tolist() == [False, False, True, False, False]
    assert merged_codes(codes, 0.1).tolist() == [False, False, True, True, False]
    # A chain of near neighbours is not one code.
    assert int(merged_codes(torch.arange(10.0)[:, None], 1.5).sum()) == 5
    assert not merged_codes(1e4 + torch.eye(4), 0.1).any()


def test_distinct_codes_are_not_fooled():
    merged = torch.full((64, 8), 3.0) + 1e-5 * torch.randn(64, 8)
    assert distinct_codes(merged) == 1
    assert distinct_codes(merged, data_deviation=1.0) == 1
    assert distinct_codes(torch.randn(64, 8)) == 64
    assert distinct_codes(torch.randn(64, 8), data_deviation=1e4) == 1
    # Usage and perplexity alone look excellent.
    quantizer = EMAQuantizer(64, 8, initialization="normal", restart_after=0).eval()
    quantizer.set_codebook(merged - 3.0)
    result = summary(quantizer, torch.randn(4000, 8))
    assert result["used"] > 40 and result["perplexity"] > 20
    assert result["distinct_codes"] == 1 and result["normalized_mse"] > 0.9


def test_statistics_of_a_forward():
    quantizer = EMAQuantizer(4, 2, initialization="normal", restart_after=0).eval()
    quantizer.set_codebook(torch.tensor([[0.0, 0.0], [2.0, 0.0], [50.0, 50.0], [60.0, 50.0]]))
    x = torch.tensor([[[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]]])
    statistics = quantizer(x).statistics
    assert statistics["counts"].tolist() == [2, 2, 0, 0]
    assert float(statistics["used"]) == 0.5
    assert float(statistics["perplexity"]) == pytest.approx(2.0)
    assert float(statistics["squared_error"]) == 4.0
    assert float(statistics["squared_deviation"]) == 8.0
    assert float(statistics["normalized_mse"]) == 0.5
    assert statistics["mean_frame"].tolist() == [1.0, 0.0]


def test_epoch_summary_is_that_of_all_frames_at_once():
    quantizer = SoftEMQuantizer(16, 4, initialization="normal").eval()
    frames = torch.cat([torch.randn(300, 4), 5 + 2 * torch.randn(80, 4), torch.randn(1, 4)])
    epoch = CodeStatistics()
    for part in frames.split([300, 80, 1]):
        epoch.accumulate(quantizer(part[None]).statistics)
    result = epoch.summary(quantizer.codebook, frames_per_second=43.0)
    assert all(type(value) is float for value in result.values())
    codes = quantizer.codebook.detach()
    distances = (frames[:, None] - codes).square().sum(-1)
    counts = torch.bincount(distances.argmin(1), minlength=16)
    share = counts / counts.sum()
    entropy = float(torch.special.entr(share).sum())
    deviation = (frames - frames.mean(0)).square().sum()
    assert result["used"] == float((counts > 0).sum())
    assert result["perplexity"] == pytest.approx(math.exp(entropy))
    assert result["normalized_mse"] == pytest.approx(
        float(distances.amin(1).sum() / deviation), rel=1e-5
    )
    assert result["bits_per_second"] == 4 * 43.0
    assert result["entropy_bits_per_second"] == pytest.approx(43.0 * entropy / math.log(2))
    assert 1.0 <= result["responsibility_perplexity"] <= 16.0
    assert CodeStatistics().summary(quantizer.codebook, 43.0) == {}


@pytest.mark.parametrize("offset, scale", [(0.0, 10.0), (1000.0, 1.0), (0.0, 1e-3)])
def test_distances_are_accurate(offset, scale):
    codes = offset + scale * torch.randn(512, 64)
    frames = codes[torch.randint(512, (400,))] + 0.5 * scale * torch.randn(400, 64)
    exact = (frames.double()[:, None] - codes.double()).square().sum(-1)
    error = (squared_distances(frames, codes).double() - exact).abs()
    assert error.max() < 1e-5 * exact.max()
    quantizer = SoftEMQuantizer(512, 64, initialization="normal")
    quantizer.set_codebook(codes)
    assert torch.equal(quantizer.encode(frames[None])[0], exact.argmin(1))
