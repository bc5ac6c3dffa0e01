"""Between waveforms, codes and code files, by a model that has codes."""

import math
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.code_file import CodeFile
from waveglow_vq.inference.exported_model import load_export
from waveglow_vq.inference.loading import CODEC_FOLDER, HPARAMS_FILE, read_export_header
from waveglow_vq.inference.streaming.waveform import NO_CONTEXT
from waveglow_vq.utils.windows import windows

import torch

# Interfaces of models that may have codes.
CODECS = ("SpeechCodec", "VoiceConverter")
# Seconds of sound that are encoded at once.
WINDOW_SECONDS = 10


def load_codec(folder, run_opts=None):
    """Loads an export folder whose codes can be written from text, as a SpeechCodec or
    VoiceConverter, and takes no random numbers for that. A UserError says that it is no export, a
    damaged one, has no codes, or several codebooks."""
    interface = read_export_header(folder)["interface"]
    if interface not in CODECS:
        raise UserError(
            f"{folder} is an export for {interface}, which has no codes; give one for "
            f"{' or '.join(CODECS)}."
        )
    # Building draws random initial weights: training goes on as if it had not happened.
    with torch.random.fork_rng(devices=[]):
        codec = load_export(folder, run_opts=run_opts)
    if codec.mods.model.quantizer is None:
        raise UserError(f"{folder} is a model without codes; train one with hparams/vq.yaml.")
    if codec.mods.model.conditioner.codebooks > 1:
        raise UserError(
            f"{folder} has {codec.mods.model.conditioner.codebooks} codebooks, and text to codes "
            "writes those of one; train a codec with codebooks: 1."
        )
    return codec


