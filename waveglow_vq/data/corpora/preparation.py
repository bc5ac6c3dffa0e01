"""The preparation of every corpus: filters, splits, manifests and a report.

A corpus is a list of `Recording`. What the filters reject is dropped, the rest is split, and each
split gets a JSON manifest:

    {"LJ001-0001": {"wav": "{data_root}/wavs/LJ001-0001.wav", "num_samples": 212893,
                    "duration": 9.655, "text": "Printing, in the only sense ..."}, ...}

`{data_root}` stands for the corpus folder, so manifests survive when the corpus moves. Where there
are several speakers, entries also hold `speaker`, `pitch`, `log_f0_mean` and `log_f0_std`, and
`speakers.json` says what is known of each speaker. `prepare_report.json` says what was dropped and
why, and from which options and files the manifests were made: the next call with the same ones has
nothing to do.
"""

import argparse
import hashlib
import json
import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor

from waveglow_vq.data.corpora.filters import (
    MIN_LOUDNESS_DBFS,
    REASONS,
    Filters,
    measure_sound,
    reason_to_drop,
)
from waveglow_vq.data.corpora.shard_writer import UTTERANCES_PER_SHARD
from waveglow_vq.data.corpora.splits import choose_subset, split_by_id
from waveglow_vq.data.manifests import PITCH_SUFFIX, REPORT
from waveglow_vq.data.speakers import SPEAKERS_FILE
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.speaker_condition import MIN_LOG_F0_STD
from waveglow_vq.utils.files import read_json, user_path, write_json

from tqdm import tqdm

logger = logging.getLogger(__name__)

# For a corpus in which nothing is voiced: between the voices of men and women.
_NEUTRAL_LOG_F0 = (math.log(150.0), 0.2)
_VERSION = 1  # of the manifests; those of another version are made again


def prepare_manifests(
    recordings,
    save_folder,
    splits=("train", "valid", "test"),
    split_ratio=(90, 5, 5),
    seed=0,
    filters=None,
    sample_rate=22050,
    num_workers=None,
    max_utterances=None,
):
    """Prepares a corpus of one speaker whose files are used as they are.

    Arguments
    ---------
    recordings : list of Recording
        The whole corpus.
    save_folder : str or Path
        Where `<split>.json` and `prepare_report.json` go.
    splits, split_ratio, seed
        See `split_by_id`.
    filters : Filters or None
        What to leave out; None for the default limits.
    sample_rate : int
        In Hz; a file at another rate is an error.
    num_workers : int or None
        Files read at a time; None for the number of processors, at most 8.
    max_utterances : int or None
        Use only so many recordings, chosen by a hash of their id (before filtering).

    Returns
    -------
    report : dict
        What `prepare_report.json` holds: recordings and hours by split, ids that were dropped by
        reason.

    Raises
    ------
    waveglow_vq.errors.UserError
        If an audio file is missing or unusable (the sentence names it), or nothing is left.
    """
    save_folder = user_path(save_folder)
    filters = (filters or Filters()).normalized()
    recordings = sorted(choose_subset(recordings, max_utterances, seed))
    options = {
        "splits": list(splits),
        "split_ratio": list(split_ratio),
        "seed": seed,
        "sample_rate": sample_rate,
        "max_utterances": max_utterances,
        **filters._asdict(),
    }
    fingerprint = _fingerprint(recordings, options)
    if report := find_report(save_folder, splits, fingerprint):
        return report
    sounds = _measure_all(recordings, sample_rate, num_workers)
    kept, dropped = apply_filters(recordings, sounds, filters)
    parts, _ = split_by_id(kept, splits, split_ratio, seed)
    manifests = {
        name: {r.id: _entry(r, r.source, sounds[r.id], sample_rate) for r in members}
        for name, members in parts.items()
    }
    report = {"fingerprint": fingerprint, "options": options, "dropped": dropped}
    return write_manifests(save_folder, manifests, report)


def check_manifests(folder, names):
    """Raises a UserError if one of the files that `skip_prep` relies on is missing."""
    for name in names:
        if not (folder / f"{name}.json").is_file():
            raise UserError(f"--skip_prep is on, but {folder} has no {name}.json")


