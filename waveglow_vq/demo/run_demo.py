"""What the recipes' demos share: their options, and running the generator of the corpus, the recipe
and the report, each in a process of its own.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import write_json


def demo_options(description, output, arguments=None, utterances=64, more=None):
    """The options of a demo.

    ``output`` and ``utterances`` are defaults; ``more`` are further options, which are numbers:
    ``{name: (default, help)}``.

    Example
    -------
    >>> demo_options("Trains and converts.", "demo_output", ["--minutes", "2"]).minutes
    2.0
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--output", default=output, help="folder for everything")
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="of training (default: %(default)s)"
    )
    for name, (default, words) in (more or {}).items():
        words = f"{words} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=float, default=default, help=words)
    parser.add_argument(
        "--utterances",
        type=int,
        default=utterances,
        help="of the generated corpus, for each speaker (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument(
        "--train_option",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="further options of train.py (of the codec, where there are two trainings)",
    )
    parser.add_argument("--only_report", action="store_true", help="report an earlier run")
    return parser.parse_args(arguments)


def run_demo(script, options, corpus_options, training, reporting):
    """Corpus, training, report: the commands that a user would run. The script, beside train.py, is
    run again with ``--only_report``.

    ``corpus_options`` are further arguments of ``waveglow-vq demo-corpus``; ``training`` are
    options of train.py, before which ``--train_option`` goes; ``reporting`` tells the reader what
    the report does.
    """
    begin = time.monotonic()
    output, recipe = Path(options.output).resolve(), Path(script).resolve().parent
    generate(output / "corpus", options.utterances, corpus_options)
    chosen = {**training, **dict(option.split("=", 1) for option in options.train_option)}
    train(recipe / "train.py", "vq.yaml", output, output / "run", options, options.minutes, chosen)
    report_again(script, output, options, reporting)
    print_time(begin)


def generate(corpus, utterances, corpus_options=()):
    """Generates a corpus with ``waveglow-vq demo-corpus``."""
    call(
        "generating a corpus",
        ["-m", "waveglow_vq", "demo-corpus", corpus, "--utterances", utterances, *corpus_options],
    )


def train(script, hparams, output, run, options, minutes, chosen, what="training"):
    """Runs a recipe, with a file in ``hparams`` beside it, on the corpus of a demo. ``chosen`` are
    further options of the script; ``what`` tells the reader what is trained.
    """
    arguments = [script, script.parent / "hparams" / hparams]
    if not sys.stderr.isatty():
        arguments.append("--noprogressbar")  # A log is no place for progress bars.
    arguments += ["--device", options.device, "--data_folder", output / "corpus"]
    arguments += ["--output_folder", run, "--max_minutes", minutes]
    for name, value in chosen.items():
        arguments += [f"--{name}", value]
    call(f"{what} for {minutes:g} minutes", arguments)


def report_again(script, output, options, reporting):
    """Runs a demo again for its report, in a process that has only the files."""
    call(reporting, [script, "--output", output, "--device", options.device, "--only_report"])


def print_time(begin):
    """Prints the time since ``time.monotonic()`` was ``begin``."""
    print(f"Everything took {(time.monotonic() - begin) / 60:.1f} minutes.")


def call(what, arguments):
    """Runs Python, shows the command, and stops if it fails."""
    command = [sys.executable, *map(str, arguments)]
    print(f"\n== {what}\n{shlex.join(command)}\n", flush=True)
    # Threads that spin while they wait slow down everything beside them.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    status = subprocess.run(command, env=environment, check=False).returncode
    if status < 0:
        raise UserError(f"{what} failed: stopped by {signal.Signals(-status).name}")
    if status:
        raise UserError(f"{what} failed; its message is above")


def write_figures(output, text, figures):
    """Writes a report for people, ``figures.txt``, and for programs, ``figures.json``."""
    (output / "figures.txt").write_text(text + "\n", "utf-8")
    write_json(output / "figures.json", figures)


def print_places(output, places):
    """Lists what is where: ``places`` are pairs of a name below ``output`` and its contents."""
    print(f"\nIn {output}:")
    width = max(len(place) for place, _ in places) + 2
    for place, what in places:
        print(f"  {place:<{width}}{what}")
