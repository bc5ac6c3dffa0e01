import os
import signal
import time

from waveglow_vq.errors import UserError
from waveglow_vq.signals import stop_signals
from waveglow_vq.utils import workers
from waveglow_vq.utils.workers import check_processes, run_tasks

import pytest
import torch

pytestmark = pytest.mark.usefixtures("heeded_signals")

_prepared = []


def square(number):
    return number * number, torch.get_num_threads()


def prepare():
    _prepared.append(7)


def prepared(_):
    return list(_prepared)


def refuse(number):
    if number == 3:
        raise UserError("three is refused")
    return number


def die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def run(work, workers, **options):
    return list(run_tasks(work, list(range(8)), workers, "counts", method="fork", **options))


@pytest.mark.parametrize("workers", [0, 1, 3, 20])
def test_results_come_in_the_order_of_the_tasks_from_one_thread_each(workers):
    threads = torch.get_num_threads()
    assert run(square, workers) == [(n * n, 1) for n in range(8)]
    assert torch.get_num_threads() == threads


def test_every_process_is_prepared_once():
    assert run(prepared, 2, prepare=prepare) == [[7]] * 8
    assert _prepared == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_passed_on(workers):
    threads = torch.get_num_threads()
    results = run_tasks(refuse, list(range(8)), workers, "counts", method="fork")
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="three is refused"):
        next(results)
    assert torch.get_num_threads() == threads


def test_a_process_that_is_killed_is_told_of():
    with pytest.raises(UserError, match="a process that counts was killed.*smaller num_workers"):
        run(die, 2)


def be_stopped(path):
    path.touch()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(5)
    finally:
        path.unlink()


def test_a_process_that_is_stopped_removes_what_is_half_written(tmp_path):
    with stop_signals(), pytest.raises(UserError, match="was killed"):
        list(run_tasks(be_stopped, [tmp_path / name for name in "abcd"], 2, "writes", "fork"))
    assert not list(tmp_path.iterdir())


def test_a_machine_without_shared_memory(monkeypatch):
    def no_lock():
        raise OSError(38, "Function not implemented")

    check_processes(1)
    monkeypatch.setattr(workers.multiprocessing, "Lock", no_lock)
    check_processes(0)
    with pytest.raises(UserError, match=r"^num_workers: 3 .*\(Function not .*--num_workers 0"):
        check_processes(3)


def test_more_processes_than_any_machine_feeds(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    check_processes(64)
    with pytest.raises(UserError, match="^num_workers: 65 processes .* at most 64 are"):
        check_processes(65)
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    check_processes(384)
