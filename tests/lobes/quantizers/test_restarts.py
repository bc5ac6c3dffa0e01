from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.lobes.quantizers.statistics import distinct_codes, squared_distances

import pytest
import torch

from tests.lobes.quantizers.quantizer_tools import BOTH, assert_same, clusters, summary, train


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@BOTH
def test_initialization_takes_frames_over_several_forwards(quantizer_class):
    quantizer = quantizer_class(16, 4)
    seen = []
    for expected in (5, 10, 15, 16):
        x = 100 + torch.randn(1, 20, 4)
        seen.append(x[0])
        output = quantizer(x)
        assert int(quantizer.filled) == expected
        assert output.indices.max() < expected
        assert output.statistics["normalized_mse"] < 2
        if quantizer_class is SoftEMQuantizer:
            assert torch.isin(quantizer.codebook[:expected], torch.cat(seen)).all()
            assert torch.isfinite(output.losses["codebook"])
    assert (quantizer.codebook - 100).abs().max() < 10


def test_normal_initialization_is_left_alone():
    quantizer = SoftEMQuantizer(16, 4, initialization="normal")
    before = quantizer.codebook.detach().clone()
    quantizer(100 + torch.randn(1, 200, 4))
    assert torch.equal(before, quantizer.codebook)


@BOTH
def test_shared_clusters_are_given_up_for_missed_ones(quantizer_class):
    centres = 10 * torch.eye(8)
    quantizer = quantizer_class(8, 8, initialization="normal", restart_after=10)
    quantizer.set_codebook(torch.cat([centres[:4], centres[:4] + 0.1 * torch.randn(4, 8)]))
    # Beyond what dead and merged codes explain: no cluster loses all its codes meanwhile.
    train(
        quantizer,
        lambda n: centres[torch.randint(8, (n,))] + 0.3 * torch.randn(n, 8),
        steps=100,
    )
    nearest = squared_distances(centres, quantizer.codebook.detach()).amin(1)
    assert (nearest < 20.0).all()


def test_ema_codes_do_not_shrink_after_initialization():
    quantizer = EMAQuantizer(16, 4)
    x = 50 + torch.randn(1, 100, 4)
    quantizer(x)
    for _ in range(1000):
        quantizer(x[:, :3])
    assert (quantizer.codebook - 50).abs().max() < 5


@BOTH
@pytest.mark.parametrize("scale", [2.0**-10, 1.0, 2.0**10])
def test_dead_codes_restart_once_they_are_due(quantizer_class, scale):
    quantizer = quantizer_class(8, 4, initialization="normal", restart_after=3)
    far = torch.full((8, 4), 1000.0)
    far[0] = 0.0
    quantizer.set_codebook(scale * (far + torch.randn(8, 4)))
    x = scale * torch.randn(1, 200, 4)
    restarted = []
    for _ in range(3):
        quantizer(x)
        restarted.append(quantizer.after_optimizer_step())
    assert restarted == [0, 0, 7]
    assert torch.isin(quantizer.codebook[1:], x).all()
    placed = quantizer.codebook.detach().clone()
    # Their time begins again.
    assert not quantizer.unused_steps.any()
    # They stick: a step in which no frame chooses them leaves them in their places.
    quantizer(x[:, :1])
    unchosen = quantizer.unused_steps > 0
    assert unchosen.sum() == 7
    torch.testing.assert_close(
        quantizer.codebook[unchosen], placed[unchosen], rtol=1e-5, atol=1e-5 * scale
    )
    assert quantizer(x).statistics["used"] == 1.0


def test_no_restarts_when_switched_off():
    quantizer = SoftEMQuantizer(8, 4, initialization="normal", restart_after=0)
    quantizer.set_codebook(1000 + torch.randn(8, 4))
    for _ in range(5):
        quantizer(torch.randn(1, 200, 4))
        assert quantizer.after_optimizer_step() == 0


