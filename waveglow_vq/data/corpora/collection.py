"""Several corpora of different layouts, taken together: for a vocoder of any voice.

A folder may be VCTK in either release; one voice in LJSpeech's layout; or a folder of speakers'
folders, LibriSpeech or parts of it among them. Nothing here opens an audio file before it is asked
to describe what was taken.
"""

import logging
import os
import re
from collections import Counter
from pathlib import Path

from waveglow_vq.audio.sound_files import audio_info
from waveglow_vq.data.corpora.ljspeech import find_recordings, read_metadata
from waveglow_vq.data.corpora.speaker_folders import is_librispeech, scan_speaker_folder
from waveglow_vq.data.corpora.splits import select_speakers
from waveglow_vq.data.corpora.vctk import LAYOUTS, Corpus, scan_vctk
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path

logger = logging.getLogger(__name__)

# Of these, a label names the same speaker wherever it stands.
_KNOWN_EVERYWHERE = ("VCTK", "LibriSpeech")


def corpus_layout(folder):
    """The layout of a corpus, "VCTK", "LJSpeech" or "speakers", and the folder that has it; a
    UserError if there is no such folder."""
    folder = user_path(folder)
    if not folder.is_dir():
        raise UserError(f"the data folder {folder} does not exist")
    below = sorted(child for child in folder.iterdir() if child.is_dir())
    if any((place / name).is_dir() for place in (folder, *below) for name in LAYOUTS.values()):
        return "VCTK", folder
    for place in (folder, folder / "LJSpeech-1.1"):
        if (place / "metadata.csv").is_file() and (place / "wavs").is_dir():
            return "LJSpeech", place
    return "speakers", folder


def scan_corpora(folders, mic="mic1", speakers=None):
    """Lists the recordings of several corpora with their texts, as `scan_vctk` those of one.

    The speaker of a corpus in LJSpeech's layout has the name of its folder. Where speakers of two
    corpora, or recordings, have the same name, those of the second one are called
    <folder>-<name>; but speakers of VCTK, or of LibriSpeech, are the same in each copy, and a
    recording that two copies have is taken from the first.

    Arguments
    ---------
    folders : list of str or Path
        The corpora.
    mic : str
        See `scan_vctk`.
    speakers : list of str or None
        Use only these.

    Returns
    -------
    Corpus
        With ``single_voices`` and ``origins``.
    """
    taken, owners, origins, info, corpora, single = {}, {}, {}, {}, [], []
    if not folders:
        raise UserError("no data folder was given: name corpora with --data_folders")
    places = [os.path.realpath(user_path(folder)) for folder in folders]
    if twice := [place for place, count in Counter(places).items() if count > 1]:
        raise UserError(f"data_folders names {twice[0]} twice")
    for folder in folders:
        name, layout, part = _scan(folder, mic)
        while name in origins.values():
            name += "-2"
        skipped = 0
        foreign = {
            u.speaker
            for u in part.utterances
            if owners.get(u.speaker, layout) != layout
            or (u.speaker in owners and layout not in _KNOWN_EVERYWHERE)
        }
        for u in part.utterances:
            if u.speaker in foreign:
                u = u._replace(speaker=f"{name}-{u.speaker}")
            elif u.id in taken and taken[u.id].speaker == u.speaker:
                skipped += 1
                continue
            if u.id in taken:
                u = u._replace(id=f"{name}-{u.id}")
            taken[u.id], origins[u.id] = u, name
        labels = {u.speaker for u in taken.values() if origins[u.id] == name}
        owners.update(dict.fromkeys(labels - owners.keys(), layout))
        info.update({label: known for label, known in part.info.items() if label not in foreign})
        if layout == "LJSpeech":
            single += labels
        corpora.append({"name": name, "layout": layout, "in_another_copy": skipped})
    utterances = sorted(taken.values(), key=lambda u: (u.speaker, u.id))
    if speakers is not None:
        wanted = select_speakers(owners, speakers, "speakers")
        utterances = [u for u in utterances if u.speaker in wanted]
    labels = {u.speaker for u in utterances}
    counts = {
        "corpora": corpora,
        "utterances": len(utterances),
        "speakers": len(labels),
        "speakers_with_text": len({u.speaker for u in utterances if u.text}),
        "speakers_without_info": sorted(labels - info.keys()),
        "microphone_fallbacks": {},
    }
    info = {label: info[label] for label in sorted(labels & info.keys())}
    return Corpus(utterances, info, counts, tuple(sorted(single)), origins)


