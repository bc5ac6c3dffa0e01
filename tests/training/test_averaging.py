from waveglow_vq.errors import UserError
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer
from waveglow_vq.training.averaging import WeightAverage, average_checkpoints, choose_checkpoints
from waveglow_vq.training.checkpointing import KillSafeCheckpointer

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
    state = average_checkpoints(choose_checkpoints(checkpointer, 3))
    assert state["weight"].item() == pytest.approx(3.0)
    assert state["count"].dtype == torch.int64 and state["count"].item() == 12


def test_says_that_there_is_nothing_to_average(tmp_path):
    with pytest.raises(UserError, match="no checkpoints"):
        average_checkpoints(choose_checkpoints(Checkpointer(tmp_path, {}), 3))


def test_averages_the_best_checkpoints(tmp_path):
    model = torch.nn.Linear(1, 1)
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    for value, loss in ((8.0, 1.0), (4.0, 3.0), (2.0, 2.0), (1.0, float("nan"))):
        set_to(model, value)
        checkpointer.save_checkpoint(meta={"valid_loss": loss})
    state = average_checkpoints(choose_checkpoints(checkpointer, 2, best_key="valid_loss"))
    assert state["weight"].item() == 5.0
    with pytest.raises(UserError, match="whose other_loss is known"):
        average_checkpoints(choose_checkpoints(checkpointer, 2, best_key="other_loss"))


def test_averages_in_double_precision_and_keeps_types(tmp_path):
    model = torch.nn.Module()
    model.register_buffer("short", torch.zeros(3, dtype=torch.float16))
    model.register_buffer("single", torch.zeros(3))
    model.register_buffer("flag", torch.tensor(False))
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    # In fp16, the sum of these would be infinite, and in fp32 the last would be lost.
    for half, single in ((49152.0, 2.0**25), (49152.0, -(2.0**25)), (49152.0, 0.75)):
        model.short.fill_(half)
        model.single.fill_(single)
        model.flag.fill_(single == 0.75)
        checkpointer.save_checkpoint()
    state = average_checkpoints(choose_checkpoints(checkpointer, 3))
    assert {key: value.dtype for key, value in state.items()} == {
        key: value.dtype for key, value in model.state_dict().items()
    }
    assert state["short"][0].item() == 49152.0
    assert state["single"][0].item() == 0.25
    assert state["flag"].item() is True


def test_averages_of_a_run_are_those_of_the_model_in_them(tmp_path):
    model = torch.nn.Linear(1, 1)
    average = WeightAverage(model, decay=0.0)
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model, "averaged": average})
    for value in (1.0, 3.0):
        set_to(model, value)
        average.update_parameters(model)
        set_to(model, 100.0)
        checkpointer.save_checkpoint()
    state = average_checkpoints(choose_checkpoints(checkpointer, 2), "averaged")
    assert state.keys() == model.state_dict().keys()
    assert state["weight"].item() == 2.0


@pytest.mark.parametrize("other", [torch.zeros(2, 3), torch.zeros(3, 2).double()])
def test_refuses_weights_of_another_shape_or_type(tmp_path, other):
    for value in (torch.zeros(3, 2), other):
        model = torch.nn.Module()
        model.register_buffer("value", value)
        KillSafeCheckpointer(tmp_path, {"model": model}).save_checkpoint()
    with pytest.raises(UserError, match="its weight value is .*, but that of .* average"):
        average_checkpoints(choose_checkpoints(KillSafeCheckpointer(tmp_path), 2))


def test_refuses_weights_that_differ(tmp_path):
    for model in (torch.nn.Linear(1, 1), torch.nn.Linear(1, 2), torch.nn.Linear(1, 2, bias=False)):
        KillSafeCheckpointer(tmp_path, {"model": model}).save_checkpoint()
    with pytest.raises(UserError, match="only one of them has the weight bias"):
        average_checkpoints(choose_checkpoints(KillSafeCheckpointer(tmp_path), 3))
    last = KillSafeCheckpointer(tmp_path).find_checkpoint()
    KillSafeCheckpointer(tmp_path).delete_checkpoints(
        num_to_keep=0, ckpt_predicate=lambda checkpoint: checkpoint.path == last.path
    )
    with pytest.raises(UserError, match=r"is \[1, 1\].*but that of .* is \[2, 1\]"):
        average_checkpoints(choose_checkpoints(KillSafeCheckpointer(tmp_path), 3))
