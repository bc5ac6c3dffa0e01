"""LJSpeech's layout as it lies on disk: metadata.csv and wavs/, of one voice."""

import logging
import os
import re
import unicodedata

from waveglow_vq.audio.formats import how_to_convert, is_sound
from waveglow_vq.data.corpora.speaker_folders import Recording, list_folder
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import count_kinds, lines_of, read_text

logger = logging.getLogger(__name__)

# Of a clip's id: it names a file, and files that are made of it.
_NO_CLIP_ID = re.compile(r"|\..*|.*[/\\\x00-\x1f\x7f].*", re.DOTALL)


def read_metadata(file):
    """Reads metadata.csv: lines of id|text|normalized text, or all of id|text, without header or
    quoting.

    The texts hold quotation marks that mean nothing, so a CSV reader would damage some.

    Arguments
    ---------
    file : str or Path
        The file, UTF-8.

    Returns
    -------
    texts : dict
        Id, in Unicode's form NFC -> normalized text.

    Raises
    ------
    waveglow_vq.errors.UserError
        If it is missing, empty or not UTF-8, or a row is wrong (the sentence names the line).
    """
    texts, seen, columns = {}, {}, None
    for number, line in enumerate(lines_of(read_text(file)), start=1):
        if not line.strip():
            continue
        fields = line.split("|")
        columns = columns or len(fields)
        if len(fields) != columns or columns not in (2, 3):
            form = {2: "id|text", 3: "id|text|normalized text"}
            expected = form.get(columns, " or ".join(form.values()))
            raise UserError(
                f"{file}, line {number}: expected {expected}, found {len(fields) - 1} pipes"
            )
        clip_id, text, normalized = (unicodedata.normalize("NFC", fields[0]), *fields[1:], "")[:3]
        if _NO_CLIP_ID.fullmatch(clip_id):
            raise UserError(
                f"{file}, line {number}: {clip_id!r} cannot be an id, which names a file in wavs/"
                " (no slashes, no leading dot)"
            )
        if clip_id in seen:
            raise UserError(
                f"{file}, line {number}: the id {clip_id} is on line {seen[clip_id]} already"
            )
        seen[clip_id] = number
        texts[clip_id] = normalized.strip() or text.strip()
    if not texts:
        raise UserError(f"{file} is empty: it lists no clips")
    return texts


def find_recordings(texts, data_root):
    """Finds the audio file of each clip: wavs/<id> with the ending of any kind that can be read.

    Arguments
    ---------
    texts : dict
        From :func:`read_metadata`.
    data_root : Path
        The corpus folder; ``wavs`` in it, or the files, may be links.

    Returns
    -------
    list of Recording
        Those without a file name the .wav file that is missing.

    Raises
    ------
    waveglow_vq.errors.UserError
        If a clip has two, or one of a kind that cannot be read.
    """
    names = {}
    if (data_root / "wavs").is_dir():
        for entry in list_folder(data_root / "wavs"):
            # File systems differ in how they compose letters and accents.
            clip_id = unicodedata.normalize("NFC", os.path.splitext(entry.name)[0])
            names.setdefault(clip_id, []).append(entry.name)
    found = []
    for clip_id, text in texts.items():
        candidates = names.pop(clip_id, [])
        sounds = [name for name in candidates if is_sound(name)]
        if len(sounds) > 1:
            raise UserError(
                f"{data_root / 'wavs'}: {' and '.join(sounds)} are all recordings of"
                f" {clip_id}; keep one of them"
            )
        if not sounds and (hint := how_to_convert(candidates)):
            raise UserError(
                f"{data_root / 'wavs' / candidates[0]} is of a kind that is not read{hint}"
            )
        source = f"wavs/{sounds[0] if sounds else f'{clip_id}.wav'}"
        found.append(Recording(clip_id, "", str(data_root / source), source, text))
    others = [name for candidates in names.values() for name in candidates]
    if others:
        logger.info("%s: not listed, left out: %s", data_root / "wavs", count_kinds(others))
    return found
