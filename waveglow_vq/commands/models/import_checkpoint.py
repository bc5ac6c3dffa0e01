"""Import a published WaveGlow checkpoint as an export folder."""

from waveglow_vq.commands.arguments import path
from waveglow_vq.commands.common import print_facts
from waveglow_vq.commands.file_plan import check_outputs

EXAMPLES = """\
  waveglow-vq import-checkpoint waveglow_256channels.pt waveglow_256
  waveglow-vq vocode waveglow_256 mel.npy speech.wav

Checkpoints of NVIDIA/waveglow, of DeepLearningExamples and of NeMo are recognized; nothing that is
pickled in them is executed. 'waveglow-vq info CHECKPOINT' says what one holds.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument("checkpoint", type=path, metavar="CHECKPOINT", help="published checkpoint")
    parser.add_argument("folder", type=path, metavar="FOLDER", help="export folder to write")
    parser.add_argument(
        "--sigma", type=float, help="standard deviation of the export's noise (default: 1)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing export")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def run(options):
    """Imports; prints what was found, and returns the exit status."""
    check_outputs([options.folder], options.force, "FOLDER")
    from waveglow_vq.checkpoints import import_checkpoint

    report = import_checkpoint(options.checkpoint, options.folder, sigma=options.sigma)
    print_facts(report, options.json)
    return 0