def find_report(folder, names, fingerprint):
    """The report of an earlier preparation of the same files with the same options; None if there
    is none, or one of its files is lost."""
    report = read_json(folder / REPORT)
    complete = all((folder / f"{name}.json").is_file() for name in names)
    if report.get("fingerprint") != fingerprint or not complete:
        return None
    logger.info("%s: manifests are up to date", folder)
    return report


def apply_filters(recordings, sounds, filters):
    """Filters recordings by their `sounds`, id -> Sound. Returns the list of those that are kept,
    and reason -> ids of those that are dropped; a UserError if none is kept.
    """
    kept, dropped = [], {reason: [] for reason in REASONS}
    for recording in recordings:
        reason = reason_to_drop(sounds[recording.id], filters)
        if reason:
            dropped[reason].append(recording.id)
        else:
            kept.append(recording)
    if not kept:
        raise UserError(
            f"the filters leave none of the {len(recordings)} recordings ({_count(dropped)}):"
            " check min_samples, max_samples, min_loudness_dbfs and skip_silent"
        )
    return kept, dropped


def write_manifests(folder, manifests, report, speakers=None):
    """Writes the manifests, speakers.json and, last, the report, to which it adds the sizes of the
    splits.

    `manifests` is split -> id -> entry; the report holds `fingerprint`, `options` and `dropped`;
    `speakers` is what speakers.json holds, if there are several speakers.
    """
    summaries = {}
    for name, manifest in manifests.items():
        entries = manifest.values()
        summary = summaries[name] = {"clips": len(entries)}
        if speakers is not None:
            summary["speakers"] = len({entry["speaker"] for entry in entries})
            summary["with_text"] = sum(bool(entry["text"]) for entry in entries)
        summary["hours"] = round(sum(entry["duration"] for entry in entries) / 3600, 4)
    report = {**report, "splits": summaries}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).unlink(missing_ok=True)  # from here until the new one: not up to date
    for name, manifest in manifests.items():
        write_json(folder / f"{name}.json", manifest)
    if speakers is not None:
        write_json(folder / SPEAKERS_FILE, speakers)
    write_json(folder / REPORT, report)
    kept = sum(summary["clips"] for summary in summaries.values())
    logger.info("%d clips kept; dropped: %s", kept, _count(report["dropped"]) or "none")
    for name, summary in summaries.items():
        of_speakers = "" if speakers is None else f"{summary['speakers']} speakers, "
        logger.info("%s: %d clips, %s%.2f h", name, summary["clips"], of_speakers, summary["hours"])
    return report


def pool_log_f0(prepared):
    """Mean and standard deviation (at least 0.05) of the log-F0 over the voiced frames of several
    PreparedAudio; None if nothing is voiced.

    Example
    -------
    >>> from waveglow_vq.data.corpora.prepared_audio import PreparedAudio
    >>> pool_log_f0([PreparedAudio(None, 10, 5.0, 0.0), PreparedAudio(None, 30, 5.4, 0.0)])
    (5.3, 0.173...)
    """
    frames = total = squares = 0.0
    for item in prepared:
        frames += item.voiced_frames
        total += item.voiced_frames * item.log_f0_mean
        squares += item.voiced_frames * (item.log_f0_std**2 + item.log_f0_mean**2)
    if not frames:
        return None
    mean = total / frames
    return mean, max(math.sqrt(max(0.0, squares / frames - mean**2)), MIN_LOG_F0_STD)


