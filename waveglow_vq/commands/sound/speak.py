"""Synthesize speech from text."""

import os
from pathlib import Path

from waveglow_vq.commands.arguments import (
    compute_arguments,
    path,
    sampling_arguments,
    search_arguments,
    search_changes,
)
from waveglow_vq.commands.common import load_model
from waveglow_vq.commands.file_plan import FilePlan, check_outputs, plan_files
from waveglow_vq.commands.file_processing import process, write_blocks
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import lines_of

EXAMPLES = """\
  waveglow-vq speak EXPORT_FOLDER "Any sentence." speech.wav
  waveglow-vq speak EXPORT_FOLDER --text_file story.txt story.wav --speaker p226
  waveglow-vq speak EXPORT_FOLDER --lines prompts.txt prompts/ --method sample --top_p 0.9

Long texts are spoken sentence by sentence. 'waveglow-vq info EXPORT_FOLDER' lists the speakers.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.usage = "%(prog)s MODEL TEXT OUTPUT [options]"
    parser.add_argument("model", type=path, metavar="MODEL", help="export folder")
    parser.add_argument("text", metavar="TEXT", help="text to speak")
    parser.add_argument(
        "output", type=path, metavar="OUTPUT", help="WAV file; with --lines, a folder"
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--text_file", action="store_true", help="read the text from the file TEXT")
    kind.add_argument(
        "--lines",
        action="store_true",
        help="read TEXT line by line; each line becomes a file: 0001.wav, 0002.wav, ...",
    )
    parser.add_argument("--speaker", metavar="LABEL", help="target speaker")
    parser.add_argument(
        "--pause", type=float, metavar="SECONDS", help="silence between sentences (default: 0.25)"
    )
    search_arguments(parser)
    parser.add_argument(
        "--attention", type=path, metavar="PICTURE",
        help="plot the attention between text and codes (.png)",
    )  # fmt: skip
    sampling_arguments(parser)
    compute_arguments(parser)


def run(options):
    """Speaks; returns the exit status."""
    plan, texts = _plan(options)
    if options.attention is not None:
        _check_picture(options)
    tts = load_model(options, "speak", ("TextToSpeech",))
    search = search_changes(options)
    choices = {"speaker": options.speaker, "generator": options.seed}
    sound = {"sigma": options.sigma, "refine": options.refine}
    if options.pause is not None:
        sound["pause"] = options.pause

    def work(source, output, advance):
        text = texts[source]
        try:
            tts.sentences(text)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        if options.attention is None:
            blocks = tts.stream(text, search=search, **choices, **sound)
        else:
            spoken = tts.encode_text(text, search=search, **choices)
            blocks = [tts.decode_text(spoken, **choices, **sound)[0]]
        write_blocks(output, blocks, tts.sample_rate, advance)
        if options.attention is not None:
            from waveglow_vq.evaluation.plots import attention_picture

            attention_picture(
                options.attention, spoken.attention, spoken.pieces, tts.code_rate, spoken.text
            )

    voice = "" if options.speaker is None else f"in the voice of {options.speaker}"
    return process(plan, work, None, voice)


def _plan(options):
    """Which text becomes which file: a FilePlan from names of texts, and the texts by name."""
    from waveglow_vq.inference.speech.spoken_text import read_text_file

    output = Path(options.output)
    if not (options.text_file or options.lines):
        if os.path.isfile(options.text):
            raise UserError(f"TEXT: {options.text} is a file; read it with --text_file")
        if output.suffix.lower() != ".wav" or output.is_dir():
            raise UserError(f"OUTPUT: expected a .wav file name, got {output}")
        check_outputs([output], options.force)
        return FilePlan([("TEXT", output)], None), {"TEXT": options.text}
    file = path(options.text)
    if not os.path.isfile(file):
        raise UserError(f"TEXT: {file} does not exist or is not a file")
    if options.text_file:
        plan = plan_files(file, output, (), ".wav", options.force)
        source = plan.pairs[0][0]
        return plan, {source: read_text_file(source)}
    if output.exists() and not output.is_dir():
        raise UserError(f"OUTPUT: {output} is a file; with --lines, name a folder")
    lines = enumerate(lines_of(read_text_file(file)), 1)
    lines = {number: line for number, line in lines if line.strip()}
    if not lines:
        raise UserError(f"TEXT: {file} holds no text")
    width = max(4, len(str(max(lines))))
    names = {number: f"{file}, line {number}" for number in lines}
    pairs = [(names[number], output / f"{number:0{width}}.wav") for number in lines]
    check_outputs([file for _, file in pairs], options.force)
    return FilePlan(pairs, output), {names[number]: line for number, line in lines.items()}


def _check_picture(options):
    if options.lines:
        raise UserError("--attention cannot be combined with --lines")
    if Path(options.attention).suffix.lower() != ".png":
        raise UserError(f"--attention: expected a .png file name, got {options.attention}")
    check_outputs([options.attention], options.force, "--attention")
