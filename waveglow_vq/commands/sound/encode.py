"""Encode audio files into code files."""

from waveglow_vq.audio.formats import sound_suffixes
from waveglow_vq.commands.arguments import compute_arguments, file_arguments
from waveglow_vq.commands.common import load_model
from waveglow_vq.commands.file_plan import plan_files
from waveglow_vq.commands.file_processing import process, sound_seconds

EXAMPLES = """\
  waveglow-vq encode EXPORT_FOLDER speech.wav speech.wvq
  waveglow-vq encode EXPORT_FOLDER recordings/ codes/

docs/code_file.md describes such a file; 'waveglow-vq info speech.wvq' says what one holds.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    file_arguments(parser, "audio file at any rate, or a folder of them", ".wvq file, or folder")
    compute_arguments(parser)


def run(options):
    """Encodes; returns the exit status."""
    from waveglow_vq.inference.codes.code_file import SUFFIX, write_code_file

    plan = plan_files(options.input, options.output, sound_suffixes(), SUFFIX, options.force)
    codec = load_model(options, "encode", ("SpeechCodec", "VoiceConverter"))
    size = 0

    def work(source, output, advance):
        nonlocal size
        code_file = codec.to_code_file(source)
        write_code_file(output, code_file)
        size += output.stat().st_size
        advance(code_file.seconds)

    def what(seconds):
        return f"in {size} bytes ({8 * size / seconds:.0f} bit/s)"

    return process(plan, work, sound_seconds, what)
