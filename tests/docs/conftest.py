import contextlib
import io
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from waveglow_vq.__main__ import main
from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import write_wav

import numpy as np
import pytest

from tests.checkpoints.published import random_tensors, save_nvidia
from tests.docs.pages import ROOT
from tests.inference.exports import export_tiny, export_tiny_speech, voiced_speech_like

LABELS = ["p225", "p226", "p227"]
# Starting a Python with torch takes seconds: where an example calls waveglow-vq, the process of the
# test runs the command.
WAVEGLOW_VQ = """\
#!/bin/sh
printf '%s\\0' "$PWD" "$@" > "$CALLS/requests"
read -r status < "$CALLS/replies"
cat "$CALLS/stdout"
cat "$CALLS/stderr" >&2
exit "$status"
"""


@pytest.fixture(scope="session")
def things(tmp_path_factory):
    """What examples name: recordings, tiny exports, a published checkpoint."""
    folder, runs = tmp_path_factory.mktemp("things"), tmp_path_factory.mktemp("runs")
    wav = voiced_speech_like(12000)
    write_wav(folder / "speech.wav", wav, 22050)
    for index, name in enumerate(("one", "two")):
        write_wav(folder / f"recordings/{name}.wav", voiced_speech_like(8000, seed=index), 22050)
    np.save(folder / "mel.npy", LogMel()(wav[None])[0].numpy())
    (folder / "sentences.txt").write_text("Who, me?\nYes, you!\n")
    (folder / "story.txt").write_text("The quick brown fox jumps. Over the lazy dog!\n")
    exports = {
        "vocoder": export_tiny(runs / "mel", "mel")[0],
        "codec": export_tiny(runs / "vq", "mel_vq")[0],
        "converter": export_tiny(runs / "many", "mel_vq", labels=LABELS, use_pitch=True)[0],
    }
    exports["tts"] = export_tiny_speech(runs / "speech", exports["codec"])
    save_nvidia(folder / "waveglow_256channels.pt", random_tensors(), legacy=False)
    for name, export in exports.items():
        shutil.copytree(export, folder / name)
    return folder


@pytest.fixture
def place(things, tmp_path, monkeypatch):
    """The folder where the examples of a page run."""
    folder = tmp_path / "page"
    shutil.copytree(things, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name, module in list(sys.modules.items()):
        # Not getattr, which makes SpeechBrain's lazy modules import what is not installed.
        if str(vars(module).get("__file__")).startswith(str(folder)):
            del sys.modules[name]
    root = logging.getLogger()
    for handler in [h for h in root.handlers if type(h) is logging.FileHandler]:
        root.removeHandler(handler)


@pytest.fixture
def bash(place, tmp_path):
    """Runs lines of bash; returns the exit status and what they said."""
    calls = tmp_path / "calls"
    calls.mkdir()
    for name in ("requests", "replies"):
        os.mkfifo(calls / name)
    (calls / "waveglow-vq").write_text(WAVEGLOW_VQ)
    (calls / "waveglow-vq").chmod(0o755)
    path = [calls, Path(sys.executable).parent, os.environ["PATH"]]
    environment = os.environ | {
        "CALLS": str(calls),
        "PATH": ":".join(map(str, path)),
        "PYTHONPATH": f"{place}:{ROOT}",
    }

    def run(code):
        (calls / "code").write_text(code)
        ending = 'bash -e "$CALLS/code"; printf "%s\\0" end $? > "$CALLS/requests"'
        with open(calls / "said", "w") as said:
            process = subprocess.Popen(["bash", "-c", ending], env=environment, stdout=said,
                                       stderr=subprocess.STDOUT)  # fmt: skip
            while True:
                where, *words = (calls / "requests").read_text().split("\0")[:-1]
                if where == "end":
                    break
                _answer(where, words, calls)
        process.wait()
        return int(words[0]), (calls / "said").read_text()

    return run


def _answer(where, words, calls):
    """Runs a command as WAVEGLOW_VQ has asked for."""
    before = os.getcwd()
    os.chdir(where)
    out, error = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            status = main(words)
    except SystemExit as stop:
        status = stop.code
    finally:
        os.chdir(before)
    for name, stream in (("stdout", out), ("stderr", error)):
        stream.flush()
        (calls / name).write_bytes(stream.buffer.getvalue())
    (calls / "replies").write_text(f"{status or 0}\n")
