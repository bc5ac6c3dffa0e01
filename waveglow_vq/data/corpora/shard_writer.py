"""Writes the shards of a prepared corpus; their form: see waveglow_vq/data/shards/format.py."""

import contextlib
import logging
import os
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.data.manifests import PITCH_SUFFIX, REPORT, load_manifest
from waveglow_vq.data.shards.format import (
    INDEX,
    JOURNAL,
    SHARD,
    VERSION,
    ShardMember,
    member_name,
    read_shards,
)
from waveglow_vq.data.speakers import SPEAKERS_FILE
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import atomic_write, read_json, user_path, write_json
from waveglow_vq.utils.journal import Journal, json_digest
from waveglow_vq.utils.validation import require_integer, require_number

from tqdm import tqdm

logger = logging.getLogger(__name__)

UTTERANCES_PER_SHARD = 256
SHARD_MEGABYTES = 256
_LEAST_SHARDS = 8  # of a split with so many clips: for processes and their workers


def write_shards(
    manifest_folder,
    data_root,
    shards_folder,
    sample_rate=22050,
    splits=("train", "valid", "test"),
    utterances_per_shard=UTTERANCES_PER_SHARD,
    shard_megabytes=SHARD_MEGABYTES,
):
    """Writes the clips of prepared manifests into shards.

    A run that was stopped, or found the disk full, goes on where it stopped. With the same
    manifests, files and options as the last time nothing is done.

    Arguments
    ---------
    manifest_folder : str or Path
        Where <split>.json lies, and speakers.json where there are several speakers.
    data_root : str or Path
        What ``{data_root}`` in the manifests stands for.
    shards_folder : str or Path
        Where the shards go; made if missing. It belongs to them: shards of an earlier preparation
        are replaced and removed.
    sample_rate : int
        Of the clips, in Hz.
    splits : sequence of str
        Names of the manifests.
    utterances_per_shard : int
        At most so many clips make a shard.
    shard_megabytes : float
        About so large is a shard at most.

    Returns
    -------
    Shards

    Raises
    ------
    waveglow_vq.errors.UserError
        If a manifest or a clip cannot be read, or a shard cannot be written; the sentence names
        the file.
    """
    _tar_writer()  # before anything is done
    require_integer("utterances_per_shard", utterances_per_shard, 1)
    require_number("shard_megabytes", shard_megabytes, above=0)
    manifest_folder, folder = user_path(manifest_folder), user_path(shards_folder)
    if folder.resolve() == manifest_folder.resolve():
        raise UserError(f"shards_folder {folder} is the folder of the manifests; name another one")
    manifests, planned = {}, {}
    for split in splits:
        manifests[split] = load_manifest(manifest_folder / f"{split}.json", data_root)
        clips = _list_clips(manifests[split])
        planned[split] = _plan_shards(split, clips, utterances_per_shard, shard_megabytes * 1e6)
    copied = [name for name in (SPEAKERS_FILE, REPORT) if (manifest_folder / name).is_file()]
    contents = [(manifest_folder / f"{name}.json").read_text("utf-8") for name in splits]
    contents += [(manifest_folder / name).read_text("utf-8") for name in copied]
    keys = {name: _key_of(clips) for shards in planned.values() for name, clips in shards.items()}
    everything = [VERSION, sample_rate, list(splits), copied, contents, keys]
    fingerprint = json_digest(everything)
    index = read_json(folder / INDEX)
    if index.get("fingerprint") == fingerprint:
        with contextlib.suppress(UserError):  # a shard is missing: only that one is written
            shards = read_shards(folder)
            logger.info("%s: shards are up to date", folder)
            return shards
    try:
        folder.mkdir(parents=True, exist_ok=True)
        records, members = _write_all(folder, planned, keys, index)
        for split in splits:
            write_json(folder / f"{split}.json", _as_members(manifests[split], members[split]))
        for name in copied:
            shutil.copyfile(manifest_folder / name, folder / name)
        index = {
            "version": VERSION,
            "fingerprint": fingerprint,
            "sample_rate": sample_rate,
            "splits": records,
        }
        write_json(folder / INDEX, index)
        for file in folder.iterdir():
            match = SHARD.fullmatch(file.name)
            if match and match[1] in splits and file.name not in keys:
                file.unlink()
        (folder / JOURNAL).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); complete"
            " shards are kept, and the same command writes the others"
        ) from None
    return read_shards(folder)


class _ShardClip(NamedTuple):
    id: str
    files: dict  # suffix: path
    identity: list  # of size and time of change of each file
    bytes: int


