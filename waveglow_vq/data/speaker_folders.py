"""Corpora of many speakers: one folder per speaker, sound files in it.

Nothing here opens a sound file, so a corpus of any size is listed in seconds.
"""

import os
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.errors import UserError

SOUND_SUFFIXES = (".wav", ".flac")
# A label becomes the name of a folder, and stands in manifests and on command lines.
_LABEL = re.compile(r"\w[\w.-]*")
# Files that lie side by side are told apart by LibriSpeech's names: speaker-chapter-utterance.
_LIBRISPEECH_NAME = re.compile(r"(\d+)-\d+-\d+")


class Utterance(NamedTuple):
    """One recording of a speaker.

    Arguments
    ---------
    id : str
        Different from all others.
    speaker : str
        The label of the speaker.
    path : str
        The sound file.
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


def list_folder(folder, inside_of):
    """Lists what lies in a folder, without hidden entries and without ways out of the corpus.

    Arguments
    ---------
    folder : str or Path
        The folder to list.
    inside_of : Path
        The corpus (resolved): a symbolic link that leads elsewhere is an error.

    Returns
    -------
    entries : list of os.DirEntry
        Sorted by name; hidden ones (such as the `._*` of some archives) are left out.

    Raises
    ------
    waveglow_vq.errors.UserError
        If the folder cannot be read, or a link leads out of the corpus.
    """
    try:
        with os.scandir(folder) as scan:
            entries = sorted(
                (entry for entry in scan if not entry.name.startswith(".")),
                key=lambda entry: entry.name,
            )
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror}") from error
    for entry in entries:
        # Only links are resolved: 88,000 system calls for plain files would tell nothing.
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(inside_of):
            raise UserError(f"{entry.path} is a link that leads out of {inside_of}")
    return entries


def scan_speaker_folder(folder):
    """Lists a folder with one sub folder per speaker, which holds sound files at any depth.

    The label of a speaker is the name of the sub folder. Sound files that lie directly in the
    folder must be named like LibriSpeech's, <speaker>-<chapter>-<utterance>.

    Arguments
    ---------
    folder : str or Path
        The folder. Other files than sound (a licence, a list of speakers) are ignored.

    Returns
    -------
    utterances : list of Utterance
        Without texts, sorted by speaker and id.

    Raises
    ------
    waveglow_vq.errors.UserError
        If there is no sound, a name says no speaker, or two files make the same id.
    """
    if not Path(folder).is_dir():
        raise UserError(f"the additional folder {folder} does not exist or is not a folder")
    root = Path(folder).resolve()
    utterances = {}
    for entry in list_folder(root, root):
        if entry.is_dir():
            files = _sound_files(entry.path, root)
            if files:
                check_label(entry.name, entry.path)
            speaker = entry.name
        elif entry.name.lower().endswith(SOUND_SUFFIXES):
            name = _LIBRISPEECH_NAME.fullmatch(Path(entry.name).stem)
            if not name:
                raise UserError(
                    f"{entry.path} tells no speaker: put it into a folder with the speaker's name,"
                    " or name it <speaker>-<chapter>-<utterance>, in digits"
                )
            speaker, files = name.group(1), [entry.path]
        else:
            continue
        for path in files:
            source = os.path.relpath(path, root)
            utterance = Utterance(_utterance_id(speaker, source), speaker, path, source)
            other = utterances.setdefault(utterance.id, utterance)
            if other is not utterance:
                raise UserError(f"{other.path} and {path} make the same utterance {utterance.id}")
    if not utterances:
        raise UserError(
            f"the additional folder {folder} holds no sound: expected one sub folder per speaker"
            f" with {' or '.join(SOUND_SUFFIXES)} files"
        )
    return sorted(utterances.values(), key=lambda u: (u.speaker, u.id))


def check_label(label, path):
    """Refuses a name that cannot be the label of a speaker.

    Arguments
    ---------
    label : str
        The name.
    path : str or Path
        What has it, for the sentence.

    Raises
    ------
    waveglow_vq.errors.UserError
        If it holds anything but letters, digits and - _ .
    """
    if not _LABEL.fullmatch(label):
        raise UserError(
            f"{path}: {label!r} cannot be the label of a speaker (letters, digits and - _ .)"
        )


def normalise_sentence(text):
    """What two readings of one sentence have in common: case and punctuation are dropped.

    Arguments
    ---------
    text : str
        A sentence.

    Returns
    -------
    str
        Words of letters and digits, separated by single spaces.

    Example
    -------
    >>> normalise_sentence('"Please call  Stella."') == normalise_sentence("please call Stella")
    True
    >>> normalise_sentence("We don't.")
    'we dont'
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w\s]|_", " ", re.sub(r"['’`]", "", text)).split())


def _sound_files(folder, root):
    files = []
    for entry in list_folder(folder, root):
        if entry.is_dir():
            files += _sound_files(entry.path, root)
        elif entry.name.lower().endswith(SOUND_SUFFIXES):
            files.append(entry.path)
    return files


def _utterance_id(speaker, source):
    """The file's name if it begins with the label, as LibriSpeech's do; else its whole path."""
    stem = Path(source).stem
    if not stem.startswith((f"{speaker}-", f"{speaker}_")):
        inside = Path(source).with_suffix("").parts[1:]
        stem = "_".join([speaker, *inside])
    # The id is used in file names and between { } of manifests.
    return re.sub(r"[^\w.-]", "_", stem)