def describe_speakers(parts, prepared, info, sample_rate):
    """The contents of the manifests (split -> id -> entry) and of speakers.json, for several
    speakers.

    An entry's `log_f0_mean` and `log_f0_std` are those of the recording; where nothing is voiced,
    those of all training recordings. The speakers are label -> {"train_clips", "log_f0_mean",
    "log_f0_std", "age", "gender", "accent", "region"} of those of train.

    `parts` is split -> recordings, `prepared` id -> PreparedAudio, and `info` label -> what is
    known of the speaker, who may be missing.
    """
    training = {}
    for recording in parts["train"]:
        training.setdefault(recording.speaker, []).append(prepared[recording.id])
    everyone = pool_log_f0(p for items in training.values() for p in items) or _NEUTRAL_LOG_F0
    manifests = {}
    for name, recordings in parts.items():
        manifests[name] = {}
        for r in recordings:
            mean, std = pool_log_f0([prepared[r.id]]) or everyone
            manifests[name][r.id] = {
                **_entry(r, f"{r.speaker}/{r.id}.wav", prepared[r.id].sound, sample_rate),
                "speaker": r.speaker,
                "pitch": f"{{data_root}}/{r.speaker}/{r.id}{PITCH_SUFFIX}",
                "log_f0_mean": mean,
                "log_f0_std": std,
            }
    speakers = {}
    for label in sorted(training):
        mean, std = pool_log_f0(training[label]) or everyone
        known = info.get(label, {})
        speakers[label] = {
            "train_clips": len(training[label]),
            "log_f0_mean": mean,
            "log_f0_std": std,
            **{field: known.get(field) for field in ("age", "gender", "accent", "region")},
        }
    return manifests, speakers


# ---- the command lines of the recipes


def preparation_parser(description):
    """A parser of the options that the preparations of all corpora have."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--sample_rate", type=int, default=22050, help="in Hz (default: %(default)s)")
    add("--min_samples", type=int, default=16384, help="drop shorter recordings")
    add("--max_samples", type=int, help="drop longer recordings")
    add(
        "--min_loudness_dbfs",
        type=lambda word: None if word.lower() == "none" else float(word),
        default=MIN_LOUDNESS_DBFS,
        help="drop quieter recordings, or none (default: %(default)s)",
    )
    add("--skip_silent", type=true_or_false, default=True, help="true or false")
    add("--seed", type=int, default=0, help="of the splits")
    add("--max_utterances", type=int, help="use only so many recordings")
    add("--num_workers", type=int, help="files read at a time")
    add("--shards_folder", help="where the prepared audio is also written as tar shards")
    add(
        "--utterances_per_shard",
        type=int,
        default=UTTERANCES_PER_SHARD,
        help="at most so many recordings make a shard (default: %(default)s)",
    )
    return parser


def true_or_false(word):
    """The type of an option that is either."""
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word.lower() == "true"


# ---- parts of the above


def _entry(recording, file, sound, sample_rate):
    return {
        "wav": f"{{data_root}}/{file}",
        "num_samples": sound.num_samples,
        "duration": sound.num_samples / sample_rate,
        "text": recording.text,
    }


def _count(dropped):
    return ", ".join(f"{len(ids)} {reason}" for reason, ids in dropped.items() if ids)


def _fingerprint(recordings, options):
    digest = hashlib.sha256(json.dumps([_VERSION, options], sort_keys=True).encode())
    missing = []
    for r in recordings:
        try:
            status = os.stat(r.path)
        except OSError:
            missing.append(r.path)
            continue
        # The empty dict was a field once; without it all corpora would be prepared again.
        identity = [r.id, r.source, r.text, {}, status.st_size, status.st_mtime_ns]
        digest.update(json.dumps(identity).encode())
    if missing:
        raise UserError(
            f"{missing[0]} is listed in the corpus but does not exist"
            + (f", and {len(missing) - 1} more like it" if len(missing) > 1 else "")
        )
    return digest.hexdigest()


def _measure_all(recordings, sample_rate, num_workers):
    # Threads, not processes: reading and NumPy release the interpreter, and nothing is copied.
    with ThreadPoolExecutor(num_workers or min(8, os.cpu_count() or 1)) as pool:
        try:
            sounds = pool.map(lambda r: measure_sound(r.path, sample_rate), recordings)
            sounds = tqdm(sounds, total=len(recordings), desc="checking clips", unit="clip")
            return dict(zip([r.id for r in recordings], sounds, strict=True))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # the first bad file is enough, or Ctrl-C
            raise
