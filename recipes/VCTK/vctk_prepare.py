"""Prepares VCTK (https://datashare.ed.ac.uk/handle/10283/3443): about 110 speakers of English.

Both releases are known by their layout: 0.80 has wav48/, 0.92 has wav48_silence_trimmed/. Folders
of further speakers can be added. The recordings are resampled once (their form and that of the
pitch beside them: see waveglow_vq/data/resampled.py), then the manifests train.json, valid.json,
test.json and unseen.json, speakers.json and prepare_report.json are written. The recipe calls
`prepare_vctk`; by hand:

    python vctk_prepare.py --data_folder /data/VCTK-Corpus --audio_folder /data/vctk22 \\
        --manifest_folder results/manifests
"""

import argparse
import hashlib
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.data.preparation import (
    MIN_LOUDNESS_DBFS,
    REPORT,
    Filters,
    choose_subset,
    read_report,
    reason_to_drop,
    write_json,
)
from waveglow_vq.data.resampled import TRIM_THRESHOLD_DB, Treatment, prepare_audio
from waveglow_vq.data.speaker_folders import (
    Utterance,
    check_label,
    list_folder,
    scan_speaker_folder,
)
from waveglow_vq.data.speaker_splits import SPLITS, UNSEEN, divide, make_manifests, select_speakers
from waveglow_vq.errors import UserError, cli_errors

logger = logging.getLogger(__name__)

# The folder that tells a release from the other.
LAYOUTS = {"0.92": "wav48_silence_trimmed", "0.80": "wav48"}
MICROPHONES = ("mic1", "mic2")
SPEAKERS = "speakers.json"
_SOUND_FILE = re.compile(r"(?P<id>.+_\d+?)(?:_(?P<mic>mic[12]))?\.(?:wav|flac)", re.IGNORECASE)
_COMMENT = re.compile(r"\(.*\)\s*$")
_VERSION = 1  # of the manifests; those of another version are made anew


class Corpus(NamedTuple):
    """What `scan_vctk` finds.

    Arguments
    ---------
    utterances : list of Utterance
        Sorted by speaker and id.
    info : dict
        Label -> {"age", "gender", "accent", "region"} of the speakers of whom it is known.
    counts : dict
        What was found, for the report.
    """

    utterances: list
    info: dict
    counts: dict


