"""A tiny corpus for the tests of its codes."""

import json

from waveglow_vq.audio.io import write_wav

from tests.inference.exports import voiced_speech_like

NAMES = [f"clip{number}" for number in range(6)]


def write_corpus(folder, names=NAMES, **extra):
    """Recordings of 3000 samples and more, and their manifest; returns its path."""
    entries = {}
    for number, name in enumerate(names):
        write_recording(folder, name, number)
        entries[name] = {
            "wav": f"{{data_root}}/{name}.wav",
            "num_samples": 3000 + 500 * number,
            "text": f"This is {name}.",
            **extra,
        }
    return write_manifest(folder, entries)


def write_recording(folder, name, number):
    """The recording of a number, under a name."""
    write_wav(folder / f"{name}.wav", voiced_speech_like(3000 + 500 * number, seed=number), 22050)


def write_manifest(folder, entries, name="train"):
    """Writes entries as they are; returns the path."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(entries), "utf-8")
    return path