def test_restart_resets_the_moments_of_its_rows_only():
    quantizer = SoftEMQuantizer(8, 4, initialization="normal", restart_after=3)
    codes = torch.randn(8, 4)
    codes[5:] += 1000
    quantizer.set_codebook(codes)
    optimizer = torch.optim.Adam(quantizer.parameters(), amsgrad=True)
    draw = clusters(dim=4, subspace=4)
    train_steps = 0
    while True:
        output = quantizer(draw(100)[None])
        optimizer.zero_grad()
        (sum(output.losses.values()) + (quantizer.codebook**2).sum()).backward()
        optimizer.step()
        train_steps += 1
        if quantizer.after_optimizer_step(optimizer):
            break
    assert train_steps == 3
    state = optimizer.state[quantizer.codebook]
    for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        assert (state[key][5:] == 0).all() and (state[key][0] != 0).any()
    assert float(state["step"]) == 3


@BOTH
def test_merged_codes_restart(quantizer_class):
    draw = clusters(count=8, dim=4, subspace=4)
    quantizer = quantizer_class(8, 4, initialization="normal", restart_after=2)
    for _ in range(2):
        quantizer(draw(200)[None])
    # All in one point at once, and none of them dead.
    quantizer.set_codebook(draw(1).repeat(8, 1) + 1e-4 * torch.randn(8, 4))
    assert quantizer.after_optimizer_step() == 7
    assert distinct_codes(quantizer.codebook, data_deviation=4.0) == 8
    train(quantizer, draw)
    assert summary(quantizer, draw(1000))["distinct_codes"] == 8


def test_constant_input_neither_restarts_for_ever_nor_breaks():
    quantizer = SoftEMQuantizer(8, 4, restart_after=1)
    restarted = train(quantizer, lambda n: torch.ones(n, 4), steps=10)
    assert restarted == 0
    assert torch.isfinite(quantizer.codebook).all()


@BOTH
def test_usage_of_recent_training(quantizer_class):
    quantizer = quantizer_class(8, 4, initialization="normal", restart_after=0)
    assert quantizer.usage()["used"] == 0.0
    quantizer.set_codebook(torch.cat([torch.eye(4), 100 + torch.eye(4)]))
    for _ in range(3):
        quantizer(torch.eye(4).repeat(1, 10, 1) + 0.1 * torch.randn(1, 40, 4))
    usage = quantizer.usage()
    assert all(type(value) is float for value in usage.values())
    assert usage["used"] == 4.0 and usage["perplexity"] == pytest.approx(4.0, rel=1e-3)
    assert usage["unused_steps"] == 3.0 and usage["distinct_codes"] == 8.0
    assert usage["normalized_mse"] < 0.2


def test_usage_forgets_what_is_long_past():
    """A hundredth at each step: of a hundred steps, 0.37 are left after a hundred others."""
    quantizer = SoftEMQuantizer(8, 4, initialization="normal", restart_after=0)
    quantizer.set_codebook(torch.cat([torch.eye(4), 100 + torch.eye(4)]))
    for frames in (torch.eye(4), torch.eye(4)[:1].expand(4, 4)):
        for _ in range(100):
            quantizer(frames[None])
    left = 0.99**100
    shares = torch.tensor([left + 4, left, left, left]) / (4 * left + 4)
    expected = (-(shares * shares.log()).sum()).exp()
    assert quantizer.usage()["perplexity"] == pytest.approx(float(expected), rel=1e-3)


@BOTH
def test_state_survives_a_checkpoint(quantizer_class):
    quantizer = quantizer_class(8, 4)
    train(quantizer, clusters(dim=4), steps=5)
    other = quantizer_class(8, 4)
    other.load_state_dict(quantizer.state_dict())
    assert_same(quantizer.state_dict(), other.state_dict())
    x = torch.randn(1, 20, 4)
    assert torch.equal(other.eval().encode(x), quantizer.eval().encode(x))
    assert int(other.filled) == 8
