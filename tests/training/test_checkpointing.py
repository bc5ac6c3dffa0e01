import errno
import os
import pickle
import random
import shutil
import signal
import subprocess
import time

from waveglow_vq.errors import UserError
from waveglow_vq.training.averaging import average_checkpoints, choose_checkpoints
from waveglow_vq.training.checkpointing import KillSafeCheckpointer

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from tests.training.forks import fork, kill_at_event, wait

# ---- killed


def layers(size):
    return {name: torch.nn.Linear(size, size, bias=False) for name in ("model", "other")}


def save(checkpointer, number):
    """A checkpoint whose weights all are its number; the less, the better."""
    for layer in checkpointer.recoverables.values():
        torch.nn.init.constant_(layer.weight, float(number))
    checkpointer.save_and_keep_only(
        meta={"loss": float(number)}, num_to_keep=2, min_keys=["loss"], importance_keys=[]
    )


def check_what_is_left(folder, size, completed):
    """All that can be seen is whole; ``completed`` saves were finished. Returns the last one."""
    recoverables = layers(size)
    checkpointer = KillSafeCheckpointer(folder, recoverables)
    for checkpoint in checkpointer.list_checkpoints():
        checkpointer.load_checkpoint(checkpoint)
        for layer in recoverables.values():
            assert bool((layer.weight == checkpoint.meta["loss"]).all())
    # As SpeechBrain's own sees it, too.
    assert len(Checkpointer(folder).list_checkpoints()) == len(checkpointer.list_checkpoints())
    found = checkpointer.recover_if_possible()
    if found is None:
        assert completed == 0
        return 0
    number = int(recoverables["model"].weight[0, 0])
    assert number in (completed, completed + 1)
    assert checkpointer.find_checkpoint(min_key="loss").meta["loss"] == 1.0
    expected = {number} if number == 1 else {number, number - 1}
    mean = average_checkpoints(choose_checkpoints(checkpointer, 2))["weight"]
    assert mean[0, 0].item() == pytest.approx(sum(expected) / len(expected))
    return number


def test_killed_at_any_moment(tmp_path):
    """At each operation on files of a save that adds one checkpoint and deletes another."""
    size = 4
    for moment in range(1, 200):
        folder = tmp_path / str(moment)
        checkpointer = KillSafeCheckpointer(folder, layers(size))
        for number in (1, 2, 3, 4):
            save(checkpointer, number)

        def work(checkpointer=checkpointer, moment=moment):
            kill_at_event(moment)
            save(checkpointer, 5)

        status = wait(fork(work))
        assert status in (0, -signal.SIGKILL)
        left = check_what_is_left(folder, size, 4)
        # And the run that goes on from there cleans up.
        checkpointer = KillSafeCheckpointer(folder, layers(size))
        save(checkpointer, left + 1)
        kept = sorted(found.meta["loss"] for found in checkpointer.list_checkpoints())
        assert kept == sorted({1.0, 2.0, float(left), float(left + 1)})
        assert len(list(folder.iterdir())) == len(kept)
        shutil.rmtree(folder)
        if status == 0:
            break
    # Fewer would mean that the test has lost sight of what it is about.
    assert 20 < moment < 199


@pytest.mark.slow
def test_killed_at_random_times(tmp_path):
    """In the middle of writing, where the operating system is at work."""
    size, number, generator = 512, 0, random.Random(0)
    for _ in range(12):
        completed_file = tmp_path / "completed"
        completed_file.write_bytes(b"")
        begun = number

        def work(begun=begun, completed_file=completed_file):
            checkpointer = KillSafeCheckpointer(tmp_path / "save", layers(size))
            with open(completed_file, "ab", buffering=0) as completed:
                for number in range(begun + 1, begun + 10000):
                    save(checkpointer, number)
                    completed.write(b".")

        pid = fork(work)
        while not completed_file.stat().st_size:
            time.sleep(0.001)
        time.sleep(generator.uniform(0.0, 0.15))
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL
        completed = begun + completed_file.stat().st_size
        number = check_what_is_left(tmp_path / "save", size, completed)
    assert number >= 12


