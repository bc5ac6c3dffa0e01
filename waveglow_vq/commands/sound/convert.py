"""Convert speech to another voice."""

from waveglow_vq.audio.formats import sound_suffixes
from waveglow_vq.commands.arguments import (
    compute_arguments,
    file_arguments,
    path,
    sampling_arguments,
)
from waveglow_vq.commands.common import load_model
from waveglow_vq.commands.file_plan import plan_files
from waveglow_vq.commands.file_processing import process, sound_seconds, write_blocks

EXAMPLES = """\
  waveglow-vq convert EXPORT_FOLDER speech.wav converted.wav --speaker p226
  waveglow-vq convert EXPORT_FOLDER recordings/ converted/ --speaker p226 --flat_pitch

'waveglow-vq info EXPORT_FOLDER' lists the speakers of the model.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    file_arguments(parser, "audio file at any rate, or a folder of them", "WAV file, or folder")
    parser.usage = "%(prog)s MODEL INPUT OUTPUT --speaker LABEL [options]"
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--speaker", metavar="LABEL", help="target speaker")
    target.add_argument(
        "--reference", type=path, metavar="FILE",
        help="instead: an audio file of the target speaker (models with speaker_source: encoder)",
    )  # fmt: skip
    parser.add_argument(
        "--mode", default="codes", help="codes or latent_swap (default: %(default)s)"
    )
    parser.add_argument(
        "--source_speaker", metavar="LABEL", help="source, for latent_swap (default: unknown)"
    )
    parser.add_argument(
        "--flat_pitch",
        action="store_true",
        help="use the target's mean pitch, without the recording's intonation",
    )
    sampling_arguments(parser)
    compute_arguments(parser)


def run(options):
    """Converts; returns the exit status."""
    plan = plan_files(options.input, options.output, sound_suffixes(), ".wav", options.force)
    converter = load_model(options, "convert", ("VoiceConverter",))

    def work(source, output, advance):
        blocks = converter.stream_file(
            source,
            options.speaker,
            reference=options.reference,
            mode=options.mode,
            source_speaker=options.source_speaker,
            pitch=not options.flat_pitch,
            sigma=options.sigma,
            generator=options.seed,
            refine=options.refine,
        )
        write_blocks(output, blocks, converter.sample_rate, advance)

    voice = f"in the voice of {options.speaker or options.reference}"
    return process(plan, work, sound_seconds, voice)
