"""Describe a model, a code file or a published checkpoint."""

import math
import os
from pathlib import Path

from waveglow_vq.commands.arguments import path as expanded
from waveglow_vq.commands.common import print_facts
from waveglow_vq.errors import UserError

EXAMPLES = """\
  waveglow-vq info EXPORT_FOLDER
  waveglow-vq info speech.wvq --json
  waveglow-vq info waveglow_256channels.pt
"""


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument(
        "path",
        type=expanded,
        metavar="PATH",
        help="export folder, .wvq file, or published checkpoint",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options):
    """Prints it; returns the exit status."""
    path = Path(options.path)
    if not os.path.exists(path):  # where Path.exists fails for names that are too long
        raise UserError(f"PATH: {path} does not exist")
    if path.is_dir():
        report = describe_model(path)
    else:
        from waveglow_vq.inference.codes.code_file import SUFFIX

        if path.suffix.lower() == SUFFIX:
            report = describe_code_file(path)
        else:
            from waveglow_vq.checkpoints import describe_checkpoint

            report = {"checkpoint": str(path)} | describe_checkpoint(path)
    if not options.json:  # for people, four digits are enough
        report = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in report.items()}
    print_facts(report, options.json)
    return 0


def describe_model(folder):
    """What an export is, as plain values; None where something is not part of the model.

    ``overlap_frames`` is what ``--overlap_frames`` is by default; ``lookahead_ms`` how much of the
    log-mel or the codes a stream has to know beyond what it gives, which is its latency beside that
    of a chunk.
    """
    from waveglow_vq.inference.exported_model import load_export
    from waveglow_vq.inference.streaming.refining import refine_look_ahead

    model = load_export(folder, run_opts={"device": "cpu"})
    if hasattr(model, "codec"):
        return _describe_speech(folder, model)
    network, features = model.mods.model, model.mods.features
    flows, conditioner, quantizer = network.vocoder, network.conditioner, network.quantizer
    report = {
        "model": str(folder),
        "interface": type(model).__name__,
        "sample_rate": model.sample_rate,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "condition": conditioner.description,
        "log_mel": {"bands": features.n_mels, "hop": features.hop_length, "n_fft": features.n_fft},
        "prior": "white" if flows.envelope is None else "envelope",
        "flows": len(flows.steps),
        "codebook_size": None,
        "codebooks": None,
        "code_rate": None,
        "bits_per_second": None,
        "pitch_bits_per_second": None,
    }
    hop = features.hop_length
    if quantizer is not None:
        rate = model.sample_rate / conditioner.samples_per_code
        report |= {
            "codebook_size": quantizer.codebook_size,
            "codebooks": conditioner.codebooks,
            "code_rate": rate,
            "bits_per_second": rate * conditioner.codebooks * math.log2(quantizer.codebook_size),
        }
        if network.uses_pitch:
            report["pitch_bits_per_second"] = conditioner.pitch_bits_per_second
    overlap = flows.overlap_frames
    # The frame that follows is waited for, and what the condition of all of these sees.
    refined = refine_look_ahead(network, features, model.refine)
    lookahead = max(overlap + 1, refined.frames) * hop + refined.samples
    lookahead += math.ceil(conditioner.receptive_field * conditioner.samples_per_code / hop) * hop
    return report | {
        "speakers": model.speakers,
        "sampling_sigma": model.sampling_sigma,
        "refine": model.refine,
        "source": network.source,
        "excitation": flows.excitation,
        "receptive_field_samples": flows.receptive_field,
        "overlap_frames": overlap,
        "lookahead_ms": 1000 * lookahead / model.sample_rate,
        "checksum": model.checksum,
    }


def _describe_speech(folder, model):
    """What an export of text to speech is: the text model, and its codec by what it is called in
    other exports."""
    from waveglow_vq.inference.loading import CODEC_FOLDER

    network, tokenizer = model.mods.model, model.tokenizer
    codec = describe_model(Path(folder) / CODEC_FOLDER)
    of_codec = ("codebook_size", "code_rate", "bits_per_second", "pitch_bits_per_second")
    return {
        "model": str(folder),
        "interface": type(model).__name__,
        "sample_rate": model.sample_rate,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "tokenizer": {"kind": tokenizer.kind, "tokens": tokenizer.vocabulary_size},
        "max_characters": model.max_characters,
        "search": _search_in_words(model.search),
        "codec": codec["interface"],
        "codec_parameters": codec["parameters"],
        **{name: codec[name] for name in of_codec},
        "speakers": model.speakers,
        "sampling_sigma": model.sampling_sigma,
        "refine": model.refine,
        "checksum": model.checksum,
        "codec_checksum": codec["checksum"],
    }


def _search_in_words(search):
    """The method, and what it depends on."""
    of_method = {"sample": ("temperature", "top_k", "top_p"), "beam": ("beam_size",)}
    names = ("method", *of_method.get(search.method, ()), "look_ahead")
    return {name: getattr(search, name) for name in names}


def describe_code_file(path):
    """What the header of a code file says, in plain values; a UserError if it is damaged."""
    from waveglow_vq.inference.codes.code_file import read_code_file

    f = read_code_file(path)
    return {
        "code_file": str(path),
        "model": f.model,
        "checksum": f.checksum,
        "seconds": f.seconds,
        "samples": f.samples,
        "sample_rate": f.sample_rate,
        "codes": len(f.codes),
        "codebook_size": f.codebook_size,
        "codebooks": f.codebooks,
        "code_rate": f.sample_rate / f.samples_per_code,
        "bits_per_second": f.bits_per_second,
        "bytes": Path(path).stat().st_size,
        "pitch_values": None if f.pitch is None else len(f.pitch),
        "pitch_levels": None if f.pitch is None else f.pitch_levels,
        "voice": None if f.voice is None else f"speaker's vector of {len(f.voice)} channels",
    }
