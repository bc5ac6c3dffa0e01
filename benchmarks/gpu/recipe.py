"""The recipe's train.py as a user runs it, on a generated corpus, for a few hundred steps."""

import os
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from waveglow_vq.audio.io import write_wav
from waveglow_vq.errors import UserError

import torch

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "LJSpeech"
CLIPS, SECONDS_OF_A_CLIP = 64, 4.0
SPEED = re.compile(r"segments_per_second: ([-+.\de]+)")


def cases(options):
    """See rows.py."""
    found = []
    for size, batch, segments in options.recipe_runs:
        key = {"name": size, "batch": "default" if batch is None else batch}
        found.append((key, partial(of_run, options, size, batch, segments)))
    return found


def write_corpus(folder, clips=CLIPS):
    """Bursts of noise, as LJSpeech has its clips."""
    generator = torch.Generator().manual_seed(0)
    (folder / "wavs").mkdir(parents=True)
    lines = []
    samples = round(22050 * SECONDS_OF_A_CLIP)
    loudness = 0.02 + 0.1 * torch.sin(torch.arange(samples) / 2000.0).square()
    for number in range(clips):
        name = f"LJ001-{number + 1:04d}"
        wav = loudness * torch.randn(samples, generator=generator)
        write_wav(folder / "wavs" / f"{name}.wav", wav.clamp(-1, 1), 22050)
        lines.append(f"{name}|Noise.|Noise.\n")
    (folder / "metadata.csv").write_text("".join(lines), "utf-8")
    return folder


def of_run(options, size, batch, segments):
    """Two epochs of so many segments: the speed of the second has nothing of compiling in it. Where
    that would take too long, the recipe's time limit ends the first one."""
    # For what is done before and after the training.
    seconds = max(5.0, 0.8 * options.seconds - 15)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        corpus = write_corpus(folder / "LJSpeech-1.1", options.recipe_clips)
        command = [sys.executable, "train.py", "hparams/mel.yaml", "--data_folder", str(corpus)]
        command += ["--output_folder", str(folder / "run"), "--size", size]
        command += ["--device", options.device, "--noprogressbar", "--number_of_epochs", "2"]
        command += ["--segments_per_epoch", str(segments), "--max_valid_utterances", "2"]
        command += ["--samples_per_epoch", "0", "--test_samples", "0"]
        command += ["--max_minutes", f"{seconds / 60:.4f}"]
        command += [] if batch is None else ["--batch_size", str(batch)]
        command += ["--precision", options.train_dtypes[-1], *options.recipe_arguments]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        log, begin = folder / "output.txt", time.monotonic()
        status = watch(command, {**os.environ, "PYTHONPATH": path}, log, folder / "run", options)
        taken = time.monotonic() - begin
        text = log.read_text("utf-8", errors="replace").strip()
        print(text[-6000:], flush=True)
        speeds = speeds_of(folder / "run")
        if not speeds:
            last = (text.splitlines() or ["nothing"])[-1]
            raise UserError(f"train.py (status {status}) has given no speed; its end: {last}")
    return {
        "segments_per_second": speeds[-1],
        "first_epoch": speeds[0],
        "epochs": len(speeds),
        "segments_of_an_epoch": segments,
        "seconds": taken,
    }


def speeds_of(run):
    """Segments per second of each epoch that the log of a run holds."""
    log = run / "train_log.txt"
    text = log.read_text("utf-8") if log.is_file() else ""
    return [float(number) for number in SPEED.findall(text)]


def watch(command, environment, log, run, options):
    """Runs it; ends it when both speeds are known or the time is over. Returns its status; None if
    it had to be ended."""
    begin = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=RECIPE, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None and len(speeds_of(run)) < 2:
                if time.monotonic() - begin > options.seconds - 3:
                    break
                time.sleep(0.1)
            return process.poll()
        finally:
            process.kill()
            process.wait(10)
