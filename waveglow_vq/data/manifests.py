"""Reading what the preparation of a corpus leaves: manifests, and the pitch beside the clips.

Authors
 * The waveglow-vq developers, 2026
"""

import os

from waveglow_vq.data.reading import note_reading
from waveglow_vq.data.sound_files import sound_file, sound_name
from waveglow_vq.errors import UserError

import numpy as np
import torch
from speechbrain.dataio.dataio import load_data_json


def load_manifest(manifest, data_root, needed=("wav",)):
    """Reads a manifest (its form: see preparation.py), and checks that its files lie in the corpus.

    Arguments
    ---------
    manifest : str or Path
        The JSON file.
    data_root : str or Path
        What ``{data_root}`` in it stands for.
    needed : sequence of str
        What every entry has to have, ``wav`` among it.

    Returns
    -------
    dict
        Id of the utterance: its entry.

    Raises
    ------
    UserError
        If it is missing or damaged, an entry lacks something, or a file lies elsewhere.
    """
    try:
        entries = load_data_json(str(manifest), {"data_root": str(data_root)})
    except (OSError, ValueError) as error:
        raise UserError(f"{manifest} cannot be read ({error}); prepare the corpus anew") from None
    root = os.path.join(os.path.abspath(data_root), "")
    for key, entry in entries.items():
        if not isinstance(entry, dict) or not set(needed) <= entry.keys():
            raise UserError(
                f"{manifest}: {key} has no {' or no '.join(needed)}; prepare the corpus anew"
            )
        for path in (entry["wav"], entry.get("pitch") or entry["wav"]):
            if not os.path.abspath(path).startswith(root):
                raise UserError(f"{manifest}: {key} names a file outside of {data_root}")
    return entries


def read_pitch(source):
    """The log-F0 that the preparation left beside a clip, float32 ``[frames]``, 0 where
    unvoiced.

    Arguments
    ---------
    source : str, Path or SoundBytes
        The file.
    """
    name = sound_name(source)
    note_reading(name)
    try:
        log_f0 = np.load(sound_file(source), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{name} cannot be read ({error}); prepare the corpus anew") from None
    if getattr(log_f0, "dtype", None) != np.float32 or log_f0.ndim != 1:
        raise UserError(f"{name} is not float32 [frames]; prepare the corpus anew")
    return torch.from_numpy(log_f0)
