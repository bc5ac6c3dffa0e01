"""Between the interfaces of models with codes and files of codes.

Authors
 * The waveglow-vq developers, 2026
"""

import math
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.analysis import analyze, own_vector
from waveglow_vq.inference.codes.code_file import CodeFile
from waveglow_vq.inference.exported_model import load_export
from waveglow_vq.inference.loading import CODEC_FOLDER, HPARAMS_FILE, read_export_header
from waveglow_vq.lobes.conditioners.pitch_condition import pitch_values

import torch

# Interfaces of models that may have codes.
CODECS = ("SpeechCodec", "VoiceConverter")


def load_codec(folder, run_opts=None):
    """Loads an export that has codes, and takes no random numbers for that.

    Arguments
    ---------
    folder : str or Path
        The export folder.
    run_opts : dict
        As for any SpeechBrain interface.

    Returns
    -------
    SpeechCodec or VoiceConverter

    Raises
    ------
    UserError
        If it is no export, a damaged one, or has no codes.
    """
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
    return codec


def new_code_file(interface, codes, samples, **more):
    """Codes with all that a file says of the model that they are of.

    Arguments
    ---------
    interface : ExportedModel
        A model with codes.
    codes : torch.Tensor
        int64 ``[T]``.
    samples : int
        Samples of the recording at the model's rate.
    **more : dict
        Further fields of :class:`~waveglow_vq.inference.codes.code_file.CodeFile`, such as
        ``pitch``.

    Returns
    -------
    CodeFile
    """
    model, (levels, samples_per_pitch) = interface.mods.model, pitch_format(interface)
    return CodeFile(
        codes.cpu(),
        samples,
        interface.sample_rate,
        model.quantizer.codebook_size,
        model.conditioner.samples_per_code,
        model_name(interface),
        interface.checksum,
        pitch_levels=levels,
        samples_per_pitch=samples_per_pitch,
        **more,
    )


def recording_code_file(interface, read):
    """Encodes a recording with a model with speakers.

    Arguments
    ---------
    interface : VoiceConverter
        A model with codes.
    read : callable
        Gives the blocks ``[n]`` of the recording, from its begin on, whenever it is called.

    Returns
    -------
    CodeFile
    """
    parts = interface.mods.model, interface.mods.features
    analysis = analyze(*parts, read(), context=interface.inference_ctx)
    vector = own_vector(*parts, read(), interface.inference_ctx)
    model, more = interface.mods.model, {}
    if model.speakers.source == "encoder":
        more["voice"] = vector[0].float().cpu()
    if model.uses_pitch:
        pitch = model.conditioner.pitch
        more |= {
            "pitch": pitch_values(analysis.pitch, pitch.stride, pitch.levels)[0].cpu(),
            "f0_statistics": analysis.f0_statistics[0].float().cpu(),
        }
    return new_code_file(interface, analysis.content.codes[0], analysis.samples, **more)


def check_code_file(interface, code_file):
    """Raises a UserError unless the codes are of this very model."""
    if code_file.checksum != interface.checksum:
        raise UserError(
            f"the codes are of the model {code_file.model!r} with checksum "
            f"{code_file.checksum[:12]}..., not of {model_name(interface)!r} with "
            f"{interface.checksum[:12]}...; decode them with the model that encoded them."
        )
    model, (levels, samples_per_pitch) = interface.mods.model, pitch_format(interface)
    speakers = model.speakers
    heard = speakers is not None and speakers.source == "encoder"
    for name, found, expected in (
        ("sample_rate", code_file.sample_rate, interface.sample_rate),
        ("codebook_size", code_file.codebook_size, model.quantizer.codebook_size),
        ("samples_per_code", code_file.samples_per_code, model.conditioner.samples_per_code),
        ("pitch_levels", code_file.pitch_levels, levels),
        ("samples_per_pitch", code_file.samples_per_pitch, samples_per_pitch),
        ("the number of codes", len(code_file.codes), code_count(interface, code_file.samples)),
        (
            "the number of values of pitch",
            0 if code_file.pitch is None else len(code_file.pitch),
            pitch_count(interface, code_file.samples),
        ),
        (
            "the number of statistics of F0",
            0 if code_file.f0_statistics is None else len(code_file.f0_statistics),
            2 if levels else 0,
        ),
        (
            "the length of the speaker's vector",
            0 if code_file.voice is None else len(code_file.voice),
            speakers.channels if heard else 0,
        ),
    ):
        if found != expected:
            raise UserError(
                f"the codes do not fit the model {model_name(interface)!r}: {name} is {found}, "
                f"and the model's is {expected}; encode the recording again."
            )


def code_count(interface, samples):
    """How many codes a recording of so many samples has."""
    return interface.mods.model.conditioner.code_count(samples)


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


def pitch_at_codes(pitch, codes, samples_per_code, samples_per_pitch):
    """One value of pitch for each code: the one in whose span the middle of the code lies.

    Arguments
    ---------
    pitch : torch.Tensor
        ``[..., P]``.
    codes : int
        Their number T.
    samples_per_code, samples_per_pitch : int
        Samples of waveform for each.

    Returns
    -------
    torch.Tensor
        ``[..., T]``.

    Example
    -------
    >>> pitch_at_codes(torch.tensor([4, 5, 6, 7, 8]), 3, 512, 256).tolist()
    [5, 7, 8]
    """
    return _nearest(pitch, codes, samples_per_code, samples_per_pitch)


def pitch_of_codes(pitch, values, samples_per_code, samples_per_pitch):
    """The inverse of :func:`pitch_at_codes`: from one value for each code to what a file of codes
    holds.

    Arguments
    ---------
    pitch : torch.Tensor
        ``[..., T]``.
    values : int
        How many are wanted, P.
    samples_per_code, samples_per_pitch : int
        Samples of waveform for each.

    Returns
    -------
    torch.Tensor
        ``[..., P]``.

    Example
    -------
    >>> pitch_of_codes(torch.tensor([5, 7, 8]), 5, 512, 256).tolist()
    [5, 5, 7, 7, 8]
    """
    return _nearest(pitch, values, samples_per_pitch, samples_per_code)


def _nearest(values, count, samples_per_result, samples_per_value):
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
