from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizers import EMAQuantizer
from waveglow_vq.training.averaging import WeightAverage, average_saved_weights

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer


def set_to(model, value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_follows_its_formula():
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.3)
    expected = None
    for n, value in enumerate((3.0, -1.0, 4.0, 1.0, 5.0)):
        set_to(model, value)
        average.update_parameters(model)
        decay = min(0.3, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert torch.allclose(average.module.weight, torch.full((2, 2), expected))
    # The model itself is left alone.
    assert bool((model.weight == 5.0).all())


def test_forgets_the_initial_weights_early():
    model = torch.nn.Linear(1, 1)
    set_to(model, 0.0)
    average = WeightAverage(model, decay=0.999)
    average.update_parameters(model)
    set_to(model, 1.0)
    for _ in range(50):
        average.update_parameters(model)
    # With a constant decay it would still hold 95 % of the first weights.
    assert average.module.weight.item() > 0.95


def test_carries_buffers_over():
    quantizer = EMAQuantizer(8, 2).train()
    average = WeightAverage(quantizer, decay=0.9)
    for _ in range(3):
        quantizer(torch.randn(2, 40, 2))
    average.update_parameters(quantizer)
    for (name, own), (_, theirs) in zip(
        average.module.named_buffers(), quantizer.named_buffers(), strict=True
    ):
        assert torch.equal(own, theirs), name
    assert int(average.module.filled) == 8


def test_has_nothing_to_train():
    average = WeightAverage(torch.nn.Linear(2, 2))
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_goes_on_from_a_checkpoint(tmp_path):
    model = torch.nn.Linear(1, 1)
    average = WeightAverage(model, decay=0.9)
    for value in (1.0, 2.0):
        set_to(model, value)
        average.update_parameters(model)
    Checkpointer(tmp_path, {"averaged": average}).save_checkpoint()
    other = WeightAverage(torch.nn.Linear(1, 1), decay=0.9)
    Checkpointer(tmp_path, {"averaged": other}).recover_if_possible()
    set_to(model, 7.0)
    average.update_parameters(model)
    other.update_parameters(model)
    assert torch.equal(other.module.weight, average.module.weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_refuses_impossible_decays(decay):
    with pytest.raises(UserError, match="averaging_decay"):
        WeightAverage(torch.nn.Linear(1, 1), decay)


def test_averages_the_latest_checkpoints(tmp_path):
    model = torch.nn.Linear(1, 1)
    model.register_buffer("count", torch.tensor(0))
    checkpointer = Checkpointer(tmp_path, {"model": model})
    for value in (100.0, 1.0, 2.0, 6.0):
        set_to(model, value)
        model.count.fill_(12)
        checkpointer.save_checkpoint()
    set_to(model, -50.0)
    checkpointer.save_checkpoint(end_of_epoch=False)
    state = average_saved_weights(checkpointer, 3)
    assert state["weight"].item() == pytest.approx(3.0)
    assert state["count"].dtype == torch.int64 and state["count"].item() == 12


def test_says_that_there_is_nothing_to_average(tmp_path):
    with pytest.raises(UserError, match="no checkpoints"):
        average_saved_weights(Checkpointer(tmp_path, {}), 3)
