"""What the commands share: loading the model, printing facts, writing reports."""

import json
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import write_json

# Lists longer than this are printed with their length.
MANY = 5
# What each interface is for.
_COMMANDS_FOR = {
    "WaveGlowVocoder": "vocode",
    "SpeechCodec": "encode and decode",
    "VoiceConverter": "convert, and encode and decode where the model has codes",
    "TextToSpeech": "speak",
}


def load_model(options, command, interfaces):
    """Loads the model of a command, prepared for fast inference. The options are ``model``,
    ``device``, ``threads`` and, of commands that draw waveforms, ``dtype``; ``interfaces`` are
    those that the command can use.
    """
    from waveglow_vq.inference.exported_model import load_export
    from waveglow_vq.inference.loading import read_export_header

    import torch

    if options.threads is not None:
        if options.threads < 1:
            raise UserError(f"--threads: {options.threads}; at least 1 is needed")
        torch.set_num_threads(options.threads)
    if Path(options.model).is_file():
        raise UserError(
            f"MODEL: {options.model} is a file; expected an export folder ('waveglow-vq "
            "import-checkpoint' makes one from a published checkpoint)"
        )
    interface = read_export_header(options.model)["interface"]
    if interface in _COMMANDS_FOR and interface not in interfaces:
        raise UserError(
            f"MODEL: {options.model} is an export for {interface}, which {command} cannot use; "
            f"use waveglow-vq {_COMMANDS_FOR[interface]}"
        )
    check_device(options.device)
    run_opts = {"device": options.device} if options.device else None
    model = load_export(options.model, run_opts=run_opts)
    if hasattr(options, "dtype"):
        model.prepare_inference(options.dtype)
    return model


def check_device(device):
    """Raises a UserError if ``--device`` is not available."""
    from waveglow_vq.utils.devices import checked_device

    checked_device(device, "--device")


def print_facts(report, as_json=False):
    """Prints a dict of plain values: a line each for people, or as JSON for machines.

    Example
    -------
    >>> print_facts({"sample_rate": 22050, "pitch": None, "features": {"n_mels": 80, "hop": 256}})
    sample rate  22050
    features     n_mels 80, hop 256
    >>> print_facts({"sample_rate": 22050, "pitch": None}, as_json=True)
    {"sample_rate": 22050, "pitch": null}
    """
    if as_json:
        print(json.dumps(report))
        return
    lines = {
        name.replace("_", " "): _in_words(value)
        for name, value in report.items()
        if value is not None
    }
    width = max(map(len, lines), default=0)
    for name, words in lines.items():
        print(f"{name:<{width}}  {words}")


def _in_words(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        count = f"{len(value)}: " if len(value) > MANY else ""
        return count + ", ".join(map(str, value)) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def write_report(path, content, option):
    """Writes a JSON file that an option names, whole or not at all."""
    try:
        write_json(path, content)
    except OSError as error:
        raise UserError(f"{option}: {path} cannot be written: {error.strerror}") from error
