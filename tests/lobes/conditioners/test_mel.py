from waveglow_vq.lobes.conditioners.mel import MelConditioner

from tests.lobes.conditioners.conditioner_base import HOP, ConditionerContract, mels
from tests.lobes.flows.transform_base import tiny_features


class TestMel(ConditionerContract):
    cases = {
        f"{layers} layers": (
            lambda layers=layers: (MelConditioner(tiny_features(), channels=10, layers=layers), 0)
        )
        for layers in (0, 2)
    }


def test_mel_conditioner_without_layers_hands_the_mel_on():
    conditioner, mel = MelConditioner(tiny_features(), channels=10, layers=0), mels(5)
    condition = conditioner(mel)
    assert condition.local is mel and condition.log_mel is mel and condition.quantized is None
    assert conditioner.channels == 8 and condition.hop == HOP and not list(conditioner.parameters())
