"""Processes for the tests of what happens when one is killed or fails: forked, since a new one
would spend seconds on imports."""

import contextlib
import datetime
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import torch
from tqdm import tqdm

PATIENCE = 60  # seconds, after which a process is taken to hang


def fork(work):
    """Runs ``work()`` in a child; returns its process id. The child's status is 0 if it returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            # That of progress bars, which log messages take, is otherwise shared by all processes:
            # one that is killed while it holds it would leave the others waiting for ever.
            tqdm.set_lock(threading.RLock())
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def wait(pid):
    """The child's status: 0, 1 for an exception, -9 if it was killed; or "hangs"."""
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


def kill_at_event(number):
    """From now on, this process is killed at the given audit event that concerns files."""
    left = number

    def count(event, arguments):
        nonlocal left
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def together(count, folder, work):
    """Runs ``work(rank)`` in so many processes that can talk (gloo); returns their statuses."""

    def member(rank):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{Path(folder) / 'rendezvous'}",
            rank=rank,
            world_size=count,
            timeout=datetime.timedelta(seconds=PATIENCE),
        )
        work(rank)
        with contextlib.suppress(RuntimeError):
            torch.distributed.barrier()

    pids = [fork(lambda rank=rank: member(rank)) for rank in range(count)]
    return [wait(pid) for pid in pids]