def prepare_vctk(
    data_folder,
    audio_folder,
    manifest_folder,
    mic="mic1",
    additional_folders=(),
    sample_rate=22050,
    trim_silence=True,
    trim_threshold_db=TRIM_THRESHOLD_DB,
    min_samples=16384,
    max_samples=None,
    min_loudness_dbfs=MIN_LOUDNESS_DBFS,
    skip_silent=True,
    split_ratio=(90, 5, 5),
    seed=0,
    unseen_speakers=0,
    disjoint_sentences=False,
    speakers=None,
    max_utterances=None,
    num_workers=None,
    skip_prep=False,
):
    """Resamples the corpus, filters it, divides it into splits, writes the manifests.

    A run that was stopped goes on where it stopped. With the same options and files as the last
    time nothing is done.

    Arguments
    ---------
    data_folder : str or Path
        The corpus in either layout, or a folder that holds it one level deeper.
    audio_folder : str or Path
        Where the prepared audio goes; runs with other splits or filters can share it.
    manifest_folder : str or Path
        Where the manifests, speakers.json and prepare_report.json go.
    mic : str
        "mic1" or "mic2", the microphone of release 0.92. An utterance that was not recorded by it
        is taken from the other one.
    additional_folders : sequence of str or Path
        More speakers: folders with one sub folder of sound files for each.
    sample_rate : int
        Of the prepared audio, in Hz.
    trim_silence : bool
        Whether leading and trailing silence is cut off.
    trim_threshold_db : float
        What is quieter than the loudest 20 ms of the recording by this much is silence.
    min_samples, max_samples : int or None
        Utterances that are shorter or longer when prepared are dropped.
    min_loudness_dbfs : float or None
        Utterances whose loudest window of 16384 samples is quieter (RMS) are dropped.
    skip_silent : bool
        Whether utterances of digital silence are dropped.
    split_ratio : sequence of float
        Shares of train, valid and test within every speaker.
    seed : int
        Another seed, another division.
    unseen_speakers : int or list of str
        How many speakers (chosen by a hash of the label) or which go to unseen.json as a whole.
    disjoint_sentences : bool
        Whether a sentence may be in one split only (see `waveglow_vq.data.speaker_splits.divide`).
    speakers : list of str or None
        Use only these.
    max_utterances : int or None
        Use only so many utterances, chosen by a hash of their id.
    num_workers : int or None
        Files prepared at a time; None for the number of processors, at most 16.
    skip_prep : bool
        Whether to rely on what is there already.

    Returns
    -------
    audio_folder : Path
        What `{data_root}` in the manifests stands for.

    Raises
    ------
    waveglow_vq.errors.UserError
        If there is no corpus, or something in it is wrong; the sentence names the file.
    """
    audio_folder, manifest_folder = Path(audio_folder), Path(manifest_folder)
    written = [f"{name}.json" for name in (*SPLITS, UNSEEN)] + [SPEAKERS]
    missing = [name for name in written if not (manifest_folder / name).is_file()]
    if skip_prep:
        if missing:
            raise UserError(f"--skip_prep is on, but {manifest_folder} has no {missing[0]}")
        return audio_folder
    corpus = scan_vctk(data_folder, mic, additional_folders, speakers)
    _check_apart(audio_folder, data_folder, additional_folders)
    utterances = choose_subset(corpus.utterances, max_utterances, seed)
    utterances = sorted(utterances, key=lambda u: (u.speaker, u.id))
    treatment = Treatment(sample_rate, trim_silence, trim_threshold_db)
    prepared, keys = prepare_audio(utterances, audio_folder, treatment, num_workers)

    filters = Filters(min_samples or 1, max_samples, min_loudness_dbfs, skip_silent)
    options = {
        "mic": mic,
        **treatment._asdict(),
        **filters._asdict(),
        "split_ratio": list(split_ratio),
        "seed": seed,
        "unseen_speakers": unseen_speakers
        if isinstance(unseen_speakers, int)
        else sorted(str(label) for label in unseen_speakers),
        "disjoint_sentences": disjoint_sentences,
        "max_utterances": max_utterances,
    }
    contents = [(u.id, u.speaker, u.text, keys[u.id]) for u in utterances]
    everything = [_VERSION, options, corpus.counts, corpus.info, contents]
    fingerprint = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    report_file = manifest_folder / REPORT
    if not missing and read_report(report_file).get("fingerprint") == fingerprint:
        logger.info("%s: manifests are up to date", manifest_folder)
        return audio_folder

    kept, dropped = [], {"too_short": [], "too_long": [], "silent": [], "too_quiet": []}
    for utterance in utterances:
        reason = reason_to_drop(prepared[utterance.id].sound, filters)
        (dropped[reason] if reason else kept).append(utterance.id if reason else utterance)
    counts = ", ".join(f"{len(ids)} {reason}" for reason, ids in dropped.items() if ids)
    if not kept:
        raise UserError(
            f"the filters leave none of the {len(utterances)} utterances in {data_folder}"
            f" ({counts})"
        )
    division = divide(kept, split_ratio, seed, unseen_speakers, disjoint_sentences)
    manifests, known = make_manifests(division.parts, prepared, corpus.info, sample_rate)
    report = {
        "fingerprint": fingerprint,
        "options": options,
        "corpus": corpus.counts,
        "dropped": {**dropped, **division.dropped},
        "splits": {name: _summary(manifests[name]) for name in manifests},
    }
    manifest_folder.mkdir(parents=True, exist_ok=True)
    report_file.unlink(missing_ok=True)  # from here until the new one: not up to date
    for name, manifest in manifests.items():
        write_json(manifest_folder / f"{name}.json", manifest)
    write_json(manifest_folder / SPEAKERS, known)
    write_json(report_file, report)
    log_report(report)
    return audio_folder


def log_report(report):
    """Says in a few lines what the report says."""
    corpus = report["corpus"]
    logger.info(
        "%d utterances of %d speakers found (%d speakers with text, %d not in speaker-info.txt),"
        " %d taken from the other microphone",
        *(corpus[k] for k in ("utterances", "speakers", "speakers_with_text")),
        len(corpus["speakers_without_info"]),
        corpus["microphone_fallbacks"],
    )
    dropped = ", ".join(f"{len(ids)} {reason}" for reason, ids in report["dropped"].items() if ids)
    logger.info("dropped: %s", dropped or "none")
    for name, split in report["splits"].items():
        logger.info(
            "%s: %s", name, "{clips} clips, {speakers} speakers, {hours:.2f} h".format(**split)
        )


