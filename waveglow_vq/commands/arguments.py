"""Options that several commands have. Nothing large is imported here, so that ``--help`` is quick.

Authors
 * The waveglow-vq developers, 2026
"""

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
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")


def sampling_arguments(parser):
    """Adds what the drawing of waveforms can be told."""
    parser.add_argument(
        "--sigma", type=float, help="standard deviation of the noise (default: the export's)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)"
    )
    parser.add_argument("--dtype", default="fp32", help="fp32, bf16 or fp16 (default: %(default)s)")


# Options of the search for codes; the names are those of SearchOptions.
_SEARCH = {
    "method": (str, "greedy, sample or beam"),
    "temperature": (float, "of sample: below 1 probable codes become more probable"),
    "top_k": (int, "of sample: draw among so many codes; 0 for all"),
    "top_p": (float, "of sample: draw among the codes that together are so probable"),
    "beam_size": (int, "of beam: how many sequences are pursued"),
    "look_ahead": (int, "tokens beyond the furthest one read that can be looked at; 0 for all"),
}


def search_arguments(parser):
    """Adds how the codes of a text are chosen; what is not given is as the export says."""
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
        help="frames that are computed twice where a long file is divided (default: as many as "
        "the layers see, which is exact; fewer are quicker)",
    )  # fmt: skip


def compute_arguments(parser):
    """Adds where it is computed."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads")
