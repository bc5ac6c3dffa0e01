"""Several processes write one checkpoint."""

import errno
import os
import time

from waveglow_vq.errors import UserError
from waveglow_vq.training.checkpointing import KillSafeCheckpointer

import pytest
import torch
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)

from tests.training.forks import together


def register_own_files():
    @register_checkpoint_hooks
    class OwnOfMain:
        @mark_as_saver
        def save(self, path):
            path.write_text("main")

        @mark_as_loader
        def load(self, path, end_of_epoch):
            assert path.read_text() == "main"

    def save(obj, path):
        # The last process is late: the checkpoint has to wait for it.
        rank = int(os.environ["RANK"])
        time.sleep(0.2 * rank)
        path.with_name(path.name if rank == 0 else f"own.rank{rank}.ckpt").write_text(str(rank))

    def load(obj, path, end_of_epoch):
        rank = int(os.environ["RANK"])
        name = path.name if rank == 0 else f"own.rank{rank}.ckpt"
        assert path.with_name(name).read_text() == str(rank)

    return OwnOfMain(), save, load


def test_several_processes_write_one_checkpoint(tmp_path, model):
    main, save, load = register_own_files()

    def work(rank):
        checkpointer = KillSafeCheckpointer(tmp_path / "save", {"model": model, "main": main})
        checkpointer.add_recoverable("own", object(), load, save)
        for number in range(3):
            torch.nn.init.constant_(model.weight, float(number))
            checkpointer.save_and_keep_only(meta={"number": number})
            (found,) = checkpointer.list_checkpoints()
            names = sorted(path.name for path in found.path.iterdir())
            assert names == ["CKPT.yaml", "main.ckpt", "model.ckpt", "own.ckpt", "own.rank1.ckpt"]
            torch.distributed.barrier()
        assert checkpointer.recover_if_possible().meta["number"] == 2

    assert together(2, tmp_path, work) == [0, 0]


@pytest.mark.parametrize("failing", [0, 1])
def test_what_fails_in_one_process_is_raised_in_all(tmp_path, model, failing):
    main, save, load = register_own_files()

    def fail(obj, path):
        if int(os.environ["RANK"]) == failing:
            path.write_bytes(b"some")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def work(rank):
        checkpointer = KillSafeCheckpointer(tmp_path / "save", {"model": model, "main": main})
        checkpointer.add_recoverable("own", object(), load, save)
        checkpointer.save_checkpoint(name="first")
        checkpointer.custom_save_hooks["own"] = fail
        with pytest.raises(UserError, match="No space left on device.*the last complete"):
            checkpointer.save_checkpoint(name="second")
        # Nobody is out of step: the next one works.
        checkpointer.custom_save_hooks["own"] = save
        checkpointer.save_checkpoint(name="third")

    assert together(2, tmp_path, work) == [0, 0]
    names = sorted(path.name for path in (tmp_path / "save").iterdir())
    assert names == ["CKPT+first", "CKPT+third"]


class Unsaveable(torch.nn.Linear):
    def state_dict(self, *args, **kwargs):
        raise KeyError("a defect")


def test_a_defect_in_the_main_process_stops_the_others_too(tmp_path, model):
    """Also where the others would wait for what SpeechBrain's savers return."""

    def work(rank):
        checkpointer = KillSafeCheckpointer(tmp_path / "save", {"own": Unsaveable(1, 1)})
        checkpointer.add_recoverable("model", model)
        with pytest.raises(KeyError if rank == 0 else RuntimeError, match="a defect"):
            checkpointer.save_checkpoint()

    assert together(2, tmp_path, work) == [0, 0]
    assert list((tmp_path / "save").iterdir()) == []
