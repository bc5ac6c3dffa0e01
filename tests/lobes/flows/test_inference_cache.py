import copy

from waveglow_vq.lobes.flows.conv1x1 import InvertibleConv1x1
from waveglow_vq.lobes.flows.inference_cache import InferenceCache, prepare_inference

import pytest
import torch


class Squared(InferenceCache):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(3.0))
        self.register_buffer("offset", torch.tensor(1.0))

    def _prepare(self, dtype):
        return self.weight.square() + self.offset


@pytest.fixture()
def module():
    """One within another, as in a model."""
    module = torch.nn.Sequential(Squared(), Squared()).eval()
    prepare_inference(module)
    return module


def caches(module):
    with torch.no_grad():
        return [part.prepared() for part in module]


def test_is_there_only_without_gradients(module):
    assert caches(module) == [10.0, 10.0]
    assert module[0].prepared() is None
    with torch.inference_mode():
        assert module[0].prepared() == 10.0


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.train(),
        lambda module: module.eval(),
        lambda module: module.load_state_dict(module.state_dict()),
        lambda module: module.to(torch.float64),
        lambda module: module.half(),
    ],
    ids=["train", "eval", "load_state_dict", "to", "half"],
)
def test_is_dropped(module, change):
    change(module)
    assert caches(module) == [None, None]


@pytest.mark.parametrize("name", ["weight", "offset"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_is_dropped_when_a_weight_is_written_to(module, name, mode):
    with mode():
        getattr(module[0], name).add_(1)
    first, second = caches(module)
    assert first is None and second == 10.0


def test_optimizer_step_drops_it(module):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module[0].weight.square().backward()
    optimizer.step()
    assert caches(module)[0] is None


def test_is_made_again_and_only_then(module):
    before = module[1]._cache
    with torch.no_grad():
        module[0].weight.fill_(2)
    prepare_inference(module)
    assert caches(module) == [5.0, 10.0]
    assert module[1]._cache is before
    prepare_inference(module, torch.bfloat16)
    assert module[1]._cache is not before


def test_copies_have_none(module):
    assert caches(copy.deepcopy(module)) == [None, None]
    assert caches(module) == [10.0, 10.0]


def test_made_in_inference_mode_serves_outside_of_it():
    module = Squared().eval()
    with torch.inference_mode():
        prepare_inference(module)
    with torch.no_grad():
        assert not module.prepared().is_inference()


def test_weights_of_inference_mode():
    with torch.inference_mode():
        module = InvertibleConv1x1(4).eval()
        prepare_inference(module)
        assert module.prepared() is not None


def test_refuses_a_model_in_training():
    with pytest.raises(ValueError, match="eval"):
        prepare_inference(Squared())


def test_inverse_follows_its_weight():
    """What every public implementation gets wrong: the weight changes, its inverse does not."""
    flow = InvertibleConv1x1(4).eval()
    prepare_inference(flow)
    x = torch.randn(2, 4, 10)
    with torch.no_grad():
        assert flow.prepared() is not None
        flow.weight.mul_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        y, logdet = flow(x)
        torch.testing.assert_close(flow.inverse(y), x)
        expected = 10 * torch.linalg.slogdet(flow.weight).logabsdet.expand(2)
    torch.testing.assert_close(logdet, expected)
