"""Options that several commands have. Nothing large is imported, so that ``--help`` is quick."""

import os


def path(text):
    """The type of arguments that are paths. Shells expand ``~`` at the beginning of a word, and
    leave it in ``--json=~/scores.json``.

    Example
    -------
    >>> path("~/speech.wav") == os.path.join(os.path.expanduser("~"), "speech.wav")
    True
    """
    return os.path.expanduser(text)


def file_arguments(parser, input_help, output_help):
    """Adds MODEL, INPUT, OUTPUT and ``--force``."""
    parser.usage = "%(prog)s MODEL INPUT OUTPUT [options]"
    parser.add_argument("model", type=path, metavar="MODEL", help="export folder")
    parser.add_argument("input", type=path, metavar="INPUT", help=input_help)
    parser.add_argument("output", type=path, metavar="OUTPUT", help=output_help)
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def sampling_arguments(parser):
    """Adds the options of sampling waveforms."""
    parser.add_argument(
        "--sigma", type=float, help="standard deviation of the noise (default: the export's)"
    )
    parser.add_argument(
        "--refine", type=int, metavar="N",
        help="iterations that bring the log-mel of the sound to the one that it is made from; 0: "
        "the flows alone (default: the export's)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--dtype", default="fp32", help="fp32, bf16 or fp16 (default: %(default)s)")


def recognizer_argument(parser):
    """Adds the choice of the speech recognizer that judges words."""
    parser.add_argument(
        "--recognizer", metavar="NAME",
        help="who judges words: pocketsphinx, whisper, or the folder of a Whisper model of "
        "CTranslate2 (default: pocketsphinx)",
    )  # fmt: skip


# Options of the search for codes; the names are those of SearchOptions.
_SEARCH = {
    "method": (str, "greedy, sample or beam"),
    "temperature": (float, "of sample: below 1 favours probable codes"),
    "top_k": (int, "of sample: draw among this many most probable codes; 0 for all"),
    "top_p": (float, "of sample: draw among the most probable codes up to this total probability"),
    "beam_size": (int, "of beam: number of sequences kept"),
    "look_ahead": (int, "tokens that attention may reach beyond the furthest one read; 0 for all"),
}


def search_arguments(parser):
    """Adds the options of the search for codes; the export has the defaults."""
    for name, (kind, words) in _SEARCH.items():
        metavar = name.split("_")[-1].upper()
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=words)


def search_changes(options):
    """What of :func:`search_arguments` was given, by name."""
    given = {name: getattr(options, name) for name in _SEARCH}
    return {name: value for name, value in given.items() if value is not None}


def overlap_argument(parser):
    """Adds ``--overlap_frames``."""
    parser.add_argument(
        "--overlap_frames", type=int, metavar="N",
        help="overlap between the chunks of a long file, in frames (default: the receptive field, "
        "which is exact; less is faster)",
    )  # fmt: skip


def compute_arguments(parser):
    """Adds ``--device`` and ``--threads``."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: GPU if available)")
    parser.add_argument("--threads", type=int, metavar="N", help="number of CPU threads")
