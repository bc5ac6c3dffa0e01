"""The command line: ``waveglow-vq``, the same as ``python -m waveglow_vq``."""

import argparse
import sys

from waveglow_vq import __version__
from waveglow_vq.commands.corpora import demo_corpus, encode_corpus, recipes
from waveglow_vq.commands.judging import diagnose_conversion, evaluate, judge_speech
from waveglow_vq.commands.models import (
    average,
    export_onnx,
    import_checkpoint,
    info,
    train_pitch,
    train_speakers,
)
from waveglow_vq.commands.sound import convert, decode, encode, speak, vocode
from waveglow_vq.errors import cli_errors

GROUPS = {
    "speech": {
        "vocode": vocode,
        "encode": encode,
        "decode": decode,
        "convert": convert,
        "speak": speak,
    },
    "evaluation": {
        "evaluate": evaluate,
        "diagnose-conversion": diagnose_conversion,
        "judge-speech": judge_speech,
    },
    "models": {
        "info": info,
        "import-checkpoint": import_checkpoint,
        "average": average,
        "export-onnx": export_onnx,
    },
    "training": {
        "recipes": recipes,
        "demo-corpus": demo_corpus,
        "encode-corpus": encode_corpus,
        "train-pitch": train_pitch,
        "train-speakers": train_speakers,
    },
}
COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}
_EPILOG = """\
example:
  waveglow-vq vocode results/mel_small/1234/export speech.wav resynthesized.wav

'waveglow-vq COMMAND --help' explains a command. MODEL is an export folder, written by training or
by import-checkpoint. If INPUT is a folder, its files are processed into a folder of the same tree.
Exit status: 0 done, 1 some files could not be processed or output was lost, 2 wrong usage or input,
130 interrupted, 143 ended by SIGTERM, 129 by SIGHUP.
"""


def main(arguments=None):
    """The command line.

    Arguments
    ---------
    arguments : list of str
        In place of those of the command line.

    Returns
    -------
    int
        The exit status: 0, or 1 where some files of a folder could not be processed.

    Raises
    ------
    SystemExit
        With the status of `waveglow_vq.errors.cli_errors` otherwise, such as 2 after wrong usage
        or input.

    Example
    -------
    >>> main(["--version"])
    Traceback (most recent call last):
    ...
    SystemExit: 0
    """
    with cli_errors():
        parser = _parser()
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_help(sys.stderr)
            raise SystemExit(2)
        return COMMANDS[options.command].run(options)


def _help(prog):
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=22, width=98)


def _parser():
    parser = argparse.ArgumentParser(
        prog="waveglow-vq",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Vocode, code, convert and synthesize speech, and train and judge the models.",
        epilog=_EPILOG,
        formatter_class=_help,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"waveglow-vq {__version__}")
    commands = parser.add_subparsers(
        prog="waveglow-vq",
        dest="command",
        title="commands",
        description=_list_commands(),
        help=argparse.SUPPRESS,
    )
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            description=_summary(module),
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=_help,
            allow_abbrev=False,
        )
        module.add_arguments(command)
    return parser


def _list_commands():
    """All commands by group; argparse lists them without groups."""
    lines = []
    for group, modules in GROUPS.items():
        lines.append(f"{group}:")
        for name, module in modules.items():
            summary = _summary(module)
            lines.append(f"  {name:<21}{summary[0].lower()}{summary[1:].rstrip('.')}")
    return "\n".join(lines)


def _summary(module):
    return module.__doc__.partition("\n\n")[0]


if __name__ == "__main__":
    sys.exit(main())
