"""Processes that work through a list of tasks, one thread each.

Authors
 * The waveglow-vq developers, 2026
"""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from waveglow_vq.errors import UserError

import torch

# Where nobody says how many processes there are to be, at most so many.
MOST_WORKERS = 16


def worker_count(wanted=None):
    """So many processes as are wanted; None: as many as there are processors, at most 16."""
    return wanted or min(MOST_WORKERS, os.cpu_count() or 1)


def run_tasks(work, tasks, workers, method, doing, prepare=None):
    """Yields the results of all tasks in their order, whatever the number of processes. When it is
    closed, or an error ends it, no process is left.

    Arguments
    ---------
    work : callable
        ``work(task)`` gives a result; of several processes, one that can be pickled.
    tasks : list
        What to work on.
    workers : int
        Processes; with 1, or a single task, there is no second process.
    method : str
        How processes are started: ``fork`` or ``spawn``.
    doing : str
        What a process does, for the error.
    prepare : callable or None
        ``prepare()`` is called once in each process that is started.

    Yields
    ------
    object
        A result.

    Raises
    ------
    UserError
        If a process was killed.

    Example
    -------
    >>> list(run_tasks(str, [1, 2], 1, "spawn", "writes numbers"))
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
    with ProcessPoolExecutor(workers, context, _start, (os.getpid(), prepare)) as pool:
        try:
            yield from pool.map(work, tasks)
        except BrokenProcessPool as error:
            raise UserError(
                f"a process that {doing} was killed, perhaps for want of memory: call again to go"
                " on where it stopped, with a smaller num_workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # the first error is enough


def _start(parent, prepare):
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers in good order
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    if prepare is not None:
        prepare()


def _leave_with(parent):
    """Ends a worker whose parent was killed; it would wait for its next task for ever."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
