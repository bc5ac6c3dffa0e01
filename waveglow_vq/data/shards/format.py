"""Shards: a prepared corpus in a few large files, for clusters and network disks.

A folder of shards is complete by itself; nobody needs the corpus any more:

    train-000000.tar, ...  WebDataset's layout: <id>.wav, and <id>.pitch.npy where there is pitch
    train.json, ...        the manifests; a clip is "{data_root}/train-000000.tar#<id>.wav@512+882":
                           a member, the byte on which it begins, and how many bytes it has
    speakers.json, ...     what else the preparation has left
    shards.json            the index, written last: without it the folder is not complete

The clips of a shard are mixed, by a hash of their ids, and the same clips and options give the same
bytes. A dot in an id is written as %2E in the name of a member, since what follows the first dot is
the kind of the content for WebDataset; other odd characters likewise. They are written in
waveglow_vq/data/corpora/shard_writer.py.
"""

import json
import os
import re
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.audio.sound_files import SoundBytes
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path

INDEX = "shards.json"
JOURNAL = "shards.jsonl"  # the shards that are complete, while others are not
VERSION = 1  # of the shards; those of another version are made again

SHARD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)-[0-9]{6}\.tar")
_MEMBER = re.compile(r"(.+\.tar)#([^#/]+)@([0-9]+)\+([0-9]+)", re.DOTALL)


class Shard(NamedTuple):
    """A shard of the index."""

    path: Path
    ids: list  # its clips, in the order of the file


class Shards(NamedTuple):
    """A folder of shards."""

    folder: Path  # what {data_root} in its manifests stands for
    sample_rate: int  # of all clips, in Hz
    splits: dict  # name of the split: list of Shard

    def of(self, split):
        """The shards of a split; a UserError if there are none."""
        if not self.splits.get(split):
            raise UserError(f"{self.folder} has no shards of the split {split}; prepare them again")
        return self.splits[split]


# ---- single members


class ShardMember(NamedTuple):
    """Where a file lies within a shard.

    Arguments
    ---------
    path : str
        The shard.
    name : str
        Name of the member, to say which it is.
    offset, size : int
        Its first byte and how many it has.

    Example
    -------
    >>> member = ShardMember.parse("/data/train-000000.tar#a.wav@512+88244")
    >>> member
    ShardMember(path='/data/train-000000.tar', name='a.wav', offset=512, size=88244)
    >>> str(member)
    '/data/train-000000.tar#a.wav@512+88244'
    """

    path: str
    name: str
    offset: int
    size: int

    @classmethod
    def parse(cls, text):
        """The member that a manifest names; None if it names an ordinary file."""
        match = _MEMBER.fullmatch(text)
        return match and cls(match[1], match[2], int(match[3]), int(match[4]))

    def __str__(self):
        return f"{self.path}#{self.name}@{self.offset}+{self.size}"

    def read(self):
        """Reads the member, SoundBytes; a UserError if the shard is too short or missing."""
        try:
            with open(self.path, "rb") as file:
                # No memory for more than there is, whatever a damaged manifest promises.
                if self.offset + self.size <= os.fstat(file.fileno()).st_size:
                    file.seek(self.offset)
                    return SoundBytes(f"{self.path}#{self.name}", file.read(self.size))
        except OSError as error:
            raise UserError(
                f"the shard {self.path} cannot be read ({error.strerror}); prepare it again"
            ) from None
        raise UserError(f"the shard {self.path} ends before its {self.name}; prepare it again")


def sound_source(path):
    """The bytes of a member of a shard, SoundBytes; the path of an ordinary file as it is.

    Example
    -------
    >>> sound_source("/data/wavs/a.wav")
    '/data/wavs/a.wav'
    """
    member = ShardMember.parse(str(path))
    return path if member is None else member.read()


def member_name(clip_id, suffix):
    """Name of a clip's file in a shard.

    Example
    -------
    >>> member_name("s5_001.b", ".pitch.npy")
    's5_001%2Eb.pitch.npy'
    """
    return urllib.parse.quote(clip_id, safe="").replace(".", "%2E") + suffix


# ---- reading the index


def shards_are_ready(shards_folder):
    """Whether a folder of shards is complete."""
    return shards_folder is not None and (user_path(shards_folder) / INDEX).is_file()


def read_shards(shards_folder, sample_rate=None):
    """Reads and checks the index of a folder of shards, which must be complete. ``sample_rate``
    is what the model wants, in Hz; None for any.
    """
    folder = user_path(shards_folder)
    file = folder / INDEX
    again = "prepare the shards again"
    if not file.is_file():
        state = "complete" if (folder / JOURNAL).is_file() else "a folder of shards"
        raise UserError(
            f"{folder} is not {state}: it has no {INDEX}; give the corpus as well (--data_folder)"
            " to write the shards"
        )
    try:
        index = json.loads(file.read_text("utf-8"))
        version, rate = index["version"], int(index["sample_rate"])
        splits, sizes = {}, {}
        for split, shards in index["splits"].items() if version == VERSION else ():
            splits[split] = [Shard(folder / s["name"], [str(i) for i in s["ids"]]) for s in shards]
            sizes.update({str(s["name"]): int(s["bytes"]) for s in shards})
            ids = [i for shard in splits[split] for i in shard.ids]
            if len(set(ids)) != len(ids):
                raise ValueError(f"a clip of {split} is in it twice")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({error!r}); {again}") from None
    if version != VERSION:
        raise UserError(f"{file} is of version {version}, expected is {VERSION}; {again}")
    for name, size in sizes.items():
        # Also: nothing but a plain file name, in this folder.
        if not SHARD.fullmatch(name):
            raise UserError(f"{file}: {name!r} cannot be a shard of this folder; {again}")
        try:
            found = os.stat(folder / name).st_size
        except OSError as error:
            raise UserError(
                f"the shard {folder / name} cannot be read ({error.strerror}); copy it or {again}"
            ) from None
        if found != size:
            raise UserError(
                f"the shard {folder / name} has {found} bytes, {INDEX} says {size}; copy it"
                f" or {again}"
            )
    if sample_rate is not None and rate != sample_rate:
        raise UserError(
            f"the shards in {folder} are at {rate} Hz, the model at {sample_rate} Hz; {again} or"
            " set sample_rate"
        )
    return Shards(folder, rate, splits)