def test_a_checkpoint_of_the_same_name_is_replaced_without_a_gap(tmp_path, model):
    for moment in range(1, 200):
        folder = tmp_path / str(moment)
        checkpointer = KillSafeCheckpointer(folder, {"model": model})
        torch.nn.init.constant_(model.weight, 1.0)
        checkpointer.save_checkpoint(name="best")

        def work(checkpointer=checkpointer, moment=moment):
            kill_at_event(moment)
            torch.nn.init.constant_(model.weight, 2.0)
            checkpointer.save_checkpoint(name="best")

        status = wait(fork(work))
        torch.nn.init.constant_(model.weight, 0.0)
        assert checkpointer.recover_if_possible() is not None
        assert model.weight.item() in ((2.0,) if status == 0 else (1.0, 2.0))
        if status == 0:
            assert [path.name for path in folder.iterdir()] == ["CKPT+best"]
            break
    assert 8 < moment < 199


# ---- kept


def test_keeps_best_and_last(tmp_path, model):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    for loss in (3.0, 1.0, 2.0, 4.0):
        checkpointer.save_and_keep_only(meta={"loss": loss}, min_keys=["loss"], importance_keys=[])
    kept = sorted(checkpoint.meta["loss"] for checkpoint in checkpointer.list_checkpoints())
    assert kept == [1.0, 4.0]
    with pytest.raises(ValueError, match="num_to_keep"):
        checkpointer.delete_checkpoints(num_to_keep=-1)


def test_keeps_what_the_predicate_spares_and_appends_to_no_list(tmp_path, model):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    keys = []
    for epoch in range(3):
        checkpointer.save_and_keep_only(
            end_of_epoch=False,
            importance_keys=keys,
            ckpt_predicate=lambda checkpoint: not checkpoint.meta["end-of-epoch"],
        )
        checkpointer.save_checkpoint(meta={"score": epoch})
    ends = [checkpoint.meta["end-of-epoch"] for checkpoint in checkpointer.list_checkpoints()]
    assert sorted(ends) == [False, True, True, True] and keys == []
    checkpointer.delete_checkpoints(max_keys=["score"], importance_keys=[])
    assert [c.meta.get("score") for c in checkpointer.find_checkpoints()] == [2, None]


def test_the_best_is_not_one_that_is_nan(tmp_path, model):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    for loss in (2.0, 1.0, float("nan"), 3.0):
        checkpointer.save_checkpoint(meta={"loss": loss})
    losses = [c.meta["loss"] for c in checkpointer.find_checkpoints(min_key="loss")]
    assert losses == [1.0, 2.0, 3.0]
    assert checkpointer.find_checkpoint(min_key="no such key") is None


def test_the_last_is_the_last_saved_although_the_clock_goes_back(tmp_path, model, monkeypatch):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    checkpointer.save_checkpoint(meta={"number": 1})
    early = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: early)
    checkpointer.save_and_keep_only(meta={"number": 2})
    assert checkpointer.find_checkpoint().meta["number"] == 2


def test_refuses_a_description_that_could_not_be_read_again(tmp_path, model):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    with pytest.raises(Exception, match="cannot represent"):
        checkpointer.save_checkpoint(meta={"loss": torch.tensor(1.0)})
    assert checkpointer.list_checkpoints() == []


# ---- the disk is full


@pytest.mark.parametrize("which", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, model, which):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model, "other": model})
    torch.nn.init.constant_(model.weight, 1.0)
    checkpointer.save_checkpoint()

    def fail(obj, path):
        path.write_bytes(b"some")
        raise OSError(which, os.strerror(which))

    torch.nn.init.constant_(model.weight, 2.0)
    checkpointer.custom_save_hooks["other"] = fail
    with pytest.raises(UserError, match=f"{os.strerror(which)}.* MiB free.*the last") as caught:
        checkpointer.save_and_keep_only()
    assert str(tmp_path) in str(caught.value)
    assert len(list(tmp_path.iterdir())) == 1
    assert checkpointer.recover_if_possible() is not None and model.weight.item() == 1.0


