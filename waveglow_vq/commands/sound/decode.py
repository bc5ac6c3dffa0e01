"""Decode code files into speech, in the original voice or another."""

from waveglow_vq.commands.arguments import (
    compute_arguments,
    file_arguments,
    overlap_argument,
    sampling_arguments,
)
from waveglow_vq.commands.common import load_model
from waveglow_vq.commands.file_plan import plan_files
from waveglow_vq.commands.file_processing import process, write_blocks
from waveglow_vq.errors import UserError

EXAMPLES = """\
  waveglow-vq decode EXPORT_FOLDER speech.wvq speech.wav
  waveglow-vq decode EXPORT_FOLDER codes/ speech/ --sigma 0.8
  waveglow-vq decode EXPORT_FOLDER speech.wvq converted.wav --speaker p226

Codes are decoded by the model that made them. 'waveglow-vq info EXPORT_FOLDER' lists its speakers.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    file_arguments(parser, ".wvq file of 'encode', or a folder of them", "WAV file, or folder")
    parser.add_argument(
        "--speaker", metavar="LABEL", help="target speaker (default: the original one)"
    )
    sampling_arguments(parser)
    overlap_argument(parser)
    compute_arguments(parser)


def run(options):
    """Decodes; returns the exit status."""
    from waveglow_vq.inference.codes.code_file import SUFFIX, read_code_file
    from waveglow_vq.inference.codes.coding import check_code_file

    plan = plan_files(options.input, options.output, (SUFFIX,), ".wav", options.force)
    codec = load_model(options, "decode", ("SpeechCodec", "VoiceConverter"))
    if options.speaker is not None and not codec.speakers:
        raise UserError(f"--speaker: {options.model} was trained without speakers; leave it out")
    if options.overlap_frames is not None and codec.speakers:
        raise UserError("--overlap_frames: models with speakers decode exactly; leave it out")
    # What the interface of models with speakers has in place of the other's.
    more = {"speaker": options.speaker} if codec.speakers else {}
    more["refine"] = options.refine
    if options.overlap_frames is not None:
        more["overlap_frames"] = options.overlap_frames

    def work(source, output, advance):
        code_file = read_code_file(source)
        try:
            check_code_file(codec, code_file)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        blocks = codec.decode_stream(code_file, sigma=options.sigma, generator=options.seed, **more)
        write_blocks(output, blocks, codec.sample_rate, advance)

    return process(plan, work, lambda source: read_code_file(source).seconds)
