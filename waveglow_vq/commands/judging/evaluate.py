"""Score reconstructions against recordings."""

import math
import sys

from waveglow_vq.commands.arguments import path, recognizer_argument
from waveglow_vq.commands.common import write_report
from waveglow_vq.commands.file_plan import check_outputs
from waveglow_vq.errors import UserError, report_error, say

EXAMPLES = """\
  waveglow-vq evaluate recordings/ reconstructions/
  waveglow-vq evaluate recordings/ reconstructions/ --align --level_match --json scores.json
  waveglow-vq evaluate recordings/ reconstructions/ --judges pesq dnsmos --no_model 20
  waveglow-vq evaluate recordings/ refined/ --no_model 20 --beside flows_alone/
  waveglow-vq evaluate recordings/ decoded/ --texts metadata.csv --recognizer whisper

Files are paired by their relative paths.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument(
        "reference_folder", type=path, metavar="RECORDINGS", help="folder of reference recordings"
    )
    parser.add_argument(
        "estimate_folder", type=path, metavar="RECONSTRUCTIONS",
        help="folder of reconstructions with the same file names",
    )  # fmt: skip
    parser.add_argument("--json", type=path, metavar="FILE", help="write all scores to this file")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--align", action="store_true", help="remove a constant delay first")
    parser.add_argument(
        "--level_match", action="store_true", help="match the loudness of the recording first"
    )
    parser.add_argument(
        "--max_shift", type=int, metavar="SAMPLES",
        help="largest delay that --align searches (default: 2048)",
    )  # fmt: skip
    parser.add_argument("--ext", help="file extension (default: all audio files)")
    parser.add_argument(
        "--sample_rate", type=int, metavar="HZ", help="sample rate (default: that of the files)"
    )
    parser.add_argument("--resample", action="store_true", help="resample files at other rates")
    parser.add_argument(
        "--judges", nargs="+", metavar="NAME",
        help="judges of sound quality: none, all, or some of pesq, visqol, dnsmos, distillmos, "
        "content, torchcrepe (slow); make judges installs them (default: all that are installed)",
    )  # fmt: skip
    parser.add_argument(
        "--no_model", type=int, default=0, metavar="N",
        help="score also what the recordings' log-mels give without a model, by N iterations "
        "from noise, and from pulses at the pitch read off them",
    )  # fmt: skip
    parser.add_argument(
        "--beside", nargs="+", type=path, default=[], metavar="FOLDER",
        help="score also other reconstructions of the same recordings, each a row by its name",
    )  # fmt: skip
    parser.add_argument(
        "--texts", type=path, metavar="PATH",
        help="judge words too, by what the recordings say: a folder of .txt files, a manifest, or "
        "lines id|...|text",
    )  # fmt: skip
    recognizer_argument(parser)


def run(options):
    """Prints the table, and writes JSON where that is asked for; returns the exit status."""
    if options.max_shift is not None and options.max_shift < 0:
        raise UserError(f"--max_shift must be at least 0, got {options.max_shift}")
    if options.sample_rate is not None and options.sample_rate < 1:
        raise UserError(f"--sample_rate must be at least 1, got {options.sample_rate}")
    if options.no_model < 0:
        raise UserError(f"--no_model must be at least 0, got {options.no_model}")
    if options.recognizer and options.texts is None:
        raise UserError("--recognizer needs --texts, what the recordings say")
    if options.json is not None:
        check_outputs([options.json], options.force, "--json")
    from waveglow_vq.evaluation.score import format_table, score_folders
    from waveglow_vq.evaluation.sound_quality import JUDGES, installed, not_installed
    from waveglow_vq.evaluation.time_alignment import MAX_SHIFT_SAMPLES
    from waveglow_vq.evaluation.verdicts import print_report

    judges = options.judges or installed()
    if judges in (["none"], ["all"]):
        judges = [] if judges == ["none"] else list(JUDGES)
    results = score_folders(
        options.reference_folder,
        options.estimate_folder,
        ext=options.ext,
        sample_rate=options.sample_rate,
        align=options.align,
        level_match=options.level_match,
        allow_resampling=options.resample,
        max_shift_samples=MAX_SHIFT_SAMPLES if options.max_shift is None else options.max_shift,
        progress=sys.stderr.isatty(),
        judges=judges,
        no_model=options.no_model,
        beside=options.beside,
        texts=options.texts,
        recognizer=options.recognizer or "pocketsphinx",
    )
    # Where nobody chose, what is not heard is said.
    results["not_judged"] = not_installed() if options.judges is None else None
    print_report("\n".join(filter(None, [format_table(results), results["not_judged"]])))
    if options.json is not None:
        write_report(options.json, _without_nan(results), "--json")
    for sentence in results["left_out"]:
        say(sentence)
    for sentence in results["failed"].values():
        report_error(sentence)
    if results["failed"]:
        total = len(results["failed"]) + len(results["files"])
        say(f"{len(results['failed'])} of {total} files could not be scored")
    return 1 if results["failed"] else 0


def _without_nan(value):
    """JSON has no NaN: null stands for a measure that is not defined."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