def test_defects_of_the_program_stay_what_they_are(tmp_path, model):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})

    def fail(obj, path):
        raise RuntimeError("a defect")

    checkpointer.custom_save_hooks["model"] = fail
    with pytest.raises(RuntimeError, match="^a defect$"):
        checkpointer.save_checkpoint()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of three megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "waveglow-vq-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    recoverables = layers(500)  # A megabyte each.
    checkpointer = KillSafeCheckpointer(small_disk, recoverables)
    torch.nn.init.constant_(recoverables["model"].weight, 1.0)
    checkpointer.save_checkpoint()
    torch.nn.init.constant_(recoverables["model"].weight, 2.0)
    with pytest.raises(UserError, match="0 MiB free"):
        checkpointer.save_checkpoint()
    (checkpoint,) = checkpointer.list_checkpoints()
    assert [path.name for path in small_disk.iterdir()] == [checkpoint.path.name]
    checkpointer.recover_if_possible()
    assert bool((recoverables["model"].weight == 1).all())


# ---- damaged


def truncate(path):
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b"")])
def test_names_the_damaged_file_and_what_to_do(tmp_path, model, damage):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    torch.nn.init.constant_(model.weight, 1.0)
    first, second = (checkpointer.save_checkpoint() for _ in range(2))
    damage(second.paramfiles["model"])
    with pytest.raises(UserError) as caught:
        checkpointer.recover_if_possible()
    message = str(caught.value)
    assert f"{second.path}/model.ckpt is damaged" in message
    assert f"remove the folder {second.path} to resume from {first.path.name}" in message
    torch.nn.init.constant_(model.weight, 0.0)
    shutil.rmtree(second.path)
    checkpointer.recover_if_possible()
    assert model.weight.item() == 1.0
    damage(first.paramfiles["model"])
    with pytest.raises(UserError, match="to start again"):
        checkpointer.recover_if_possible()


@pytest.mark.parametrize("content", ["", "unixtime: [", "unixtime: long ago"])
def test_names_a_damaged_description(tmp_path, model, content):
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    saved = checkpointer.save_checkpoint()
    (saved.path / "CKPT.yaml").write_text(content)
    with pytest.raises(UserError, match="CKPT.yaml is damaged; remove the folder"):
        checkpointer.recover_if_possible()


def test_names_the_damaged_file_of_a_process(tmp_path):
    def save(obj, path):
        for file in (path, path.with_suffix(".rank1")):
            torch.save({"a": 1}, file)

    def load(obj, path, end_of_epoch):
        torch.load(path.with_suffix(".rank1"), weights_only=True)

    checkpointer = KillSafeCheckpointer(tmp_path)
    checkpointer.add_recoverable("own", object(), load, save)
    saved = checkpointer.save_checkpoint()
    checkpointer.recover_if_possible()
    truncate(saved.path / "own.rank1")
    with pytest.raises(UserError, match="own.rank1 is damaged"):
        checkpointer.recover_if_possible()


def test_tells_another_run_from_a_damaged_file(tmp_path, model):
    KillSafeCheckpointer(tmp_path, {"model": model}).save_checkpoint()
    wider = torch.nn.Linear(2, 1, bias=False)
    with pytest.raises(UserError, match="model.ckpt does not fit this run.*size mismatch"):
        KillSafeCheckpointer(tmp_path, {"model": wider}).recover_if_possible()
    with pytest.raises(UserError, match="has no averaged.ckpt.*other options"):
        recoverables = {"model": model, "averaged": model}
        KillSafeCheckpointer(tmp_path, recoverables).recover_if_possible()
    checkpointer = KillSafeCheckpointer(tmp_path, {"model": model})
    checkpointer.add_recoverable("scaler", torch.amp.GradScaler("cpu"), optional_load=True)
    checkpointer.recover_if_possible()


class Malice:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_executes_nothing_that_a_file_says(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optimizer = torch.optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    recoverables = {"model": model, "optimizer": optimizer, "scaler": scaler}
    saved = KillSafeCheckpointer(tmp_path / "save", recoverables).save_checkpoint()
    for name, recoverable in recoverables.items():
        whole = saved.paramfiles[name].read_bytes()
        for write in (torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))):
            write({"weight": Malice()}, saved.paramfiles[name])
            with pytest.raises(UserError, match="is damaged"):
                KillSafeCheckpointer(tmp_path / "save", {name: recoverable}).recover_if_possible()
        saved.paramfiles[name].write_bytes(whole)
    assert not (tmp_path / "executed").exists()
