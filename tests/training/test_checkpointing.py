from waveglow_vq.training.checkpointing import KillSafeCheckpointer

import pytest
import torch


class Killed(Exception):
    pass


@pytest.fixture
def model():
    return torch.nn.Linear(1, 1, bias=False)


@pytest.fixture
def interrupted(tmp_path, model):
    """One good checkpoint with a weight of 1, and a later one that was never finished."""
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model, "other": model})
    torch.nn.init.constant_(model.weight, 1.0)
    checkpointer.save_checkpoint()

    def die(obj, path):
        path.write_bytes(b"")
        raise Killed

    torch.nn.init.constant_(model.weight, 2.0)
    checkpointer.custom_save_hooks["other"] = die
    with pytest.raises(Killed):
        checkpointer.save_checkpoint()
    return tmp_path


def test_resumes_from_the_last_complete_checkpoint(interrupted, model):
    assert len(list(interrupted.glob("CKPT+*/CKPT.yaml"))) == 2
    KillSafeCheckpointer(interrupted, {"model": model, "other": model}).recover_if_possible()
    assert model.weight.item() == 1.0


def test_the_next_save_removes_what_is_left(interrupted, model):
    checkpointer = KillSafeCheckpointer(interrupted, {"model": model})
    checkpointer.save_checkpoint()
    assert len(list(interrupted.iterdir())) == 2
    assert not list(interrupted.glob("*/INCOMPLETE"))
    assert len(checkpointer.list_checkpoints()) == 2


def test_keeps_best_and_last(tmp_path, model):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    for loss in (3.0, 1.0, 2.0, 4.0):
        checkpointer.save_and_keep_only(meta={"loss": loss}, min_keys=["loss"], importance_keys=[])
    kept = sorted(checkpoint.meta["loss"] for checkpoint in checkpointer.list_checkpoints())
    assert kept == [1.0, 4.0]