def find_vctk(data_folder):
    """Finds the corpus in a folder, or in one of its sub folders.

    Arguments
    ---------
    data_folder : str or Path or None
        The folder.

    Returns
    -------
    root : Path
        The folder with speaker-info.txt, txt/ and the sound.
    layout : str
        "0.80" or "0.92".

    Raises
    ------
    waveglow_vq.errors.UserError
        If there is no corpus, or there are several.
    """
    if data_folder is None or not str(data_folder).strip():
        raise UserError("no data folder was given: name a copy of VCTK with --data_folder FOLDER")
    folder = Path(data_folder)
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
            raise UserError(
                f"{folder} holds more than one copy of VCTK ({_name(*found[0])} and"
                f" {_name(*found[1])}): name one of them with --data_folder"
            )
        if found:
            return found[0]
    raise UserError(
        f"{folder} holds no VCTK: neither {' nor '.join(sorted(LAYOUTS.values()))} is in it or in a"
        " folder directly below; name the folder of the corpus with --data_folder"
    )


def scan_vctk(data_folder, mic="mic1", additional_folders=(), speakers=None):
    """Lists the utterances of the corpus with their texts; opens no sound file.

    Arguments
    ---------
    data_folder, mic, additional_folders, speakers
        See `prepare_vctk`.

    Returns
    -------
    Corpus

    Raises
    ------
    waveglow_vq.errors.UserError
        If there is no corpus, a text cannot be read, two recordings have the same id, or a wanted
        speaker is not there.
    """
    if mic not in MICROPHONES:
        raise UserError(f"mic is {mic!r}, but has to be one of {', '.join(MICROPHONES)}")
    root, layout = find_vctk(data_folder)
    root = root.resolve()
    recordings, ignored = _recordings(root, layout)
    fallbacks, utterances = set(), []
    for (speaker, utterance_id), microphones in recordings.items():
        path = microphones.get(mic) or microphones.get(None)
        if path is None:
            path = next(iter(microphones.values()))
            fallbacks.add((speaker, utterance_id))
        source = os.path.relpath(path, root)
        utterances.append(Utterance(utterance_id, speaker, path, source))
    of_vctk = {u.speaker for u in utterances}
    origin = {speaker: root for speaker in of_vctk}
    for folder in additional_folders:
        more = scan_speaker_folder(folder)
        for label in {u.speaker for u in more}:
            if label in origin:
                raise UserError(
                    f"{folder} holds a speaker {label}, and so does {origin[label]}: rename one"
                )
            origin[label] = folder
        utterances += more
    if speakers is not None:
        wanted = select_speakers(origin, speakers, "speakers")
        utterances = [u for u in utterances if u.speaker in wanted]
        fallbacks = {key for key in fallbacks if key[0] in wanted}
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
        "speakers_without_info": [label for label in labels if label not in info],
        "microphone_fallbacks": len(fallbacks),
        "ignored_files": ignored,
    }
    return Corpus(utterances, info, counts)


def read_texts(root, speakers):
    """Reads the texts of speakers; each belongs to the utterance whose name its file has.

    Arguments
    ---------
    root : Path
        The corpus.
    speakers : iterable of str
        Whose.

    Returns
    -------
    texts : dict
        (label, utterance id) -> cleaned text. Speakers may have none.
    """
    texts = {}
    folder = root / "txt"
    for speaker in sorted(speakers):
        if not (folder / speaker).is_dir():
            continue
        for entry in list_folder(folder / speaker, root):
            if entry.name.endswith(".txt"):
                texts[speaker, entry.name[:-4]] = clean_text(_read_text(entry.path))
    return texts


