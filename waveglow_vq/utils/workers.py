"""Works through a list of tasks in several processes, one thread each."""

import functools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from waveglow_vq.errors import UserError

import torch

# Where nobody says how many processes there are to be, at most so many.
MOST_WORKERS = 16
# More processes than this need a machine with many cores.
MOST_LOADERS = 64
# Each loads 2,000 segments per second or more (docs/training.md).
GPU_LOADERS = 8
# Where processes are not forked, each imports the program that started it.
UNGUARDED = "; a program of your own has to start its work under: if __name__ == '__main__'"


def worker_count(wanted=None):
    """The number of processes: as wanted, or one per core, at most 16."""
    return wanted or min(MOST_WORKERS, os.cpu_count() or 1)


def loader_processes(wanted, device_type):
    """How many processes load batches: as wanted, or, if that is None, one on a CPU, which trains
    more slowly than one loads, and up to eight on a GPU, which leaves each of the processes that
    train on this machine a core.

    Example
    -------
    >>> loader_processes(None, "cpu"), loader_processes(0, "cuda")
    (1, 0)
    """
    if wanted is not None or device_type != "cuda":
        return 1 if wanted is None else wanted
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = (mine or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return min(GPU_LOADERS, max(1, share - 1))


def check_processes(workers):
    """Checks that this machine can run a number of worker processes (0 or None for none): at most
    64, or four times the cores, and with shared memory, which some containers and function services
    lack.

    Example
    -------
    >>> check_processes(0)
    """
    if not workers:
        return
    most = max(MOST_LOADERS, 4 * (os.cpu_count() or 1))
    if workers > most:
        raise UserError(
            f"num_workers: {workers} processes are more than this machine can feed; at most {most} "
            "are accepted, and one per core is enough"
        )
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise UserError(
            f"num_workers: {workers} processes need shared memory, which is not available here "
            f"({error.strerror}): give --num_workers 0, or make /dev/shm a folder to write to"
        ) from error


def run_tasks(work, tasks, workers, doing, method=None, prepare=None):
    """Yields the results ``work(task)`` of all tasks in order. When it is closed or fails, no
    process is left. With one worker, or a single task, there is no second process; else what is
    passed and returned is pickled.

    ``doing`` says for the error what a process does. ``prepare()`` is called once in each process
    that is started. ``method`` is ``fork``, ``spawn`` or ``forkserver``; None: as Python has it on
    this system, or as the program was told (``multiprocessing.set_start_method``).

    Example
    -------
    >>> list(run_tasks(str, [1, 2], 1, "writes numbers"))
    ['1', '2']
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        # One thread, as in the processes: more would round differently.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from map(work, tasks)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, context, _start, (prepare,)) as pool:
        try:
            yield from pool.map(functools.partial(_unless_stopped, work), tasks)
        except BrokenProcessPool as error:
            hint = "" if context.get_start_method() == "fork" else UNGUARDED
            raise UserError(
                f"a process that {doing} was killed, perhaps out of memory: call again to"
                f" resume, with a smaller num_workers{hint}"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # the first error is enough


def _start(prepare):
    torch.set_num_threads(1)
    # What reaches all processes of a terminal is the parent's: it ends the workers in good order.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if prepare is not None:
        prepare()


def _exit(number, frame):
    raise SystemExit(128 + number)


def _unless_stopped(work, task):
    """Works; a process that is told to end removes what is half-written, and ends."""
    try:
        return work(task)
    except SystemExit as stop:
        # The pool would take it for the result of the task, and keep the process.
        os._exit(stop.code)


def _leave_with_parent():
    """Ends a worker whose parent was killed; it would wait for its next task for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
