"""Write a vocoder as an ONNX file, checked with onnxruntime."""

from waveglow_vq.commands.arguments import path
from waveglow_vq.commands.file_plan import check_outputs

EXAMPLES = """\
  waveglow-vq export-onnx EXPORT_FOLDER vocoder.onnx

docs/onnx.md shows how to use the file. Needs pip install 'waveglow-vq[onnx]'.
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument("model", type=path, metavar="MODEL", help="export folder")
    parser.add_argument("output", type=path, metavar="OUTPUT", help="the file to write")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set (default: 18)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(options):
    """Prints what was written and how near it is to torch; returns the exit status."""
    check_outputs([options.output], options.force)
    from waveglow_vq.export.onnx import OPSET, export_onnx, require_packages
    from waveglow_vq.inference.exported_model import load_export

    require_packages()
    vocoder = load_export(options.model, run_opts={"device": "cpu"})
    opset = OPSET if options.opset is None else options.opset
    written = export_onnx(vocoder, options.output, opset)
    print(
        f"{written.path}: {written.size / 1e6:.1f} MB; onnxruntime differs from torch by "
        f"{written.difference:.1e} of full scale"
    )
    if vocoder.refine:
        print(f"refine: {vocoder.refine} iterations of the export are not in it, see docs/onnx.md")
    return 0
