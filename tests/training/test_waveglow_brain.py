"""What the loop of vocoders, codecs and converters decides for itself."""

from types import SimpleNamespace

from waveglow_vq.errors import UserError
from waveglow_vq.training.waveglow_brain import WaveGlowBrain

import pytest

from tests.lobes.flows.test_memory_efficient import build


def graphs_of(wanted, memory_efficient=False, **changes):
    """Whether the coupling networks have graphs."""
    vocoder = build(memory_efficient=memory_efficient)
    options = {"device": "cuda:0", "device_type": "cuda", "compile": False}
    options |= {"compile_module_keys": None, "model": SimpleNamespace(vocoder=vocoder), **changes}
    WaveGlowBrain._use_cuda_graphs(SimpleNamespace(**options), wanted)
    found = {"forward" in vars(step.coupling.network) for step in vocoder.steps}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize(
    "obstacle, message",
    [
        ({"device": "cpu", "device_type": "cpu"}, "there are none on cpu"),
        ({"compile": True}, "--compile excludes them"),
        ({"memory_efficient": True}, "memory_efficient excludes them"),
    ],
)
def test_cuda_graphs(obstacle, message):
    assert graphs_of("auto") and graphs_of(True) and not graphs_of(False)
    assert not graphs_of("auto", **obstacle) and not graphs_of(False, **obstacle)
    with pytest.raises(UserError, match=f"cuda_graphs: {message}; give auto or False"):
        graphs_of(True, **obstacle)
    with pytest.raises(UserError, match="cuda_graphs: 'yes'"):
        graphs_of("yes")