def code_blocks(conditioner, features, wavs, context=NO_CONTEXT):
    """The codes of a waveform, block by block, int64 ``[1, t]``, or ``[1, t, N]`` of several
    codebooks: what ``conditioner.encode`` gives.

    Each window reaches as far beyond what is new in it as the encoder sees. With instance
    normalization, whose statistics are of the whole utterance, there is one window: of log-mels,
    which take a twentieth of what the waveform's flows would.

    The conditioner is in evaluation mode. The blocks ``[n]`` of ``wavs`` are of any length.
    Conditioners of waveforms see zeros behind the end, up to a whole hop of the features, as in
    training. ``context`` is entered for each window, for autocast.
    """
    hop, reach = features.hop_length, conditioner.encoder_receptive_field
    frames = int(WINDOW_SECONDS * features.sample_rate) // hop
    inputs, per_code = conditioner.input_blocks(features, wavs), conditioner.stride
    # Windows of whole codes and, of codes shorter than that, whole frames.
    unit = math.lcm(conditioner.samples_per_code, hop) // conditioner.input_hop
    most = max(1, frames * hop // conditioner.input_hop // unit) * unit
    if reach is None:
        whole = torch.cat(list(inputs), dim=-1)
        parts = [(whole, 0, whole.shape[-1])]
    else:
        parts = windows(inputs, math.ceil(reach * per_code / unit) * unit, unit, most)
    for window, first, new in parts:
        with torch.no_grad(), context:
            codes = conditioner.encode(window)
        yield codes[:, first // per_code : math.ceil((first + new) / per_code)]


def new_code_file(interface, codes, samples, pitch=None, voice=None):
    """Makes a CodeFile: codes int64 ``[T]`` or ``[T, N]`` of a recording of so many ``samples`` at
    the model's rate, its pitch int64 ``[P]`` and its Voice where the model has them, and what
    identifies the model."""
    model, (levels, samples_per_pitch) = interface.mods.model, pitch_format(interface)
    vector = statistics = None
    if voice is not None and model.speakers.source == "encoder":
        vector = voice.vector[0].float().cpu()
    if voice is not None and model.uses_pitch:
        statistics = voice.f0_statistics[0].float().cpu()
    return CodeFile(
        codes.cpu(),
        samples,
        interface.sample_rate,
        model.quantizer.codebook_size,
        model.conditioner.samples_per_code,
        model_name(interface),
        interface.checksum,
        None if pitch is None else pitch.cpu(),
        levels,
        samples_per_pitch,
        statistics,
        vector,
    )


def check_code_file(interface, code_file):
    """Raises a UserError unless the codes are of this very model."""
    if code_file.checksum != interface.checksum:
        raise UserError(
            f"the codes are of the model {code_file.model!r} with checksum "
            f"{code_file.checksum[:12]}..., not of {model_name(interface)!r} with "
            f"{interface.checksum[:12]}...; decode them with the model that encoded them."
        )
    model, (levels, samples_per_pitch) = interface.mods.model, pitch_format(interface)
    conditioner, speakers, f = model.conditioner, model.speakers, code_file
    channels = speakers.channels if speakers is not None and speakers.source == "encoder" else 0
    for name, found, expected in (
        ("sample_rate", f.sample_rate, interface.sample_rate),
        ("codebook_size", f.codebook_size, model.quantizer.codebook_size),
        ("the number of codebooks", f.codebooks, conditioner.codebooks),
        ("samples_per_code", f.samples_per_code, conditioner.samples_per_code),
        ("pitch_levels", f.pitch_levels, levels),
        ("samples_per_pitch", f.samples_per_pitch, samples_per_pitch),
        ("the number of codes", len(f.codes), conditioner.code_count(f.samples)),
        ("the number of pitch values", _length(f.pitch), pitch_count(interface, f.samples)),
        ("the number of F0 statistics", _length(f.f0_statistics), 2 if levels else 0),
        ("the length of the speaker vector", _length(f.voice), channels),
    ):
        if found != expected:
            raise UserError(
                f"the codes do not fit the model {model_name(interface)!r}: {name} is {found}, "
                f"not {expected}; encode the recording again."
            )


def _length(values):
    return 0 if values is None else len(values)


def pitch_format(interface):
    """Levels of the pitch beside the codes, and samples of waveform for each value of it; 0 and 0
    for models that have none."""
    model, hop = interface.mods.model, interface.mods.features.hop_length
    if not model.uses_pitch:
        return 0, 0
    pitch = model.conditioner.pitch
    return pitch.levels, pitch.stride * hop


def pitch_count(interface, samples):
    """How many values of pitch a recording of so many samples has."""
    model, hop = interface.mods.model, interface.mods.features.hop_length
    if not model.uses_pitch:
        return 0
    return math.ceil((1 + samples // hop) / model.conditioner.pitch.stride)


def resample_nearest(values, count, samples_per_result, samples_per_value):
    """Values ``[..., V]`` of one rate at another, ``[..., count]``, such as the pitch at codes.

    Each is the one in whose span, in samples of waveform, the middle of the result's span lies.

    Example
    -------
    >>> resample_nearest(torch.tensor([4, 5, 6, 7, 8]), 3, 512, 256).tolist()
    [5, 7, 8]
    """
    middles = 2 * torch.arange(count, device=values.device) + 1
    index = middles * samples_per_result // (2 * samples_per_value)
    return values[..., index.clamp_max(values.shape[-1] - 1)]


def model_name(interface):
    """Name of the run that the model is from, by its folder; ``unnamed`` if it has none.

    A run exports to a folder ``export`` in its own, whose name may be the number of its seed alone:
    then the name of the folder above comes before it. A codec within an export of text to speech
    has the name of that export.
    """
    pretrainer = getattr(interface.hparams, "pretrainer", None)
    weights = getattr(pretrainer, "paths", {}).get("model")
    # As bytes that are no UTF-8 may be part of a name.
    if weights is None:
        return "unnamed"
    folder = Path(str(weights)).resolve().parent
    if folder.name == CODEC_FOLDER and (folder.parent / HPARAMS_FILE).is_file():
        folder = folder.parent
    if folder.name == "export" and folder.parent.name:
        folder = folder.parent
    name = folder.name
    if name.isdecimal() and folder.parent.name:
        name = f"{folder.parent.name}/{name}"
    return name.encode("utf-8", "replace").decode("utf-8")
