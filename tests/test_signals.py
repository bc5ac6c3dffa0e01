import os
import signal
import subprocess
import sys
import threading

from waveglow_vq.__main__ import COMMANDS, main
from waveglow_vq.audio.io import WavWriter
from waveglow_vq.signals import Stopped, stop_signals

import pytest
import torch

pytestmark = pytest.mark.usefixtures("heeded_signals")


@pytest.mark.parametrize("name, status", [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_stopped_command_leaves_nothing_half_written(name, status, monkeypatch, tmp_path, capsys):
    def run(options):
        with WavWriter(tmp_path / "new" / "long.wav", 8000) as writer:
            writer.write(torch.zeros(10))
            os.kill(os.getpid(), getattr(signal, name))
            writer.write(torch.zeros(10))

    monkeypatch.setattr(COMMANDS["info"], "run", run)
    with pytest.raises(SystemExit) as stop:
        main(["info", "."])
    assert stop.value.code == status
    assert capsys.readouterr().err == f"ended by {name}\n"
    assert not list((tmp_path / "new").iterdir())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_further_signals_do_not_disturb_the_first():
    order = []
    with pytest.raises(Stopped) as stop, stop_signals(), stop_signals():
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            order.append("removed")
    assert (stop.value.number, order) == (signal.SIGHUP, ["removed"])
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_what_is_ignored_or_handled_elsewhere_stays_so():
    seen = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with stop_signals():
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_other_threads_get_no_signals():
    def work():
        with stop_signals():
            done.append(signal.getsignal(signal.SIGTERM))

    done = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.SIG_DFL]


_PRINT = "from waveglow_vq.errors import cli_errors\nwith cli_errors(): print('x' * {})"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "redirection, status, words",
    [
        (">&-", 1, "standard output is closed"),
        ("> /dev/full", 1, "standard output fails (No space left on device)"),
        ("<&- >&- 2>&-", 1, ""),
        ("> /dev/full 2>/dev/full", 1, ""),
        (">/dev/null 2>&-", 0, ""),
    ],
)
def test_output_that_is_lost_is_said(redirection, status, words, unbuffered):
    for size in (5, 100_000):
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, _PRINT.format(size)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
        assert done.returncode == status, done.stderr
        assert done.stderr.count("\n") == bool(words) and words in done.stderr


def test_any_name_can_be_printed():
    code = r"from waveglow_vq.errors import cli_errors" "\n"
    code += r"with cli_errors(): print('\udcfc\xfc')"
    for encoding, shown in (("ascii", b"\\udcfc\\xfc\n"), ("utf-8", b"\\udcfc\xc3\xbc\n")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": encoding},
        )
        assert (done.returncode, done.stdout) == (0, shown), done.stderr
