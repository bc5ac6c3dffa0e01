"""The VCTK corpus as it lies on disk: about 110 speakers of English, in two releases.

Release 0.80 holds `wav48/p225/p225_001.wav`, release 0.92 (without a top folder in its archive)
`wav48_silence_trimmed/p225/p225_001_mic1.flac` and `_mic2`. Both hold `txt/p225/p225_001.txt` and
speaker-info.txt. Some speakers have no text, no line in speaker-info.txt, or one microphone only,
and utterance numbers have gaps, so everything is found by name and nothing by position.

Nothing here opens an audio file: all 44,000 recordings are listed in seconds.
"""

import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.audio.formats import how_to_convert, is_sound
from waveglow_vq.data.corpora.speaker_folders import (
    Recording,
    check_label,
    list_folder,
    scan_speaker_folder,
)
from waveglow_vq.data.corpora.splits import select_speakers
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import count_kinds, is_folder, lines_of, read_text, user_path
from waveglow_vq.utils.validation import require_choice

logger = logging.getLogger(__name__)

# The folder that tells a release from the other.
LAYOUTS = {"0.92": "wav48_silence_trimmed", "0.80": "wav48"}
MICROPHONES = ("mic1", "mic2")
_RECORDING = re.compile(r"(?P<id>.+_\d+)(?:_(?P<mic>mic[12]))?\.\w+", re.IGNORECASE)
_COMMENT = re.compile(r"\(.*\)\s*$")


class Corpus(NamedTuple):
    """What `scan_vctk` and `scan_corpora` find."""

    utterances: list  # Recordings, sorted by speaker and id
    info: dict  # label -> {"age", "gender", "accent", "region"}, of speakers of whom it is known
    counts: dict  # statistics for the report
    single_voices: tuple = ()  # labels of the speakers who are alone in their corpus
    origins: dict | None = None  # utterance id -> name of its corpus, where there are several


def find_vctk(data_folder):
    """Finds the corpus in a folder, or in one of its subfolders: the folder with speaker-info.txt,
    txt/ and the audio, and its layout, "0.80" or "0.92".
    """
    if data_folder is None or not str(data_folder).strip():
        raise UserError("no data folder was given: name a copy of VCTK with --data_folder FOLDER")
    folder = user_path(data_folder)
    if not folder.is_dir():
        raise UserError(
            f"the data folder {folder} does not exist; name the folder of VCTK with --data_folder"
        )
    below = sorted(child for child in folder.iterdir() if child.is_dir())
    for candidates in ([folder], below):
        found = [
            (candidate, layout)
            for candidate in candidates
            for layout, sounds in LAYOUTS.items()
            if (candidate / sounds).is_dir()
        ]
        if len(found) > 1:
            first, second = (root / LAYOUTS[layout] for root, layout in found[:2])
            raise UserError(
                f"{folder} holds more than one copy of VCTK ({first} and {second}): name one of"
                " them with --data_folder"
            )
        if found:
            return found[0]
    raise UserError(
        f"{folder} holds no VCTK: neither {' nor '.join(sorted(LAYOUTS.values()))} is in it or in a"
        " folder directly below; name the folder of the corpus with --data_folder, or, of other"
        " layouts, with --data_folders (mel_universal.yaml)"
    )


