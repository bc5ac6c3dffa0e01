"""What the preparation of every corpus shares: checks, filters, splits and manifests.

A corpus is a list of `Clip`. `prepare_manifests` checks every sound file, drops what the filters
reject, divides the rest into splits and writes one JSON manifest per split:

    {"LJ001-0001": {"wav": "{data_root}/wavs/LJ001-0001.wav", "num_samples": 212893,
                    "duration": 9.655, "text": "Printing, in the only sense ..."}, ...}

`{data_root}` stands for the corpus folder, so manifests survive when the corpus moves. Beside them
`prepare_report.json` says what was dropped and why, and from which options and files the manifests
were made: the next call with the same ones has nothing to do.
"""

import hashlib
import json
import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from waveglow_vq.audio.io import read_wav
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import stays_inside, user_path, write_json

import numpy as np
from tqdm import tqdm

logger = logging.getLogger(__name__)

REPORT = "prepare_report.json"
WINDOW_SAMPLES = 16384  # a training segment: what the loudness filter looks at
# An energy of 3.0 in such a window, the limit of earlier WaveGlow corpora: -37.4 dBFS.
MIN_LOUDNESS_DBFS = round(10 * math.log10(3.0 / WINDOW_SAMPLES), 1)
_SILENT_PEAK = 2.0 / 32768.0  # what dither leaves of digital silence
_VERSION = 1  # of the manifests; those of another version are made anew


class Clip(NamedTuple):
    """One utterance of a corpus: its id, its file relative to the corpus folder, its text.

    `extra` are further entries of the manifest, such as {"speaker": "p225"}.
    """

    id: str
    file: str
    text: str
    extra: dict = {}


class Filters(NamedTuple):
    """Which clips are left out.

    Arguments
    ---------
    min_samples : int
        Clips shorter than this are dropped.
    max_samples : int or None
        Clips longer than this are dropped; None for no limit.
    min_loudness_dbfs : float or None
        Clips whose loudest window of 16384 samples has an RMS level below this are dropped; None
        for no limit.
    skip_silent : bool
        Whether to drop clips of digital silence, for which a likelihood has no upper bound.
    """

    min_samples: int = WINDOW_SAMPLES
    max_samples: int | None = None
    min_loudness_dbfs: float | None = MIN_LOUDNESS_DBFS
    skip_silent: bool = True


class Sound(NamedTuple):
    """What the filters need to know: length, peak (full scale 1), level of the loudest window."""

    num_samples: int
    peak: float
    loudness_dbfs: float


def loudest_window_dbfs(signal, window_samples=WINDOW_SAMPLES):
    """RMS level of the loudest window of a signal.

    Arguments
    ---------
    signal : numpy.ndarray
        Samples, full scale 1, [N].
    window_samples : int
        Length of the window; a shorter signal is one window.

    Returns
    -------
    level : float
        In dB relative to an RMS of 1; -inf for digital silence.

    Example
    -------
    >>> signal = np.zeros(50_000)
    >>> signal[30_000] = np.sqrt(3.0)
    >>> round(loudest_window_dbfs(signal), 2)
    -37.37
    """
    window = min(window_samples, len(signal))
    energy = np.concatenate([[0.0], np.cumsum(np.square(signal, dtype=np.float64))])
    loudest = (energy[window:] - energy[:-window]).max() / window
    return 10.0 * math.log10(loudest) if loudest > 0 else -math.inf


def inspect_sound(path, sample_rate):
    """Reads a sound file and measures it.

    Arguments
    ---------
    path : str or Path
        The file: one channel at `sample_rate`.
    sample_rate : int
        In Hz.

    Returns
    -------
    Sound

    Raises
    ------
    waveglow_vq.errors.UserError
        If the file is missing, empty, cut off, at another rate, not mono, or holds NaN.
    """
    signal = read_wav(path, sample_rate=sample_rate).numpy()
    return Sound(len(signal), float(np.abs(signal).max()), loudest_window_dbfs(signal))


def reason_to_drop(sound, filters):
    """Says which filter rejects a clip.

    Returns
    -------
    reason : str or None
        "too_short", "too_long", "silent", "too_quiet", or None for a clip to keep.

    Example
    -------
    >>> reason_to_drop(Sound(100, 0.5, -20.0), Filters(min_samples=200))
    'too_short'
    """
    if sound.num_samples < filters.min_samples:
        return "too_short"
    if filters.max_samples is not None and sound.num_samples > filters.max_samples:
        return "too_long"
    if filters.skip_silent and sound.peak <= _SILENT_PEAK:
        return "silent"
    if filters.min_loudness_dbfs is not None and sound.loudness_dbfs < filters.min_loudness_dbfs:
        return "too_quiet"
    return None


