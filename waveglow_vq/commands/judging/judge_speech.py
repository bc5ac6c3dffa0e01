"""Judge speech from text beside recordings of the same sentences."""

from pathlib import Path

from waveglow_vq.commands.arguments import (
    compute_arguments,
    path,
    recognizer_argument,
    search_arguments,
    search_changes,
)
from waveglow_vq.commands.common import load_model, write_report
from waveglow_vq.errors import UserError

EXAMPLES = """\
  waveglow-vq judge-speech EXPORT_FOLDER manifests/test.json --data_folder wavs/ \\
      --output report.json

Prints a table, writes everything to report.json, and pictures of alignments and some audio files to
the folder report/ beside it. Given train.json, it tells whether the model fits what it was trained
on.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.usage = "%(prog)s MODEL MANIFEST --data_folder DIR --output FILE [options]"
    parser.add_argument("model", type=path, metavar="MODEL", help="export folder")
    parser.add_argument(
        "manifest", type=path, metavar="MANIFEST",
        help="test.json or train.json of a prepared corpus",
    )  # fmt: skip
    parser.add_argument(
        "--data_folder", type=path, required=True, metavar="DIR",
        help="folder of the prepared audio files",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=path, required=True, metavar="FILE",
        help="report to write, such as report.json",
    )  # fmt: skip
    for name, default, words in (
        ("utterances", 50, "utterances to judge"),
        ("others", 10, "other recordings to compare each with"),
        ("pictures", 5, "utterances whose alignment is plotted"),
        ("samples", 5, "utterances whose audio is saved"),
        ("seed", 0, "random seed"),
    ):
        words += " (default: %(default)s)"
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=words)
    search_arguments(parser)
    parser.add_argument(
        "--sigma", type=float, help="standard deviation of the noise (default: the codec's)"
    )
    parser.add_argument("--no_words", action="store_true", help="skip the word error rate (faster)")
    recognizer_argument(parser)
    parser.add_argument(
        "--bars", nargs="+", default=[], metavar="NAME=VALUE",
        help="targets to show beside the measured values, such as mcd_ratio=1.3",
    )  # fmt: skip
    compute_arguments(parser)


def run(options):
    """Prints the table and says where everything is; returns the exit status."""
    from waveglow_vq.evaluation.text_to_speech.judgement import judge_text_to_speech
    from waveglow_vq.evaluation.text_to_speech.report import checked_bars, format_report
    from waveglow_vq.evaluation.verdicts import print_report

    bars = checked_bars(options.bars)
    report = Path(options.output)
    if report.suffix != ".json":
        raise UserError(f"--output: expected a .json file name, got {report}")
    for name in ("utterances", "others"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}")
    results = judge_text_to_speech(
        load_model(options, "judge-speech", ("TextToSpeech",)),
        options.manifest,
        options.data_folder,
        options.utterances,
        options.others,
        not options.no_words,
        search_changes(options),
        options.sigma,
        options.seed,
        report.with_suffix(""),
        options.pictures,
        options.samples,
        recognizer=options.recognizer,
    )
    write_report(report, results, "--output")
    print_report(format_report(results, bars))
    print(f"\n{report}, {report.with_suffix('')}: the report, pictures and audio files")
    return 0
