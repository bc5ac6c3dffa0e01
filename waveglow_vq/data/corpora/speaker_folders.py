"""Corpora of many speakers: one folder per speaker, audio files in it.

Nothing here opens an audio file, so a corpus of any size is listed in seconds.
"""

import hashlib
import logging
import os
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.audio.formats import how_to_convert, is_sound
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import count_kinds, is_folder, user_path, walk_files

logger = logging.getLogger(__name__)

# Longer ids are cut: files are named after them, and names end at 255 bytes.
_LONGEST_ID = 200
# A label becomes the name of a folder, and stands in manifests and on command lines.
_LABEL = re.compile(r"\w[\w.-]*")
# Files that lie side by side are told apart by LibriSpeech's names: speaker-chapter-utterance.
_LIBRISPEECH_NAME = re.compile(r"(\d+)-\d+-\d+")


class Recording(NamedTuple):
    """A recording of a corpus, of one utterance.

    Arguments
    ---------
    id : str
        Different from all others.
    speaker : str
        The label of the speaker; "" in a corpus of one.
    path : str
        The audio file.
    source : str
        The same, relative to its corpus, so that it stays the same when the corpus moves.
    text : str
        What is said; "" where unknown.
    """

    id: str
    speaker: str
    path: str
    source: str
    text: str = ""


def list_folder(folder):
    """The entries of a folder that are not hidden, sorted by name."""
    try:
        with os.scandir(folder) as scan:
            return sorted(
                (entry for entry in scan if not entry.name.startswith(".")),
                key=lambda entry: entry.name,
            )
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror}") from error


def scan_speaker_folder(folder):
    """Lists a folder with one subfolder per speaker, which holds audio files at any depth, as
    Recordings without texts, sorted by speaker and id.

    The label of a speaker is the name of the subfolder. Audio files that lie directly in the folder
    must be named like LibriSpeech's, <speaker>-<chapter>-<utterance>; a subfolder in which all are
    named so, after more than one speaker, is a part of LibriSpeech and no speaker. Links are
    followed. Other files than sound (a licence, a list of speakers) are counted in the log.
    """
    root = Path(os.path.abspath(user_path(folder)))
    if not root.is_dir():
        raise UserError(f"the additional folder {folder} does not exist or is not a folder")
    utterances, left_out = {}, []
    for entry in list_folder(root):
        if is_folder(entry):
            found = [str(path) for path in walk_files(entry.path)]
            files = [path for path in found if is_sound(path)]
            left_out += [path for path in found if not is_sound(path)]
            named = [_LIBRISPEECH_NAME.fullmatch(Path(path).stem) for path in files]
            if all(named) and len({name.group(1) for name in named}) > 1:
                speakers = [name.group(1) for name in named]
            else:
                if files:
                    check_label(entry.name, entry.path)
                speakers = [entry.name] * len(files)
        elif is_sound(entry.name):
            name = _LIBRISPEECH_NAME.fullmatch(Path(entry.name).stem)
            if not name:
                raise UserError(
                    f"{entry.path} names no speaker: put it into a folder with the speaker's name,"
                    " or name it <speaker>-<chapter>-<utterance>, in digits"
                )
            speakers, files = [name.group(1)], [entry.path]
        else:
            left_out.append(entry.path)
            continue
        for speaker, path in zip(speakers, files, strict=True):
            source = os.path.relpath(path, root)
            utterance = Recording(_utterance_id(speaker, source), speaker, path, source)
            other = utterances.setdefault(utterance.id, utterance)
            if other is not utterance:
                raise UserError(f"{other.path} and {path} have the same id {utterance.id}")
    if not utterances:
        there = f", only {count_kinds(left_out)}{how_to_convert(left_out)}" if left_out else ""
        raise UserError(
            f"the additional folder {folder} holds no audio files: expected one subfolder"
            f" per speaker{there}"
        )
    if left_out:
        hint = how_to_convert(left_out)
        level = logging.WARNING if hint else logging.INFO
        logger.log(level, "%s: left out: %s%s", folder, count_kinds(left_out), hint)
    return sorted(utterances.values(), key=lambda u: (u.speaker, u.id))


def is_librispeech(recording):
    """Whether a recording is named like LibriSpeech's."""
    return bool(_LIBRISPEECH_NAME.fullmatch(recording.id))


def check_label(label, path):
    """Raises a UserError if a label holds anything but letters, digits and - _ ."""
    if not _LABEL.fullmatch(label):
        raise UserError(
            f"{path}: {label!r} cannot be the label of a speaker (letters, digits and - _ .)"
        )


def normalize_sentence(text):
    """A sentence without case and punctuation.

    Example
    -------
    >>> normalize_sentence('"Please call  Stella."') == normalize_sentence("please call Stella")
    True
    >>> normalize_sentence("We don't.")
    'we dont'
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w\s]|_", " ", re.sub(r"['’`]", "", text)).split())


def _utterance_id(speaker, source):
    """The file's name if it begins with the label, as LibriSpeech's do; else its whole path."""
    stem = Path(source).stem
    if not stem.startswith((f"{speaker}-", f"{speaker}_")):
        inside = Path(source).with_suffix("").parts[1:]
        stem = "_".join([speaker, *inside])
    clean = re.sub(r"[^\w.-]", "_", stem)
    raw = os.fsencode(stem)
    # Bytes that are no UTF-8 all become the same sign; and the end of a long name is what differs.
    if len(os.fsencode(clean)) > _LONGEST_ID or raw != stem.encode("utf-8", "replace"):
        begin = clean.encode()[: _LONGEST_ID - 17].decode("utf-8", "ignore")
        return f"{begin}_{hashlib.sha256(raw).hexdigest()[:16]}"
    return clean
