"""The recordings that conversion is diagnosed on, from the manifests of a prepared corpus."""

import itertools
import random
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.audio.io import read_wav
from waveglow_vq.audio.pitch import track_log_f0
from waveglow_vq.audio.sound_files import SoundBytes
from waveglow_vq.data.manifests import load_manifest, read_pitch
from waveglow_vq.data.shards.format import sound_source

MANIFESTS = ("train", "valid", "test", "unseen")


class RecordedUtterance(NamedTuple):
    """A recording of a manifest."""

    name: str
    speaker: str
    path: str  # at the model's rate
    text: str  # empty where nobody wrote it down
    pitch: str  # the file of its log-F0, or None
    seen: bool  # whether its speaker was trained on


def read_manifests(folder, data_root, labels):
    """The utterances of train.json, valid.json, test.json and, if there is one, unseen.json: by the
    name of the manifest, sorted by their own.

    ``data_root`` is what ``{data_root}`` in the manifests stands for, and ``labels`` are the
    speakers that the model knows. A UserError says that a manifest is missing or damaged, or names
    files outside of ``data_root``.
    """
    known, found = set(labels), {}
    for name in MANIFESTS:
        path = Path(folder) / f"{name}.json"
        if name == "unseen" and not path.exists():
            found[name] = []
            continue
        entries = load_manifest(path, data_root, ("wav", "speaker"))
        found[name] = [
            RecordedUtterance(
                key,
                entry["speaker"],
                entry["wav"],
                entry.get("text", ""),
                entry.get("pitch"),
                entry["speaker"] in known,
            )
            for key, entry in sorted(entries.items())
        ]
    return found


def choose(items, count, seed):
    """At most ``count`` of the items (all where None), drawn by the seed, in their own order.

    Example
    -------
    >>> choose("abcdef", 3, seed=0) == choose("abcdef", 3, seed=0)
    True
    >>> choose("ab", 3, seed=0), choose("ab", None, seed=0)
    (['a', 'b'], ['a', 'b'])
    """
    items = list(items)
    if count is None or count >= len(items):
        return items
    # By a text, so that seeds may be of any kind and no two draws are related.
    drawn = random.Random(str(seed)).sample(range(len(items)), max(count, 0))
    return [items[i] for i in sorted(drawn)]


def by_speaker(utterances):
    """Utterances of each speaker, ``{label: [RecordedUtterance]}``, labels sorted."""
    found = {}
    for utterance in sorted(utterances, key=lambda u: (u.speaker, u.name)):
        found.setdefault(utterance.speaker, []).append(utterance)
    return found


def choose_sources(utterances, max_speakers, max_utterances, seed):
    """Chooses what to convert: a number of speakers of either kind, trained on or not, and of
    utterances (None: all), spread evenly over kinds and speakers. Utterances with a text come
    first, since only of them it can be told whether the words stay. Those of speakers that were
    trained on stand first in the result."""
    queues = []
    for seen in (True, False):
        speakers = by_speaker(u for u in utterances if u.seen == seen)
        turns = []
        for speaker in choose(speakers, max_speakers, f"{seed} speakers"):
            shuffled = list(speakers[speaker])
            random.Random(f"{seed} {speaker}").shuffle(shuffled)
            shuffled.sort(key=lambda utterance: not utterance.text)  # keeps the order otherwise
            turns.append(shuffled)
        queues.append(_in_turns(turns))
    chosen = _in_turns(queues)[:max_utterances]
    return sorted(chosen, key=lambda u: (not u.seen, u.speaker, u.name))


def _in_turns(lists):
    """The first of each, then the second of each, ..."""
    rounds = itertools.zip_longest(*lists)
    return [item for items in rounds for item in items if item is not None]


def read_source(utterance, features):
    """The samples ``[N]`` of an utterance, at the rate of the features."""
    source = sound_source(utterance.path)
    return read_wav(source, features.sample_rate, min_samples=features.margin + 1)


def log_f0_of(utterance, features):
    """Log-F0 of an utterance over its voiced frames, ``[voiced]``: what the preparation left
    beside it, or tracked here."""
    pitch = utterance.pitch and sound_source(utterance.pitch)
    if isinstance(pitch, SoundBytes) or (pitch and Path(pitch).is_file()):
        log_f0 = read_pitch(pitch)
    else:
        wav = read_source(utterance, features)
        log_f0 = track_log_f0(wav, features.sample_rate, features.hop_length)
    return log_f0[log_f0 > 0]