def _list_clips(manifest):
    """The clips of a manifest, mixed."""
    clips = []
    for clip_id, entry in manifest.items():
        files = {suffix: entry[key] for key, suffix in _suffixes(entry).items()}
        try:
            found = [os.stat(path) for path in files.values()]
        except OSError as error:
            raise UserError(
                f"{error.filename} of {clip_id} cannot be read ({error.strerror}); prepare the"
                " corpus again"
            ) from None
        identity = [(status.st_size, status.st_mtime_ns) for status in found]
        clips.append(_ShardClip(clip_id, files, identity, sum(size for size, _ in identity)))
    return sorted(clips, key=lambda clip: json_digest(clip.id))


def _suffixes(entry):
    """Key of each file of an entry -> the end of its name in a shard."""
    suffixes = {"wav": os.path.splitext(entry["wav"])[1].lower()}
    return {**suffixes, "pitch": PITCH_SUFFIX} if entry.get("pitch") else suffixes


def _plan_shards(split, clips, most, most_bytes):
    """Name of the shard -> its clips, equally many in each, or one less."""
    count = -(-len(clips) // most)
    count = max(count, round(sum(clip.bytes for clip in clips) / most_bytes), _LEAST_SHARDS)
    count = min(count, len(clips))
    ends = [len(clips) * i // max(count, 1) for i in range(count + 1)]
    return {f"{split}-{i:06d}.tar": clips[ends[i] : ends[i + 1]] for i in range(count)}


def _key_of(clips):
    """A key that changes with the content of a shard."""
    return json_digest([VERSION, [(clip.id, list(clip.files), clip.identity) for clip in clips]])


def _write_all(folder, planned, keys, index):
    """Writes the missing shards. Returns, for each split, the records of the index and the members
    by name.
    """
    journal = Journal(folder / JOURNAL)
    file = folder / INDEX
    if file.exists():
        # From here until the new one: not complete. What it knows, the journal does.
        journal.rewrite({**_entries_of(index), **journal.entries})
        file.unlink()
    for part in folder.glob(".*.part"):
        part.unlink()
    records = {split: [] for split in planned}
    members = {split: {} for split in planned}
    total = sum(len(clips) for shards in planned.values() for clips in shards.values())
    with journal, tqdm(desc="writing shards", total=total, unit="clip") as progress:
        for split, shards in planned.items():
            for name, clips in shards.items():
                path = folder / name
                found = None
                if journal.entries.get(name) == [keys[name], _size_of(path)]:
                    found = _find_members(path, clips)
                if found is None:
                    found = _write_shard(path, clips, progress)
                    journal.add(name, keys[name], _size_of(path))
                else:
                    progress.update(len(clips))
                members[split].update({key: (path.name, *place) for key, place in found.items()})
                ids = [clip.id for clip in clips]
                record = {"name": name, "bytes": _size_of(path), "key": keys[name], "ids": ids}
                records[split].append(record)
    return records, members


def _entries_of(index):
    """The shards of an index, as the journal lists them."""
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        shards = [shard for split in index["splits"].values() for shard in split]
        return {shard["name"]: [shard["key"], shard["bytes"]] for shard in shards}
    return {}


def _write_shard(path, clips, progress):
    """Writes a shard; the places of its members."""
    # Bytes as they are (no encoder), and nothing that differs from one time to another.
    options = {"encoder": False, "compress": False, "mtime": 0, "user": "", "group": ""}
    with atomic_write(path) as part:
        with (
            open(part, "wb") as file,
            _tar_writer()(file, format="PAX_FORMAT", **options) as writer,
        ):
            for clip in clips:
                sample = {suffix[1:]: _read_bytes(source) for suffix, source in clip.files.items()}
                writer.write({"__key__": member_name(clip.id, ""), **sample})
                progress.update()
        found = _find_members(part, clips)
        if found is None:
            raise OSError(0, "what was written is not what is read back", str(path))
    return found


def _read_bytes(path):
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); prepare the corpus again"
        ) from None


def _find_members(path, clips):
    """The places ``{name: (offset, size)}`` in a shard; None if its content is not the clips."""
    sizes = {}
    for clip in clips:
        for suffix, (size, _) in zip(clip.files, clip.identity, strict=True):
            sizes[member_name(clip.id, suffix)] = size
    try:
        with tarfile.open(path, "r:") as tar:
            found = {info.name: (info.offset_data, info.size) for info in tar}
    except (OSError, tarfile.TarError):
        return None
    return found if {name: size for name, (_, size) in found.items()} == sizes else None


def _as_members(manifest, members):
    """The manifest with its files in the shards."""
    entries = {}
    for clip_id, entry in manifest.items():
        entry = dict(entry)
        for key, suffix in _suffixes(entry).items():
            name = member_name(clip_id, suffix)
            shard, offset, size = members[name]
            entry[key] = str(ShardMember(f"{{data_root}}/{shard}", name, offset, size))
        entries[clip_id] = entry
    return entries


def _size_of(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _tar_writer():
    try:
        from webdataset.writer import TarWriter
    except ImportError:
        raise UserError(
            "shards need webdataset, which is not installed; pip install waveglow-vq[train]"
        ) from None
    return TarWriter