def hash_fraction(clip_id, seed, purpose):
    """A number in [0, 1) that depends on nothing but its arguments.

    Example
    -------
    >>> hash_fraction("LJ001-0001", 0, "split") == hash_fraction("LJ001-0001", 0, "split")
    True
    """
    digest = hashlib.sha256(f"{purpose}:{seed}:{clip_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def choose_subset(clips, max_utterances, seed=0):
    """Chooses so many clips by a hash of their id; a smaller subset is part of a larger one.

    Arguments
    ---------
    clips : list
        Of anything with an `id`.
    max_utterances : int or None
        How many; None for all.
    seed : int
        Another seed, another subset.

    Returns
    -------
    list
        The chosen ones, in any order.

    Raises
    ------
    waveglow_vq.errors.UserError
        If none are wanted.
    """
    if max_utterances is None:
        return list(clips)
    if max_utterances < 1:
        raise UserError(f"max_utterances is {max_utterances}, but has to be at least 1")
    return sorted(clips, key=lambda clip: hash_fraction(clip.id, seed, "subset"))[:max_utterances]


def assign_splits(clip_ids, splits, split_ratio, seed=0):
    """Divides clips into splits by a hash of their id.

    Where a clip goes depends on its own id only: neither the order of the list matters, nor does
    a new clip move the others. The one exception are corpora so small that a split would stay
    empty: it then gets the clip that is nearest to its share, from a split with clips to spare.

    Arguments
    ---------
    clip_ids : list of str
        All different.
    splits : sequence of str
        Names, such as ("train", "valid", "test").
    split_ratio : sequence of float
        Shares of any sum, such as (90, 5, 5). Since every clip is drawn by itself, the sizes are
        close to the shares and not exactly theirs.
    seed : int
        Another seed, another division.

    Returns
    -------
    assignment : dict
        Name of the split -> sorted list of ids.

    Raises
    ------
    waveglow_vq.errors.UserError
        If the shares do not fit the splits, or there are fewer clips than splits.

    Example
    -------
    >>> parts = assign_splits([f"LJ{i}" for i in range(1000)], ("train", "test"), (90, 10))
    >>> {name: len(ids) for name, ids in parts.items()}
    {'train': 888, 'test': 112}
    """
    if len(set(splits)) != len(splits) or not splits:
        raise UserError(f"splits are {list(splits)}, but have to be different names")
    if len(splits) != len(split_ratio) or min(split_ratio) < 0 or sum(split_ratio) <= 0:
        raise UserError(
            f"split_ratio is {list(split_ratio)}, but has to give one share, not negative, for"
            f" each of the splits {list(splits)}"
        )
    bounds = np.cumsum(split_ratio, dtype=np.float64) / sum(split_ratio)
    fractions = {clip_id: hash_fraction(clip_id, seed, "split") for clip_id in clip_ids}
    parts = {name: [] for name in splits}
    for clip_id, fraction in sorted(fractions.items()):
        index = int(np.searchsorted(bounds, fraction, side="right"))
        parts[splits[min(index, len(splits) - 1)]].append(clip_id)

    wanted = [name for name, share in zip(splits, split_ratio, strict=True) if share > 0]
    if len(fractions) < len(wanted):
        raise UserError(
            f"only {len(fractions)} clips are left after filtering, too few for"
            f" {len(wanted)} splits ({', '.join(wanted)})"
        )
    for name in wanted:
        if not parts[name]:
            end = bounds[list(splits).index(name)]
            spare = [i for ids in parts.values() if len(ids) > 1 for i in ids]
            chosen = min(spare, key=lambda i: (abs(fractions[i] - end), i))
            for ids in parts.values():
                if chosen in ids:
                    ids.remove(chosen)
            parts[name] = [chosen]
    return parts


def prepare_manifests(
    clips,
    data_root,
    save_folder,
    splits=("train", "valid", "test"),
    split_ratio=(90, 5, 5),
    seed=0,
    filters=None,
    sample_rate=22050,
    num_workers=None,
    max_utterances=None,
):
    """Checks and filters the clips of a corpus and writes `<split>.json` for each split.

    Arguments
    ---------
    clips : list of Clip
        The whole corpus; files are relative to `data_root`.
    data_root : str or Path
        The corpus folder.
    save_folder : str or Path
        Where the manifests and `prepare_report.json` go.
    splits, split_ratio, seed
        See `assign_splits`.
    filters : Filters or None
        What to leave out; None for the default limits.
    sample_rate : int
        In Hz; a file at another rate is an error.
    num_workers : int or None
        Files read at a time; None for the number of processors, at most 8.
    max_utterances : int or None
        Use only so many clips, chosen by a hash of their id (before filtering).

    Returns
    -------
    report : dict
        What `prepare_report.json` holds: clips and hours by split, ids that were dropped by
        reason.

    Raises
    ------
    waveglow_vq.errors.UserError
        If a sound file is missing or unusable (the sentence names it), or nothing is left.
    """
    data_root, save_folder = user_path(data_root), user_path(save_folder)
    filters = filters or Filters()
    for clip in clips:
        if not stays_inside(clip.file):
            raise UserError(f"the clip {clip.id} names a file outside of {data_root}: {clip.file}")
    clips = sorted(choose_subset(clips, max_utterances, seed))

    options = {
        "splits": list(splits),
        "split_ratio": list(split_ratio),
        "seed": seed,
        "sample_rate": sample_rate,
        "max_utterances": max_utterances,
        **filters._asdict(),
    }
    fingerprint = _fingerprint(clips, data_root, options)
    report_file = save_folder / REPORT
    report = read_report(report_file)
    manifests_exist = all((save_folder / f"{name}.json").is_file() for name in splits)
    if report.get("fingerprint") == fingerprint and manifests_exist:
        logger.info("%s: manifests are up to date", save_folder)
        return report

    sounds = _inspect_all(clips, data_root, sample_rate, num_workers)
    kept, dropped = {}, {"too_short": [], "too_long": [], "silent": [], "too_quiet": []}
    for clip, sound in zip(clips, sounds, strict=True):
        reason = reason_to_drop(sound, filters)
        if reason:
            dropped[reason].append(clip.id)
            continue
        kept[clip.id] = {
            "wav": f"{{data_root}}/{clip.file}",
            "num_samples": sound.num_samples,
            "duration": sound.num_samples / sample_rate,
            "text": clip.text,
            **clip.extra,
        }
    counts = ", ".join(f"{len(ids)} {reason}" for reason, ids in dropped.items() if ids)
    logger.info("%s: %d clips kept; dropped: %s", data_root, len(kept), counts or "none")
    if not kept:
        raise UserError(
            f"the filters leave none of the {len(clips)} clips in {data_root} ({counts})"
        )

    parts = assign_splits(list(kept), splits, split_ratio, seed)
    report = {"fingerprint": fingerprint, "options": options, "dropped": dropped, "splits": {}}
    save_folder.mkdir(parents=True, exist_ok=True)
    report_file.unlink(missing_ok=True)  # from here until the new one: not up to date
    for name, ids in parts.items():
        write_json(save_folder / f"{name}.json", {clip_id: kept[clip_id] for clip_id in ids})
        hours = sum(kept[clip_id]["duration"] for clip_id in ids) / 3600
        report["splits"][name] = {"clips": len(ids), "hours": round(hours, 4)}
        logger.info("%s: %d clips, %.2f hours", name, len(ids), hours)
    write_json(report_file, report)
    return report


def _fingerprint(clips, data_root, options):
    digest = hashlib.sha256(json.dumps([_VERSION, options], sort_keys=True).encode())
    missing = []
    for clip in clips:
        try:
            status = os.stat(data_root / clip.file)
        except OSError:
            missing.append(data_root / clip.file)
            continue
        digest.update(json.dumps([*clip, status.st_size, status.st_mtime_ns]).encode())
    if missing:
        raise UserError(
            f"{missing[0]} is listed in the corpus but does not exist"
            + (f", and {len(missing) - 1} more like it" if len(missing) > 1 else "")
        )
    return digest.hexdigest()


def _inspect_all(clips, data_root, sample_rate, num_workers):
    # Threads, not processes: reading and NumPy release the interpreter, and nothing is copied.
    workers = num_workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        try:
            inspected = pool.map(
                lambda clip: inspect_sound(data_root / clip.file, sample_rate), clips
            )
            return list(tqdm(inspected, total=len(clips), desc="checking clips", unit="clip"))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # the first bad file is enough, or Ctrl-C
            raise


def read_report(file):
    """What an earlier preparation has left, or {} if that is nothing one can read."""
    try:
        report = json.loads(file.read_text("utf-8"))
        return report if isinstance(report, dict) else {}
    except (OSError, ValueError):
        return {}
