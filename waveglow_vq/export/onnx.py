"""The vocoder as an ONNX file, checked against torch; ``waveglow-vq export-onnx`` writes it, and
docs/onnx.md shows its use.

The packages onnx, onnxscript and onnxruntime are optional; no other module needs them.
"""

import contextlib
import copy
import json
import logging
import warnings
from pathlib import Path
from typing import NamedTuple

import waveglow_vq
from waveglow_vq.errors import UserError
from waveglow_vq.export.onnx_graph import VocoderGraph, export_program, model_of
from waveglow_vq.utils.files import partial_folder, user_path

import torch

# The lowest version that torch writes without conversion: most runtimes read it.
OPSET = 18
# A file holds at most 2 GiB; where the weights come near, they lie in a file beside it.
WEIGHTS_INSIDE = 2**31 - 2**26
# Batch and frames of the inputs of the check, both unlike those that were traced.
CHECKED = ((1, 23), (3, 10))
# Largest difference from torch, as a share of full scale or of the peak if that is higher.
TOLERANCE = 1e-4


class OnnxExport(NamedTuple):
    """What :func:`export_onnx` wrote.

    Arguments
    ---------
    path : Path
        The file.
    size : int
        Bytes, those of the weights beside it included.
    difference : float
        Largest difference of onnxruntime's waveforms from torch's, as a share of full scale, or of
        the peak where that is higher.
    """

    path: Path
    size: int
    difference: float


def export_onnx(vocoder, path, opset=OPSET):
    """Writes a vocoder as ONNX, runs it with onnxruntime and compares the result with torch's.

    Inputs and outputs are those of :func:`~waveglow_vq.export.onnx_graph.export_program`, by the
    names ``log_mel``, ``noise``, ``speaker`` (for models that know speakers) and ``waveform``. The
    metadata of the file (``get_modelmeta().custom_metadata_map`` of a session) say, as text:
    ``sample_rate``, ``hop_length``, ``n_mels``, ``group_size``, ``sampling_sigma`` (what the noise
    is to be multiplied by), ``refine`` (mel-consistent iterations of the export, which the graph
    leaves to the caller), ``speakers`` (JSON list of the labels), ``features`` (JSON: what the
    log-mels are), ``model_checksum`` and ``waveglow_vq_version``.

    The file appears as a whole and after the check, or not at all; an earlier one is replaced.
    Weights that do not fit into it are beside it, in a file of its name with ``.data`` appended.

    Arguments
    ---------
    vocoder : WaveGlowVocoder or VoiceConverter
        The model, of log-mels without codes; it stays as it is.
    path : str or Path
        Where to write.
    opset : int
        Version of the operators, at least 18.

    Returns
    -------
    OnnxExport

    Raises
    ------
    UserError
        If a package is missing, the model has codes or holds NaN, the folder does not exist, the
        opset is not supported, or onnxruntime computes something else than torch.
    """
    onnx = require_packages()
    path = user_path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} does not exist or is not a folder; create it first")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file, such as vocoder.onnx")
    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise UserError(f"opset: {opset}; it must be from {OPSET} to {newest}")
    model = model_of(vocoder)
    for name, value in model.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"the model is not exported: its weight {name} holds NaN or infinity")
    graph = _to_onnx(export_program(vocoder), opset)
    _describe(graph, vocoder)

    with partial_folder(path) as partial:
        _save(graph, partial / path.name)
        difference = _check(partial / path.name, model)
        size = sum(file.stat().st_size for file in partial.iterdir())
        # The weights first: they are nothing without the other file.
        for file in sorted(partial.iterdir(), key=lambda file: file.name == path.name):
            file.replace(path.with_name(file.name))
    return OnnxExport(path, size, difference)


