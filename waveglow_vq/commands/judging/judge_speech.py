"""Judge speech from text beside recordings of the same sentences.

Authors
 * The waveglow-vq developers, 2026
"""

from pathlib import Path

from waveglow_vq.commands.arguments import (
    compute_arguments,
    path,
    search_arguments,
    search_changes,
)
from waveglow_vq.commands.common import load_model
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import write_json

EXAMPLES = """\
  waveglow-vq judge-speech EXPORT_FOLDER manifests/test.json --data_folder wavs/ \\
      --output report.json

Prints a table, writes everything to report.json, and pictures of alignments and some audio files to
the folder report/ beside it. Given train.json, it tells whether the model fits what it was trained
on.
"""


def add_arguments(parser):
    """Adds what the command takes to its parser."""
    parser.usage = "%(prog)s MODEL MANIFEST --data_folder DIR --output FILE [options]"
    parser.add_argument("model", type=path, metavar="MODEL", help="export folder")
    parser.add_argument(
        "manifest", type=path, metavar="MANIFEST",
        help="of a prepared corpus: test.json, or train.json",
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
        ("utterances", 50, "utterances that are judged"),
        ("others", 10, "other recordings that each is compared with"),
        ("pictures", 5, "utterances of which the alignment is drawn"),
        ("samples", 5, "utterances of which audio files are written"),
        ("seed", 0, "of all that is drawn"),
    ):
        words += " (default: %(default)s)"
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=words)
    search_arguments(parser)
    parser.add_argument("--sigma", type=float, help="of the noise (default: the codec's)")
    parser.add_argument("--no_words", action="store_true", help="without the recognizer: quicker")
    parser.add_argument(
        "--bars", nargs="+", default=[], metavar="NAME=VALUE",
        help="values of the summary that are shown beside those found, such as mcd_ratio=1.3",
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
        raise UserError(f"--output: give the name of a .json file, not {report}")
    for name in ("utterances", "others"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name}: {getattr(options, name)}; at least 1 is needed")
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
    )
    write_json(report, results)
    print_report(format_report(results, bars))
    print(f"\n{report}, {report.with_suffix('')}: the report, pictures and audio files")
    return 0
