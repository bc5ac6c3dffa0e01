"""Gradients of several processes, as torch's DistributedDataParallel averages them."""

from waveglow_vq.utils.distributed import bucket_megabytes, data_parallel

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.training.forks import together


class Net(nn.Module):
    """2 MB of gradients, for two buckets at least."""

    def __init__(self, recomputes):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(8))
        self.recomputes = recomputes

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.recomputes else layer(x)
            x = x.tanh()
        return x.square().mean()


def net(recomputes=False):
    torch.manual_seed(0)
    return Net(recomputes)


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("recomputes", [False, True])
def test_processes_have_the_gradient_of_one(tmp_path, recomputes):
    """Also accumulated over two batches of which only the second is followed by sending."""
    batches = torch.randn(3, 8, 256, generator=torch.Generator().manual_seed(1))

    def work(rank):
        alone, shared = net(), net(recomputes)
        model = data_parallel(shared, "cpu")
        mine = batches[:, 4 * rank : 4 * rank + 4]
        for _ in range(3):  # buckets are arranged anew after the first step
            alone.zero_grad(set_to_none=True)
            shared.zero_grad(set_to_none=True)
            for whole in batches:
                alone(whole).backward()
            with model.no_sync():
                for part in mine[:2]:
                    model(part).backward()
            model(mine[2]).backward()
            torch.testing.assert_close(gradients(shared), gradients(alone), rtol=1e-5, atol=1e-8)
        places = {p.grad.untyped_storage().data_ptr() for p in shared.parameters()}
        assert 1 < len(places) < 16, "gradients are not views of a few buckets"

    assert together(2, tmp_path, work) == [0, 0]


@pytest.mark.parametrize(("size", "megabytes"), [(100, 1.0), (2048, 2.0), (8192, 25.0)])
def test_buckets_are_an_eighth_of_the_gradients(size, megabytes):
    layer = nn.Linear(size, size, bias=False, device="meta")
    assert bucket_megabytes(layer) == megabytes
    assert bucket_megabytes(layer.requires_grad_(False)) == 1.0
