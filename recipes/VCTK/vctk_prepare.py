"""Prepares VCTK (https://datashare.ed.ac.uk/handle/10283/3443): about 110 speakers of English.

Both releases are known by their layout: 0.80 has wav48/, 0.92 has wav48_silence_trimmed/. Folders
of further speakers can be added. The recordings are resampled once (their form and that of the
pitch beside them: see waveglow_vq/data/corpora/prepared_audio.py), then the manifests train.json,
valid.json, test.json and unseen.json, speakers.json and prepare_report.json are written, and shards
where a folder for them is named (see waveglow_vq/data/shards/format.py). The recipe calls
`prepare_vctk`; by hand:

    python vctk_prepare.py --data_folder /data/VCTK-Corpus --audio_folder /data/vctk22 \\
        --manifest_folder results/manifests
"""

import argparse
import hashlib
import json
import logging
import sys
from pathlib import Path

from waveglow_vq.data.corpora.preparation import (
    MIN_LOUDNESS_DBFS,
    REPORT,
    Filters,
    choose_subset,
    read_report,
    reason_to_drop,
)
from waveglow_vq.data.corpora.prepared_audio import TRIM_THRESHOLD_DB, Preprocessing, prepare_audio
from waveglow_vq.data.corpora.splits import SPLITS, UNSEEN, divide, make_manifests
from waveglow_vq.data.corpora.vctk import LAYOUTS, find_vctk, scan_vctk
from waveglow_vq.data.shards.writer import UTTERANCES_PER_SHARD, write_shards
from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.utils.files import user_path, write_json

logger = logging.getLogger(__name__)

SPEAKERS = "speakers.json"
_VERSION = 1  # of the manifests; those of another version are made anew


def prepare_vctk(
    data_folder,
    audio_folder,
    manifest_folder,
    mic="mic1",
    additional_folders=(),
    sample_rate=22050,
    hop_length=256,
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
    shards_folder=None,
    utterances_per_shard=UTTERANCES_PER_SHARD,
):
    """Resamples the corpus, filters it, divides it into splits, writes manifests and shards.

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
    hop_length : int
        Samples between frames of the pitch: that of the model's features.
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
        Whether a sentence may be in one split only (see `waveglow_vq.data.corpora.splits.divide`).
    speakers : list of str or None
        Use only these.
    max_utterances : int or None
        Use only so many utterances, chosen by a hash of their id.
    num_workers : int or None
        Files prepared at a time; None for the number of processors, at most 16.
    skip_prep : bool
        Whether to rely on what is there already.
    shards_folder : str or Path or None
        Where prepared audio and pitch are also written as shards, with manifests of their own.
    utterances_per_shard : int
        At most so many utterances make a shard.

    Returns
    -------
    audio_folder : Path
        What `{data_root}` in the manifests stands for.

    Raises
    ------
    waveglow_vq.errors.UserError
        If there is no corpus, or something in it is wrong; the sentence names the file.
    """
    audio_folder, manifest_folder = user_path(audio_folder), user_path(manifest_folder)

    def finish():
        if shards_folder is not None:
            splits = (*SPLITS, UNSEEN)
            sizes = {"sample_rate": sample_rate, "utterances_per_shard": utterances_per_shard}
            write_shards(manifest_folder, audio_folder, shards_folder, splits=splits, **sizes)
        return audio_folder

    if not isinstance(unseen_speakers, int):
        unseen_speakers = [unseen_speakers] if isinstance(unseen_speakers, str) else unseen_speakers
        unseen_speakers = sorted({str(label) for label in unseen_speakers})
    written = [f"{name}.json" for name in (*SPLITS, UNSEEN)] + [SPEAKERS]
    missing = [name for name in written if not (manifest_folder / name).is_file()]
    if skip_prep:
        if missing:
            raise UserError(f"--skip_prep is on, but {manifest_folder} has no {missing[0]}")
        return finish()
    if isinstance(additional_folders, (str, Path)):
        additional_folders = [additional_folders]
    corpus = scan_vctk(data_folder, mic, additional_folders, speakers)
    _check_apart(audio_folder, data_folder, additional_folders)
    utterances = choose_subset(corpus.utterances, max_utterances, seed)
    utterances = sorted(utterances, key=lambda u: (u.speaker, u.id))
    preprocessing = Preprocessing(sample_rate, trim_silence, trim_threshold_db, hop_length)
    prepared, keys = prepare_audio(utterances, audio_folder, preprocessing, num_workers)

    filters = Filters(min_samples or 1, max_samples, min_loudness_dbfs, skip_silent)
    options = {
        "mic": mic,
        **preprocessing._asdict(),
        **filters._asdict(),
        "split_ratio": list(split_ratio),
        "seed": seed,
        "unseen_speakers": unseen_speakers,
        "disjoint_sentences": disjoint_sentences,
        "max_utterances": max_utterances,
    }
    contents = [(u.id, u.speaker, u.text, keys[u.id]) for u in utterances]
    everything = [_VERSION, options, corpus.counts, corpus.info, contents]
    fingerprint = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    report_file = manifest_folder / REPORT
    if not missing and read_report(report_file).get("fingerprint") == fingerprint:
        logger.info("%s: manifests are up to date", manifest_folder)
        return finish()

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
    _log(report)
    return finish()


def _log(report):
    corpus = report["corpus"]
    logger.info(
        "%d utterances of %d speakers found (%d with text, %d not in speaker-info.txt),"
        " %d taken from the other microphone",
        *(corpus[k] for k in ("utterances", "speakers", "speakers_with_text")),
        len(corpus["speakers_without_info"]),
        sum(corpus["microphone_fallbacks"].values()),
    )
    dropped = ", ".join(f"{len(ids)} {reason}" for reason, ids in report["dropped"].items() if ids)
    logger.info("dropped: %s", dropped or "none")
    for name, split in report["splits"].items():
        logger.info(
            "%s: %s", name, "{clips} clips, {speakers} speakers, {hours:.2f} h".format(**split)
        )


def _check_apart(audio_folder, data_folder, additional_folders):
    """Prepared audio within the recordings would be taken for recordings the next time."""
    root, layout = find_vctk(data_folder)
    target = audio_folder.resolve()
    for folder in (root / LAYOUTS[layout], *map(user_path, additional_folders)):
        if target.is_relative_to(folder.resolve()):
            raise UserError(
                f"audio_folder {audio_folder} lies within the recordings of {folder}: choose one"
                " outside of them"
            )


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
    add("--shards_folder", help="where the prepared audio is also written as tar shards")
    add(
        "--utterances_per_shard",
        type=int,
        default=UTTERANCES_PER_SHARD,
        help="at most so many utterances make a shard (default: %(default)s)",
    )
    options = vars(parser.parse_args(arguments))
    unseen = options["unseen_speakers"]
    if len(unseen) == 1 and unseen[0].isdigit():
        options["unseen_speakers"] = int(unseen[0])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_vctk(**options)


if __name__ == "__main__":
    sys.exit(main())