def scan_vctk(data_folder, mic="mic1", additional_folders=(), speakers=None):
    """Lists the utterances of the corpus with their texts; opens no audio file. The arguments are
    those of `prepare_vctk` in recipes/VCTK/vctk_prepare.py.
    """
    require_choice("mic", mic, MICROPHONES)
    root, layout = find_vctk(data_folder)
    root = Path(os.path.abspath(root))
    recordings, ignored = _recordings(root, layout)
    fallbacks, utterances = Counter(), []
    for (speaker, utterance_id), microphones in recordings.items():
        path = microphones.get(mic) or microphones.get(None)
        if path is None:
            path = next(iter(microphones.values()))
            fallbacks[speaker] += 1
        source = os.path.relpath(path, root)
        utterances.append(Recording(utterance_id, speaker, path, source))
    of_vctk = {u.speaker for u in utterances}
    origin = {speaker: root for speaker in of_vctk}
    paths = {u.id: u.path for u in utterances}
    for folder in additional_folders:
        more = scan_speaker_folder(folder)
        for label in {u.speaker for u in more}:
            if label in origin:
                raise UserError(
                    f"{folder} holds a speaker {label}, and so does {origin[label]}: rename one"
                )
            origin[label] = folder
        for u in more:
            if paths.setdefault(u.id, u.path) != u.path:
                raise UserError(f"{paths[u.id]} and {u.path} have the same id {u.id}")
        utterances += more
    if speakers is not None:
        wanted = select_speakers(origin, speakers, "speakers")
        utterances = [u for u in utterances if u.speaker in wanted]
        fallbacks = {speaker: count for speaker, count in fallbacks.items() if speaker in wanted}
    if not utterances:
        raise UserError(f"{root / LAYOUTS[layout]} holds no recordings")
    labels = sorted({u.speaker for u in utterances})
    texts = read_texts(root, {u.speaker for u in utterances} & of_vctk)
    utterances = sorted(
        (u._replace(text=texts.get((u.speaker, u.id), "")) for u in utterances),
        key=lambda u: (u.speaker, u.id),
    )
    info = read_speaker_info(root / "speaker-info.txt")
    info = {label: info[label] for label in labels if label in info and label in of_vctk}
    counts = {
        "layout": layout,
        "utterances": len(utterances),
        "utterances_with_text": sum(bool(u.text) for u in utterances),
        "speakers": len(labels),
        "speakers_of_vctk": len(of_vctk & set(labels)),
        "speakers_with_text": len({u.speaker for u in utterances if u.text}),
        "speakers_without_info": [x for x in labels if x in of_vctk and x not in info],
        "microphone_fallbacks": dict(fallbacks),
        "ignored_files": len(ignored),
    }
    return Corpus(utterances, info, counts)


def read_texts(root, speakers):
    """(label, utterance id) -> cleaned text, of some speakers. A speaker may have none."""
    texts = {}
    folder = root / "txt"
    for speaker in sorted(speakers):
        if not (folder / speaker).is_dir():
            continue
        for entry in list_folder(folder / speaker):
            if entry.name.endswith(".txt"):
                texts[speaker, entry.name[:-4]] = clean_text(read_text(entry.path))
    return texts


def clean_text(text):
    """Removes stray quotes and parentheses around a sentence.

    Example
    -------
    >>> clean_text("Please call Stella.  )"), clean_text('"Please  call Stella.  "')
    ('Please call Stella.', 'Please call Stella.')
    >>> clean_text('"Yes," he said, (twice)')
    '"Yes," he said, (twice)'
    """
    text = " ".join(text.split())
    if text.endswith(")") and "(" not in text:
        text = text[:-1].rstrip()
    if len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2:
        text = text[1:-1].strip()
    return text


def read_speaker_info(file):
    """Reads speaker-info.txt of either release: label -> {"age" (int), "gender", "accent",
    "region"}, None where nothing is said; {} if the file is missing.

    Columns are separated by any number of spaces, so a region of two words cannot be told from two
    columns: it is what remains of the line. 0.80 leaves the "p" of the labels out; 0.92 puts
    comments into parentheses at the end.
    """
    if not Path(file).is_file():
        return {}
    info = {}
    for line in lines_of(read_text(file)):
        fields = _COMMENT.sub("", line).split()
        if not fields or fields[0] == "ID":
            continue
        label = f"p{fields[0]}" if fields[0].isdigit() else fields[0]
        age, gender, accent = (fields[1:4] + [None] * 3)[:3]
        info[label] = {
            "age": int(age) if age and age.isdigit() else None,
            "gender": gender,
            "accent": accent,
            "region": " ".join(fields[4:]) or None,
        }
    return info


def _recordings(root, layout):
    """(label, id) -> microphone (None in 0.80) -> path; and the files that are none of them."""
    recordings, ignored = {}, []
    folder = root / LAYOUTS[layout]
    for speaker in list_folder(folder):
        if not is_folder(speaker):
            continue  # such as log.txt
        check_label(speaker.name, speaker.path)
        for entry in list_folder(speaker.path):
            name = _RECORDING.fullmatch(entry.name) if is_sound(entry.name) else None
            if not name or not name["id"].startswith(f"{speaker.name}_"):
                ignored.append(entry.path)
                continue
            microphones = recordings.setdefault((speaker.name, name["id"]), {})
            other = microphones.setdefault(name["mic"] and name["mic"].lower(), entry.path)
            if other != entry.path:
                raise UserError(f"{other} and {entry.path} are the same utterance {name['id']}")
    if ignored:
        logger.warning(
            "left out, since they are not named as recordings of VCTK, such as %s: %s%s",
            ignored[0],
            count_kinds(ignored),
            how_to_convert(ignored),
        )
    return recordings, ignored
