"""Encoding the recordings of a corpus, in one process or several; see code_corpus.py."""

import contextlib
import functools
import logging
import os
from pathlib import Path

from waveglow_vq.data.manifests import load_manifest
from waveglow_vq.data.shards.format import ShardMember, sound_source
from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.code_file import SUFFIX, read_code_file, write_code_file
from waveglow_vq.inference.codes.coding import load_codec
from waveglow_vq.utils.journal import Journal, json_digest
from waveglow_vq.utils.workers import run_tasks, worker_count

from tqdm import tqdm

logger = logging.getLogger(__name__)

JOURNAL = "codes.jsonl"
VERSION = 1  # of a folder of codes; those of another version are extracted again
# Fewer are not worth the start of a process.
_CLIPS_PER_PROCESS = 256


def all_entries(manifests, data_root):
    """The entries of all manifests by id."""
    entries = {}
    for manifest in manifests.values():
        for key, entry in load_manifest(manifest, data_root).items():
            if not key or key.startswith(".") or set("/\\\0") & set(key):
                raise UserError(
                    f"{manifest}: the id {key!r} cannot be a file name (no slashes, no leading"
                    " dot); rename the utterance and prepare the corpus again"
                )
            if entries.setdefault(key, entry)["wav"] != entry["wav"]:
                raise UserError(f"{manifest}: {key} is another recording in another manifest")
    if not entries:
        raise UserError(f"{', '.join(map(str, manifests.values()))}: no utterances")
    return entries


def recording_key(entry, data_root):
    """Identifies a recording and its state; None if there is no file."""
    member = ShardMember.parse(entry["wav"])
    path, place = (entry["wav"], []) if member is None else (member.path, member[1:])
    try:
        status = os.stat(path)
    except OSError:
        return None
    relative = os.path.relpath(path, data_root)  # the corpus may move
    identity = [VERSION, relative, *place, status.st_size, status.st_mtime_ns]
    return json_digest(identity)[:24]


def code_path(folder, key):
    """The code file of an utterance."""
    return Path(folder) / f"{key}{SUFFIX}"


def is_valid(path, checksum):
    """Whether a code file is complete and of the model."""
    try:
        return read_code_file(path).checksum == checksum
    except UserError:
        return False


def encode_all(codec, codec_folder, recordings, keys, folder, num_workers, max_skipped):
    """Encodes recordings, and notes each in the journal of ``folder``.

    ``recordings`` are paths, or members of shards, by id of the utterance; ``keys`` come from
    :func:`recording_key`, by id; other processes load the codec from ``codec_folder``. Returns the
    seconds of what was encoded, and the reasons by id of what could not be.
    """
    workers = 1
    if codec.device_type == "cpu":
        enough = -(-len(recordings) // _CLIPS_PER_PROCESS)
        workers = num_workers or min(worker_count(), enough)
        workers = min(workers, len(recordings))
    alone = workers <= 1
    results = run_tasks(
        functools.partial(_encode, codec) if alone else _encode_in_worker,
        [(recording, code_path(folder, key)) for key, recording in recordings.items()],
        workers,
        "encodes recordings",
        method="spawn",  # a process that computed in several threads cannot be forked safely
        prepare=None if alone else functools.partial(_prepare_worker, str(codec_folder)),
    )
    seconds, skipped = 0.0, {}
    # Closed at once after an error: the processes would work through the rest.
    with (
        Journal(folder / JOURNAL) as journal,
        tqdm(desc="encoding", total=len(recordings), unit="clip", disable=None) as progress,
        contextlib.closing(results),
    ):
        for key, (clip_seconds, problem) in zip(recordings, results, strict=True):
            if problem is None:
                seconds += clip_seconds
                journal.add(key, keys[key])
            else:
                skipped[key] = problem
                logger.warning("a recording is skipped: %s", problem)
                if len(skipped) > max_skipped:
                    raise UserError(
                        f"{problem.rstrip('.')}; more than {max_skipped} recordings cannot be "
                        "encoded (max_skipped): repair the corpus or prepare it again"
                    )
            progress.update()
    return seconds, skipped


def _encode(codec, task):
    """Encodes one recording; returns its seconds, and None or the error."""
    recording, path = task
    try:
        code_file = codec.to_code_file(sound_source(recording))
    except Exception as error:  # any error concerns this recording only
        path.unlink(missing_ok=True)  # codes of an earlier recording
        known = isinstance(error, UserError)
        return 0.0, str(error) if known else f"{recording}: {type(error).__name__}: {error}"
    write_code_file(path, code_file)
    return code_file.seconds, None


def _prepare_worker(codec_folder):
    global _codec
    _codec = load_codec(codec_folder, {"device": "cpu"})


def _encode_in_worker(task):
    return _encode(_codec, task)
