"""Data, a training loop and comparisons for the tests of the quantizers."""

from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.lobes.quantizers.statistics import CodeStatistics

import pytest
import torch

BOTH = pytest.mark.parametrize("quantizer_class", [SoftEMQuantizer, EMAQuantizer])


def clusters(count=16, dim=8, subspace=4, noise=0.1, scale=1.0, seed=3):
    """A function that draws [n, dim] frames from `count` Gaussians in a subspace."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(count, subspace, generator=generator)
    basis = torch.linalg.qr(torch.randn(dim, subspace, generator=generator))[0].t()

    def draw(n):
        which = torch.randint(count, (n,), generator=generator)
        latent = centres[which] + noise * torch.randn(n, subspace, generator=generator)
        return scale * latent @ basis

    return draw


def train(quantizer, draw, steps=150, batch=128, lr=1e-2):
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr) if parameters else None
    quantizer.train()
    restarted = 0
    for _ in range(steps):
        output = quantizer(draw(batch)[None])
        if optimizer:
            optimizer.zero_grad()
            sum(output.losses.values()).backward()
            optimizer.step()
        restarted += quantizer.after_optimizer_step(optimizer)
    return restarted


def summary(quantizer, frames):
    quantizer.eval()
    epoch = CodeStatistics()
    epoch.accumulate(quantizer(frames[None]).statistics)
    return epoch.summary(quantizer.codebook, frames_per_second=50.0)


def everything(quantizer):
    """All that a quantizer carries from step to step."""
    state = {key: value.clone() for key, value in quantizer.state_dict().items()}
    for key, value in vars(quantizer).items():
        if isinstance(value, torch.Tensor):
            state[key] = value.clone()
    for age, (frames, _) in enumerate(quantizer._recent):
        state[f"recent {age}"] = frames.clone()
    return state


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key
