"""Peak memory of streams by the length of the sound, with random weights.

Each is measured in a process of its own.

    python benchmarks/stream_memory.py --sizes tiny small --seconds 10 600
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain and torchaudio)
from waveglow_vq.audio.io import WavWriter
from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.inference import SpeechCodec, VoiceConverter, WaveGlowVocoder

import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.encoder import CategoricalEncoder

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measuring import begin, finish  # noqa: E402
from speed import SIZES  # noqa: E402

HPARAMS = Path(__file__).resolve().parents[1] / "hparams"
# A stream of log-mels; sound files, read and written; through codes; to another voice.
TASKS = ("log-mels", "vocode", "codec", "convert")
RATE_OF_FILES = 48000


def build(size, task, device="cpu"):
    """The interface of a task, with random weights."""
    torch.manual_seed(0)
    changes, hparams = {"size": size}, {}
    if task == "convert":  # as recipes/VCTK/hparams/vq.yaml has it
        changes |= {"global_condition": "speaker", "max_speakers": 2}
        changes |= {"use_instance_norm": True, "use_pitch": True}
        hparams["speakers"] = CategoricalEncoder()
        hparams["speakers"].update_from_iterable(["one", "other"])
    preset = "mel" if task in ("log-mels", "vocode") else "mel_vq"
    with open(HPARAMS / f"{preset}.yaml", encoding="utf-8") as stream:
        preset = load_hyperpyyaml(stream, changes)
    interfaces = {"codec": SpeechCodec, "convert": VoiceConverter}
    modules = {"model": preset["model"].eval(), "features": preset["contract"]["features"]}
    run_opts = {"device": device}
    return interfaces.get(task, WaveGlowVocoder)(
        modules=modules, hparams=hparams, run_opts=run_opts
    )


def write_noise(path, seconds):
    """A stereo file of noise, as loud as speech."""
    samples = round(seconds * RATE_OF_FILES)
    generator = torch.Generator().manual_seed(0)
    with soundfile.SoundFile(path, "w", RATE_OF_FILES, 2, "PCM_16") as file:
        for begin in range(0, samples, RATE_OF_FILES):
            count = min(RATE_OF_FILES, samples - begin)
            file.write(0.05 * torch.randn(count, 2, generator=generator).numpy())


def run(size, task, seconds):
    """One measurement, in this process: peak in MiB, and seconds of computing."""
    interface = build(size, task)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.wav", Path(folder) / "out.wav"
        if task == "log-mels":
            features = interface.mods.features
            frames = round(seconds * features.sample_rate / features.hop_length)
            chunks = (torch.randn(80, min(64, frames - a)) - 5 for a in range(0, frames, 64))
            blocks = interface.stream(chunks, generator=0)
        else:
            write_noise(source, seconds)
            more = {"speaker": "other"} if task == "convert" else {}
            blocks = interface.stream_file(source, generator=0, **more)
        begin = time.perf_counter()
        with WavWriter(target, interface.sample_rate) as writer:
            for block in blocks:
                writer.write(block)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mib": peak, "compute_seconds": time.perf_counter() - begin}


def measure(size, task, seconds, threads):
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--sizes", size, "--tasks", task, "--seconds"]
    command += [str(seconds), "--threads", str(threads), "--in_this_process"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{size}, {task}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "small"])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seconds", nargs="+", type=float, default=[10.0, 600.0], help="of sound")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="also write all figures to this file")
    parser.add_argument("--in_this_process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.device = "cpu"
    if min(options.seconds) < 1 or options.threads < 1:
        raise UserError("--seconds and --threads must be at least 1")
    return options


@cli_errors()
def main(arguments=None):
    """The command line; returns the results."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.in_this_process:
        result = run(options.sizes[0], options.tasks[0], options.seconds[0])
        print(json.dumps(result))
        return result
    machine = begin(options)
    lengths = " | ".join(f"{seconds:g} s [MiB] | real-time factor" for seconds in options.seconds)
    print(f"\n| size | | {lengths} |\n|---|---|{'---|---|' * len(options.seconds)}")
    results = []
    for size in options.sizes:
        for task in options.tasks:
            row = [measure(size, task, seconds, options.threads) for seconds in options.seconds]
            results.append({"size": size, "task": task, "lengths": options.seconds, "rows": row})
            cells = " | ".join(
                f"{r['peak_mib']:.0f} | {r['compute_seconds'] / s:.3f}"
                for r, s in zip(row, options.seconds, strict=True)
            )
            print(f"| {size} | {task} | {cells} |", flush=True)
    return finish(options, {"machine": machine, "results": results})


if __name__ == "__main__":
    main()