def clean_text(text):
    """Removes what some speakers' texts have around the sentence.

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
    """Reads speaker-info.txt of either release.

    Columns are separated by any number of spaces, so a region of two words cannot be told from two
    columns: it is what remains of the line. 0.80 leaves the "p" of the labels out; 0.92 puts
    comments into parentheses at the end.

    Arguments
    ---------
    file : str or Path
        The file; if it is missing, nothing is known.

    Returns
    -------
    info : dict
        Label -> {"age" (int), "gender", "accent", "region"}; None where nothing is said.
    """
    if not Path(file).is_file():
        return {}
    info = {}
    for line in _read_text(file).splitlines():
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
    """(label, id) -> microphone (None in 0.80) -> path; and how many files are none of them."""
    recordings, ignored = {}, 0
    folder = root / LAYOUTS[layout]
    for speaker in list_folder(folder, root):
        if not speaker.is_dir():
            continue  # such as log.txt
        check_label(speaker.name, speaker.path)
        for entry in list_folder(speaker.path, root):
            name = _SOUND_FILE.fullmatch(entry.name)
            if not name or not name["id"].startswith(f"{speaker.name}_"):
                ignored += 1
                logger.warning("%s is ignored: not named as a recording of VCTK", entry.path)
                continue
            microphones = recordings.setdefault((speaker.name, name["id"]), {})
            other = microphones.setdefault(name["mic"] and name["mic"].lower(), entry.path)
            if other != entry.path:
                raise UserError(f"{other} and {entry.path} are the same utterance {name['id']}")
    return recordings, ignored


def _read_text(file):
    try:
        return Path(file).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error})") from error


def _check_apart(audio_folder, data_folder, additional_folders):
    """Prepared audio within the recordings would be taken for recordings the next time."""
    root, layout = find_vctk(data_folder)
    target = audio_folder.resolve()
    for folder in (root / LAYOUTS[layout], *map(Path, additional_folders)):
        if target.is_relative_to(folder.resolve()):
            raise UserError(
                f"audio_folder {audio_folder} lies within the recordings of {folder}: choose one"
                " outside of them"
            )


def _name(root, layout):
    return root / LAYOUTS[layout]


def _summary(manifest):
    return {
        "clips": len(manifest),
        "speakers": len({entry["speaker"] for entry in manifest.values()}),
        "with_text": sum(bool(entry["text"]) for entry in manifest.values()),
        "hours": round(sum(entry["duration"] for entry in manifest.values()) / 3600, 4),
    }


def _on_off(word):
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word.lower() == "true"


def _number_or_none(word):
    return None if word.lower() == "none" else float(word)


@cli_errors()
def main(arguments=None):
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        description="Prepares VCTK: resampled audio, train.json, valid.json, test.json,"
        " unseen.json and speakers.json.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data_folder", help="the corpus, either release, or the folder that holds it")
    add("--audio_folder", required=True, help="where the prepared audio goes")
    add("--manifest_folder", required=True, help="where the manifests go")
    add("--mic", default="mic1", help="mic1 or mic2, of release 0.92 (default: %(default)s)")
    add("--additional_folders", nargs="*", default=[], help="more speakers, a sub folder for each")
    add("--sample_rate", type=int, default=22050, help="in Hz (default: %(default)s)")
    add("--trim_silence", type=_on_off, default=True, help="true or false")
    add(
        "--trim_threshold_db",
        type=float,
        default=TRIM_THRESHOLD_DB,
        help="silence, relative to the loudest 20 ms (default: %(default)s)",
    )
    add("--min_samples", type=int, default=16384, help="drop shorter utterances")
    add("--max_samples", type=int, help="drop longer utterances")
    add(
        "--min_loudness_dbfs",
        type=_number_or_none,
        default=MIN_LOUDNESS_DBFS,
        help="drop quieter utterances, or none (default: %(default)s)",
    )
    add("--skip_silent", type=_on_off, default=True, help="true or false")
    add("--split_ratio", nargs=3, type=float, default=[90, 5, 5], help="train, valid, test")
    add("--seed", type=int, default=0, help="of the division into splits")
    add(
        "--unseen_speakers",
        nargs="+",
        default=["0"],
        help="speakers to hold out: how many (a single number) or their labels",
    )
    add("--disjoint_sentences", type=_on_off, default=False, help="no sentence in two splits")
    add("--speakers", nargs="+", help="use only these")
    add("--max_utterances", type=int, help="use only so many utterances")
    add("--num_workers", type=int, help="files prepared at a time")
    options = vars(parser.parse_args(arguments))
    unseen = options["unseen_speakers"]
    if len(unseen) == 1 and unseen[0].isdigit():
        options["unseen_speakers"] = int(unseen[0])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_vctk(**options)


if __name__ == "__main__":
    sys.exit(main())
