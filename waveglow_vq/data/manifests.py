"""Reads the manifests of a prepared corpus, and the pitch beside the clips."""

import json
import os
from pathlib import Path

from waveglow_vq.audio.sound_files import sound_file, sound_name
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path
from waveglow_vq.utils.read_tracking import note_reading

import numpy as np
import torch

REPORT = "prepare_report.json"  # of the preparation
PITCH_SUFFIX = ".pitch.npy"  # of the file beside a clip


def load_manifest(manifest, data_root, needed=("wav",)):
    """Reads a manifest (its form: see preparation.py) as entries by id, and checks that its files
    lie in the corpus. ``{data_root}`` in it stands for ``data_root``; every entry has to have what
    is ``needed``, ``wav`` among it.
    """
    data_root = user_path(data_root)
    try:
        entries = json.loads(user_path(manifest).read_text("utf-8-sig"))
        if not isinstance(entries, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise UserError(f"{manifest} cannot be read ({error}); prepare the corpus again") from None
    root = os.path.join(os.path.abspath(data_root), "")
    for key, entry in entries.items():
        if not isinstance(entry, dict) or not set(needed) <= entry.keys():
            raise UserError(
                f"{manifest}: {key} has no {' or no '.join(needed)}; prepare the corpus again"
            )
        for name in ("wav", "pitch"):
            if not entry.get(name):
                continue
            # By their names alone: parts of a corpus may be links to other disks.
            path = entry[name].replace("{data_root}", str(data_root))
            inside = entry[name].removeprefix("{data_root}/")
            if ".." in Path(inside).parts or not os.path.abspath(path).startswith(root):
                raise UserError(f"{manifest}: {key} names a file outside of {data_root}")
            entry[name] = path
    return entries


def read_pitch(source):
    """Reads the log-F0 beside a clip: float32 ``[frames]``, 0 where unvoiced."""
    name = sound_name(source)
    note_reading(name)
    try:
        log_f0 = np.load(sound_file(source), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{name} cannot be read ({error}); prepare the corpus again") from None
    if getattr(log_f0, "dtype", None) != np.float32 or log_f0.ndim != 1:
        raise UserError(f"{name} is not float32 [frames]; prepare the corpus again")
    return torch.from_numpy(log_f0)