def describe_corpora(corpus, parts, sounds, preprocessing):
    """What was taken of each corpus, for the report; and a sentence on each in the log.

    Arguments
    ---------
    corpus : Corpus
        From :func:`scan_corpora`.
    parts : dict
        Split -> Recordings.
    sounds : dict
        Utterance id -> Sound, of the prepared recordings.
    preprocessing : Preprocessing
        How they were prepared.

    Returns
    -------
    list of dict
        ``name``, ``layout``, ``in_another_copy``, ``clips``, ``minutes``, ``speakers``,
        ``sample_rates`` (Hz -> recordings) and ``splits`` (name -> clips).
    """
    listed = Counter(corpus.origins[u.id] for u in corpus.utterances)
    described = []
    for entry in corpus.counts["corpora"]:
        name = entry["name"]
        members = {
            split: [r for r in recordings if corpus.origins[r.id] == name]
            for split, recordings in parts.items()
        }
        clips = [r for recordings in members.values() for r in recordings]
        samples = sum(sounds[r.id].num_samples for r in clips)
        rates = Counter(audio_info(r.path).sample_rate for r in clips)
        described.append(
            {
                **entry,
                "clips": len(clips),
                "minutes": round(samples / preprocessing.sample_rate / 60, 1),
                "speakers": len({r.speaker for r in clips}),
                "sample_rates": {str(rate): rates[rate] for rate in sorted(rates)},
                "splits": {split: len(recordings) for split, recordings in members.items()},
            }
        )
        logger.info("%s", _sentence(described[-1], listed[name]))
    return described


def _sentence(entry, listed):
    """What was taken of a corpus.

    Example
    -------
    >>> entry = {"name": "mine", "layout": "speakers", "in_another_copy": 0, "clips": 9}
    >>> entry |= {"minutes": 1.5, "speakers": 2, "sample_rates": {"16000": 9}}
    >>> _sentence({**entry, "splits": {"train": 8, "valid": 1, "test": 0}}, 10)
    'mine (speakers): 9 of 10 clips taken, 1.5 minutes, 2 speakers, 16000 Hz; 8 train, 1 valid'
    """
    copies = f" ({entry['in_another_copy']} more are in another copy)"
    splits = [f"{count} {split}" for split, count in entry["splits"].items() if count]
    return (
        f"{entry['name']} ({entry['layout']}): {entry['clips']} of {listed} clips taken"
        f"{copies if entry['in_another_copy'] else ''}, {entry['minutes']} minutes,"
        f" {entry['speakers']} {'speaker' if entry['speakers'] == 1 else 'speakers'},"
        f" {', '.join(entry['sample_rates'])} Hz; {', '.join(splits)}"
    )


def _scan(folder, mic):
    """Name, layout and contents of a corpus."""
    layout, root = corpus_layout(folder)
    name = re.sub(r"[^\w.-]", "_", Path(os.path.abspath(root)).name).lstrip("._-") or "corpus"
    if layout == "VCTK":
        return name, layout, scan_vctk(root, mic)
    if layout == "LJSpeech":
        found = find_recordings(read_metadata(root / "metadata.csv"), root)
        return name, layout, Corpus([r._replace(speaker=name) for r in found], {}, {})
    found = scan_speaker_folder(root)
    if all(map(is_librispeech, found)):
        layout = "LibriSpeech"
    return name, layout, Corpus(found, {}, {})