def require_packages():
    """The package onnx, if all that is needed is there."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the package {error.name} is missing: exporting to ONNX needs the extra 'onnx', "
            "pip install 'waveglow-vq[onnx]'"
        ) from error
    return onnx


def _to_onnx(program, opset):
    """The ``onnx_ir.Model`` of an exported program."""
    names = ["log_mel", "noise", "speaker"]
    with _quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=names[: len(program.graph_signature.user_inputs)],
            output_names=["waveform"],
            verbose=False,
        )
    return exported.model


@contextlib.contextmanager
def _quiet():
    """Silences the logs and warnings of torch and onnxscript."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _describe(graph, vocoder):
    """Writes the metadata, names the dimensions, and removes the traces of this machine."""
    import onnx_ir

    flows, features = vocoder.mods.model.vocoder, vocoder.mods.features
    for node in onnx_ir.traversal.RecursiveGraphIterator(graph.graph):
        for part in (node, *node.outputs):
            part.metadata_props.clear()
            part.doc_string = None
    for value in (*graph.graph.inputs, *graph.graph.outputs, *graph.graph.initializers.values()):
        value.metadata_props.clear()
    graph.graph.metadata_props.clear()
    per_frame = flows.hop // flows.group_size
    shapes = {
        "log_mel": ["batch", features.n_mels, "frames"],
        "noise": ["batch", flows.group_size, f"{per_frame}*frames"],
        "speaker": ["batch"],
        "waveform": ["batch", f"{flows.hop}*frames"],
    }
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        value.shape = onnx_ir.Shape(shapes[value.name])
    kinds = (int, float)
    described = {k: v for k, v in vars(features).items() if type(v) in kinds}
    graph.producer_name, graph.producer_version = "waveglow-vq", waveglow_vq.__version__
    graph.metadata_props.clear()
    graph.metadata_props.update(
        sample_rate=str(features.sample_rate),
        hop_length=str(flows.hop),
        n_mels=str(features.n_mels),
        group_size=str(flows.group_size),
        sampling_sigma=str(vocoder.sampling_sigma),
        refine=str(vocoder.refine),
        speakers=json.dumps(vocoder.speakers),
        features=json.dumps(described),
        model_checksum=vocoder.checksum,
        waveglow_vq_version=waveglow_vq.__version__,
    )


def _save(graph, path):
    import onnx_ir

    weights = sum(value.const_value.nbytes for value in graph.graph.initializers.values())
    beside = f"{path.name}.data" if weights > WEIGHTS_INSIDE else None
    onnx_ir.save(graph, path, external_data=beside)


@torch.no_grad()
def _check(path, model):
    """The largest difference from the model, which is a UserError if it is too large."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each reason
        reason = str(error).split("\n")[0]
        raise UserError(
            f"the ONNX file is not written: onnxruntime {onnxruntime.__version__} cannot load it "
            f"({reason}); try a lower opset, or a newer onnxruntime"
        ) from error
    # Without an inference cache, which may be of another precision.
    model = copy.deepcopy(model).cpu().float().eval()
    example = VocoderGraph(model).example
    largest = 0.0
    for batch, frames in CHECKED:
        inputs = example(batch, frames)
        log_mel, noise, *speaker = inputs
        names = [value.name for value in session.get_inputs()]
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        found = torch.from_numpy(session.run(["waveform"], feed)[0])
        vectors = model.speakers(*speaker) if speaker else None
        condition = model.excited(model.condition(log_mel, speaker=vectors))
        expected = model.vocoder.inverse(noise, condition.local, log_mel, vectors)
        scale = max(1.0, expected.abs().max().item())
        largest = max(largest, (found - expected).abs().max().item() / scale)
        # NaN is not smaller than anything either.
        if found.shape != expected.shape or not largest <= TOLERANCE:
            raise UserError(
                f"the ONNX file is not written: onnxruntime's waveform of {frames} frames differs "
                f"from torch's by {largest:.1e} of full scale, where {TOLERANCE:.0e} is allowed; "
                "try another opset, or another version of onnxruntime"
            )
    return largest
