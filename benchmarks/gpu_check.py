"""All checks of a GPU in one call of a few minutes: parity with the CPU; speed and memory of
sampling and training, launches, the recipe itself.

    python benchmarks/gpu_check.py --out DIR
    python benchmarks/gpu_check.py --out DIR --waveglow_folder /clones/waveglow --minutes 8
    python benchmarks/gpu_check.py --out DIR --parts parity sampling
    python benchmarks/gpu_check.py --out DIR --device cpu

Every part has a process and a time limit of its own; what fails or takes too long is named and does
not end the rest. DIR/gpu_check.md and gpu_check.json are written after every part, gpu_check.jsonl
after every row, and gpu_check.log holds all that was printed. On a CPU, the parts are small.
"""

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from waveglow_vq.errors import UserError, cli_errors

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from gpu.report import as_json, peaks_of, section, summary  # noqa: E402
from gpu.rows import Journal, Watched, attempt, measure  # noqa: E402

# In this order: share of the time, and seconds that a row may take. What a part leaves of its time
# goes to those that follow.
PARTS = {
    "machine": (40, 30),
    "parity": (55, 60),
    "sampling": (65, 40),
    "training": (80, 45),
    "recipe": (45, 60),
    "launches": (30, 30),
    "processes": (15, 30),
}
SIZES = ("nvidia256", "base", "small", "tiny")
DTYPES = ("fp32", "fp16", "bf16")
# What is written before the time is over, and how long an end takes.
RESERVE_SECONDS = 4.0


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--out", required=True, help="folder for tables and figures")
    parser.add_argument("--minutes", type=float, default=5.0, help="for all parts (default: 5)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu (default: cuda)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="default: all; on a CPU: tiny")
    parser.add_argument("--waveglow_folder", help="clone of NVIDIA/waveglow, to stand beside")
    parser.add_argument("--in_process", action="store_true", help="without processes: no limits")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 0 < options.minutes < 1000:
        raise UserError("--minutes must be positive")
    return options


def complete(options):
    """Adds what follows from the device: how much is measured of what. Needs torch."""
    import torch

    on_cuda = torch.device(options.device).type == "cuda"
    if on_cuda and torch.cuda.is_available():
        torch.cuda.set_device(torch.device(options.device).index or 0)
    options.preset = "{}" if on_cuda else '{"flow": {"flows": 2}}'
    options.counted_sizes = [s for s in SIZES if s in options.sizes] if options.sizes else None
    if on_cuda:
        options.sizes = options.sizes or list(SIZES)
        options.counted_sizes = options.counted_sizes or ["small", "base", "nvidia256"]
        options.dtypes = [d for d in DTYPES if d != "bf16" or torch.cuda.is_bf16_supported(False)]
        options.train_dtypes = options.dtypes[1:]
        options.batches, options.audio_seconds = [1, 8], 8.0
        options.train_batches, options.long_segments = [64, 256, 8], True
        options.parity_seconds, options.counted_batch = 1.0, 8
        options.recipe_runs = [("small", None, 16384), ("base", None, 8192)]
        options.recipe_clips, options.recipe_arguments = 64, []
    else:
        options.sizes = options.sizes or ["tiny"]
        options.counted_sizes = options.counted_sizes or ["tiny", "small", "base"]
        options.dtypes = ["fp32"] + ["bf16"] * bfloat_is_native()
        options.train_dtypes = ["fp32"]
        options.batches, options.audio_seconds = [1], 0.5
        options.train_batches, options.long_segments = [2], False
        options.parity_seconds, options.counted_batch = 0.5, 1
        options.recipe_runs = [("tiny", 2, 10)]
        options.recipe_clips = 24
        options.recipe_arguments = ["--preset", "{flow: {flows: 2}}"]
    return options


def bfloat_is_native():
    """Whether this CPU multiplies in bf16; others take a thousand times as long."""
    from waveglow_vq.utils.devices import SLOWER, slowdown

    return slowdown("bf16") <= SLOWER


def run_part(options):
    """In the process of a part: measures it when the line with the end of its time comes."""
    import waveglow_vq.training.waveglow_brain  # noqa: F401  (what takes long to import)

    part = importlib.import_module(f"gpu.{options.part}")
    line = sys.stdin.readline()
    if not line:
        return
    # The last second is for the end; what was imported has taken some already.
    seconds = options.seconds = float(line) - time.time() - 1.0
    measure(options.part, part.cases(complete(options)), journal_of(options), seconds)


def check_gpu(device):
    """A UserError if there is none, before all parts say so."""
    import torch

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch finds no GPU; --device cpu runs a small form")


def journal_of(options):
    """Of all parts."""
    return Journal(Path(options.out) / "gpu_check.jsonl")


class Check:
    """The parts in their order, and the report that grows with them."""

    def __init__(self, options):
        self.options, self.journal = options, journal_of(options)
        self.begin = time.monotonic()
        self.sections, self.rows, self.ended = {}, {}, {}
        self.log = Path(options.out) / "gpu_check.log"

    def left(self):
        """Seconds."""
        return 60 * self.options.minutes - RESERVE_SECONDS - (time.monotonic() - self.begin)

    def run(self):
        """Runs all; returns the report."""
        parts = list(self.options.parts)
        with tempfile.TemporaryDirectory() as caches:
            watched = {part: self.watched(part, caches) for part in parts}
            try:
                for number, part in enumerate(parts):
                    following = parts[number + 1 : number + 2]
                    self.run_one(part, watched, following, sum(PARTS[p][0] for p in parts[number:]))
            finally:
                for process in watched.values():
                    process.kill()
        return self.report()

    def watched(self, part, caches):
        """Its process. What Triton compiles is kept in a folder of its own, so that the time of
        compiling is seen."""
        options = self.options
        command = [sys.executable, str(HERE / "gpu_check.py"), "--part", part]
        command += ["--out", str(options.out), "--device", options.device]
        if options.sizes:
            command += ["--sizes", *options.sizes]
        if options.waveglow_folder:
            command += ["--waveglow_folder", str(Path(options.waveglow_folder).resolve())]
        path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        environment["TRITON_CACHE_DIR"] = str(Path(caches) / part)
        return Watched(part, command, self.journal, self.log, environment)

    def run_one(self, part, watched, following, shares):
        """A part, and, meanwhile, the imports of the one that follows."""
        began = time.monotonic()
        seconds = self.left() * PARTS[part][0] / shares
        if self.options.in_process:
            self.ended[part] = self.in_process(part, seconds)
        else:
            if (os.cpu_count() or 1) >= 4:
                for name in following:
                    watched[name].start()
            self.ended[part] = watched[part].supervise(seconds, PARTS[part][1])
        self.rows[part] = self.journal.rows(part)
        self.sections[part] = section(
            part,
            self.rows[part],
            self.journal.missing(part),
            self.ended[part],
            time.monotonic() - began,
            peaks_of(self.rows),
        )
        print(self.sections[part], flush=True)
        self.report()

    def in_process(self, part, seconds):
        """For tests: the part here; why it has ended early."""

        def call():
            self.options.seconds = seconds
            cases = importlib.import_module(f"gpu.{part}").cases(self.options)
            measure(part, cases, self.journal, seconds)

        return attempt(call).get("failed")

    def report(self):
        """Writes what there is."""
        out = Path(self.options.out)
        last = summary(self.rows)
        command = " ".join(["python benchmarks/gpu_check.py", *sys.argv[1:]])
        head = f"# GPU check\n\n`{command}`, {time.monotonic() - self.begin:.0f} s\n"
        text = "\n".join([head, *self.sections.values(), last])
        (out / "gpu_check.md").write_text(text, "utf-8")
        report = {"command": command, "rows": self.rows, "ended": self.ended, "summary": last}
        (out / "gpu_check.json").write_text(as_json(report), "utf-8")
        return report


@cli_errors()
def main(arguments=None):
    """The command line; returns the report."""
    options = parse(arguments)
    if options.part:
        return run_part(options)
    check_gpu(options.device)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("jsonl", "log"):
        (out / f"gpu_check.{name}").unlink(missing_ok=True)
    if options.in_process:
        complete(options)
    # Processes of parts end with this one.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        report = Check(options).run()
    finally:
        signal.signal(signal.SIGTERM, before)
    print(report["summary"])
    return report


if __name__ == "__main__":
    main()
