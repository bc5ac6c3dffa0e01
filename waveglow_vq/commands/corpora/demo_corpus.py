"""Generate a small speech corpus in the layout of LJSpeech or of VCTK."""

from waveglow_vq.commands.arguments import path

EXAMPLES = """\
  waveglow-vq demo-corpus demo_data --utterances 64
  waveglow-vq demo-corpus voices --utterances 500 --speakers 4 --layout vctk

Needs pip install 'waveglow-vq[demo]', and no download; the same bits each time.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument("folder", type=path, metavar="DIR", help="where the corpus goes")
    parser.add_argument(
        "--utterances", type=int, default=64, metavar="N",
        help="utterances per speaker (default: %(default)s, at most 9999)",
    )  # fmt: skip
    parser.add_argument(
        "--speakers", type=int, default=1, metavar="N",
        help="synthetic speakers (default: %(default)s, at most 8)",
    )  # fmt: skip
    parser.add_argument(
        "--layout",
        choices=("ljspeech", "vctk"),
        default="ljspeech",
        help="the corpus whose layout it takes (default: %(default)s)",
    )


def run(options):
    """Generates it, and says how many clips there are; returns the exit status."""
    from waveglow_vq.demo.corpus import generate_demo_corpus

    folder = generate_demo_corpus(
        options.folder, options.utterances, options.speakers, options.layout
    )
    print(f"{folder}: {options.speakers * options.utterances} clips")
    return 0
