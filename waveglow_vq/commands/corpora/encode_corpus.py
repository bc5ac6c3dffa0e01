"""Encode a prepared corpus into code files, for training text to speech."""

import time

from waveglow_vq.commands.arguments import path
from waveglow_vq.commands.common import check_device
from waveglow_vq.errors import say

EXAMPLES = """\
  waveglow-vq encode-corpus EXPORT_FOLDER manifests/train.json manifests/valid.json codes/ \\
      --data_folder /data/LJSpeech-1.1

The manifests are those that the preparation of a recipe writes. The same command resumes what was
interrupted. A recording that changed is encoded again; codes of another model are overwritten with
--force only.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.usage = "%(prog)s MODEL MANIFEST [MANIFEST ...] CODES_FOLDER --data_folder DIR [options]"
    parser.add_argument("model", type=path, metavar="MODEL", help="export folder")
    parser.add_argument(
        "manifests", type=path, metavar="MANIFEST", nargs="+",
        help="manifest of a prepared corpus (.json)",
    )  # fmt: skip
    parser.add_argument(
        "codes_folder", type=path, metavar="CODES_FOLDER", help="output folder for the codes"
    )
    parser.add_argument(
        "--data_folder", type=path, required=True, metavar="DIR",
        help="folder of the corpus, {data_root} in the manifests",
    )  # fmt: skip
    parser.add_argument(
        "--num_workers", type=int, metavar="N",
        help="worker processes on a CPU, each with a copy of the model (default: one per core, "
        "at most 16)",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: GPU if available)")
    parser.add_argument(
        "--max_skipped", type=int, default=10, metavar="N",
        help="number of unreadable recordings to tolerate (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite codes of another model")


def run(options):
    """Encodes; returns the exit status."""
    from waveglow_vq.training.text_to_codes.code_corpus import extract_codes

    check_device(options.device)
    begin = time.perf_counter()
    report = extract_codes(
        options.model,
        {name: name for name in options.manifests},
        options.data_folder,
        options.codes_folder,
        num_workers=options.num_workers,
        device=options.device,
        max_skipped=options.max_skipped,
        overwrite=options.force,
    )
    elapsed = time.perf_counter() - begin
    print(
        f"{options.codes_folder}: codes of {report['encoded'] + report['kept']} recordings,"
        f" {report['encoded']} of them encoded now: {report['seconds']:.2f} s of sound in"
        f" {elapsed:.2f} s"
    )
    if report["skipped"]:
        say(f"{len(report['skipped'])} recordings could not be encoded")
    return 1 if report["skipped"] else 0
