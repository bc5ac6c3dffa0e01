"""Prepares VCTK (https://datashare.ed.ac.uk/handle/10283/3443): about 110 speakers of English.

Both releases are known by their layout: 0.80 has wav48/, 0.92 has wav48_silence_trimmed/. Folders
of further speakers can be added, and a list of folders may hold corpora of other layouts, for a
vocoder of any voice. The recordings are resampled once (their form and that of the
pitch beside them: see waveglow_vq/data/corpora/prepared_audio.py), then the manifests train.json,
valid.json, test.json and unseen.json, speakers.json and prepare_report.json are written, and shards
where a folder for them is named (see waveglow_vq/data/shards/format.py). The recipe calls
`prepare_vctk`; by hand:

    python vctk_prepare.py --data_folder /data/VCTK-Corpus --audio_folder /data/vctk22 \\
        --manifest_folder results/manifests
"""

import logging
import sys
from pathlib import Path

from waveglow_vq.data.corpora.collection import corpus_layout, describe_corpora, scan_corpora
from waveglow_vq.data.corpora.filters import Filters
from waveglow_vq.data.corpora.preparation import (
    apply_filters,
    check_manifests,
    describe_speakers,
    find_report,
    preparation_parser,
    true_or_false,
    write_manifests,
)
from waveglow_vq.data.corpora.prepared_audio import TRIM_THRESHOLD_DB, Preprocessing, prepare_audio
from waveglow_vq.data.corpora.shard_writer import UTTERANCES_PER_SHARD, write_shards
from waveglow_vq.data.corpora.splits import (
    SPLITS,
    UNSEEN,
    SplitOptions,
    choose_subset,
    split_by_speaker,
    split_voices,
)
from waveglow_vq.data.corpora.vctk import LAYOUTS, find_vctk, scan_vctk
from waveglow_vq.data.manifests import REPORT
from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.utils.files import read_json, user_path
from waveglow_vq.utils.journal import json_digest
from waveglow_vq.utils.options import build_options

logger = logging.getLogger(__name__)

MANIFESTS = (*SPLITS, UNSEEN)
_VERSION = 1  # of the manifests; those of another version are made again


def prepare_vctk(
    data_folder,
    audio_folder,
    manifest_folder,
    mic="mic1",
    additional_folders=(),
    speakers=None,
    max_utterances=None,
    num_workers=None,
    skip_prep=False,
    shards_folder=None,
    utterances_per_shard=UTTERANCES_PER_SHARD,
    **options,
):
    """Resamples the corpus, filters it, splits it, and writes manifests and shards.

    A run that was stopped resumes where it stopped. With the same options and files as the last
    time nothing is done.

    Arguments
    ---------
    data_folder : str, Path, or list of them
        The corpus in either layout, or a folder that holds it one level deeper. In a list, each is
        a corpus of any layout that `scan_corpora` knows.
    audio_folder : str or Path
        Where the prepared audio goes; runs with other splits or filters can share it.
    manifest_folder : str or Path
        Where the manifests, speakers.json and prepare_report.json go.
    mic : str
        "mic1" or "mic2", the microphone of release 0.92. An utterance that was not recorded by it
        is taken from the other one.
    additional_folders : sequence of str or Path
        More speakers: folders with one subfolder of audio files for each.
    speakers : list of str or None
        Use only these.
    max_utterances : int or None
        Use only so many utterances, chosen by a hash of their id.
    num_workers : int or None
        Files prepared at a time; None for the number of processors, at most 16.
    skip_prep : bool
        Whether to use what exists.
    shards_folder : str or Path or None
        Where prepared audio and pitch are also written as shards, with manifests of their own.
    utterances_per_shard : int
        At most so many utterances make a shard.
    options
        Fields of `Preprocessing` (see waveglow_vq/data/corpora/prepared_audio.py), `Filters`
        (filters.py) and `SplitOptions` (splits.py), such as ``min_samples=30_000``.

    Returns
    -------
    audio_folder : Path
        What `{data_root}` in the manifests stands for.

    Raises
    ------
    waveglow_vq.errors.UserError
        If there is no corpus, or something in it is wrong; the sentence names the file.
    """
    preprocessing, filters, splits = build_options(options, Preprocessing, Filters, SplitOptions)
    splits = splits.checked()
    audio_folder, manifest_folder = user_path(audio_folder), user_path(manifest_folder)
    if skip_prep:
        check_manifests(manifest_folder, (*MANIFESTS, "speakers"))
    else:
        if isinstance(additional_folders, (str, Path)):
            additional_folders = [additional_folders]
        if isinstance(data_folder, list | tuple):
            corpus = scan_corpora([*data_folder, *additional_folders], mic, speakers)
        else:
            corpus = scan_vctk(data_folder, mic, additional_folders, speakers)
        _check_apart(audio_folder, data_folder, additional_folders)
        utterances = choose_subset(corpus.utterances, max_utterances, splits.seed)
        utterances = sorted(utterances, key=lambda u: (u.speaker, u.id))
        prepared, keys = prepare_audio(utterances, audio_folder, preprocessing, num_workers)
        options = {
            "mic": mic,
            **preprocessing.stated(),
            **filters.normalized()._asdict(),
            **splits.stated(),
            "max_utterances": max_utterances,
        }
        contents = [(u.id, u.speaker, u.text, keys[u.id]) for u in utterances]
        everything = [_VERSION, options, corpus.counts, corpus.info, contents]
        fingerprint = json_digest(everything, sort_keys=True)
        if not find_report(manifest_folder, (*MANIFESTS, "speakers"), fingerprint):
            sounds = {key: audio.sound for key, audio in prepared.items()}
            kept, dropped = apply_filters(utterances, sounds, filters)
            if splits.split_by == "voice":
                parts, left_out = split_voices(kept, splits, corpus.single_voices)
            else:
                parts, left_out = split_by_speaker(kept, splits)
            manifests, known = describe_speakers(
                parts, prepared, corpus.info, preprocessing.sample_rate
            )
            report = {
                "fingerprint": fingerprint,
                "options": options,
                "corpus": corpus.counts,
                "dropped": {**dropped, **left_out},
            }
            _log(corpus.counts)
            if corpus.origins is not None:
                report["corpora"] = describe_corpora(corpus, parts, sounds, preprocessing)
            write_manifests(manifest_folder, manifests, report, known)
    if shards_folder is not None:
        rate = preprocessing.sample_rate
        write_shards(
            manifest_folder, audio_folder, shards_folder, rate, MANIFESTS, utterances_per_shard
        )
    return audio_folder


def find_data(data_folder):
    """Raises a UserError if `data_folder`, of one corpus or a list of several, is not there."""
    if isinstance(data_folder, list | tuple):
        if not data_folder:
            raise UserError("no data folder was given: name corpora with --data_folders")
        for folder in data_folder:
            corpus_layout(folder)
    else:
        find_vctk(data_folder)


def check_shards(shards_folder, options):
    """Raises a UserError if shards that are complete were prepared with other values of `options`
    than these, where None is off."""
    before = read_json(user_path(shards_folder) / REPORT).get("options", {})
    for name, value in options.items():
        if before.get(name) != value:
            raise UserError(
                f"{name} is {value}, but the shards in {shards_folder} were prepared with"
                f" {before.get(name)}: name another shards_folder, or give the same {name}"
            )


def _log(counts):
    logger.info(
        "%d utterances of %d speakers found (%d with text, %d not in speaker-info.txt),"
        " %d taken from the other microphone",
        *(counts[k] for k in ("utterances", "speakers", "speakers_with_text")),
        len(counts["speakers_without_info"]),
        sum(counts["microphone_fallbacks"].values()),
    )


def _check_apart(audio_folder, data_folder, additional_folders):
    """Prepared audio within the recordings would be taken for recordings the next time."""
    target = audio_folder.resolve()
    if isinstance(data_folder, list | tuple):
        folders = data_folder
    else:
        root, layout = find_vctk(data_folder)
        folders = [root / LAYOUTS[layout]]
    for folder in map(user_path, (*folders, *additional_folders)):
        if target.is_relative_to(folder.resolve()):
            raise UserError(
                f"audio_folder {audio_folder} lies within the recordings of {folder}: choose one"
                " outside of them"
            )


@cli_errors()
def main(arguments=None):
    """The command line of this module."""
    parser = preparation_parser(
        "Prepares VCTK: resampled audio, train.json, valid.json, test.json, unseen.json and"
        " speakers.json."
    )
    add = parser.add_argument
    add("--data_folder", help="the corpus, either release, or the folder that holds it")
    add("--data_folders", nargs="+", help="instead: corpora of any layout")
    add("--audio_folder", required=True, help="where the prepared audio goes")
    add("--manifest_folder", required=True, help="where the manifests go")
    add("--mic", default="mic1", help="mic1 or mic2, of release 0.92 (default: %(default)s)")
    add("--additional_folders", nargs="*", default=[], help="more speakers, a subfolder for each")
    add("--trim_silence", type=true_or_false, default=True, help="true or false")
    add(
        "--trim_threshold_db",
        type=float,
        default=TRIM_THRESHOLD_DB,
        help="silence, relative to the loudest 20 ms (default: %(default)s)",
    )
    add("--highpass_hz", type=float, help="remove what lies below, such as 70 (default: nothing)")
    add(
        "--loudness_dbfs",
        type=float,
        nargs="+",
        help="RMS level of the speech, or the lowest and highest, such as -26 (default: as it is)",
    )
    add(
        "--fill_band_db",
        type=float,
        help="fill the band that a recording lacks with noise that falls by this slope per octave,"
        " such as -3 (default: leave it empty)",
    )
    add("--split_ratio", nargs=3, type=float, default=[90, 5, 5], help="train, valid, test")
    add(
        "--unseen_speakers",
        nargs="+",
        default=["0"],
        help="speakers to hold out: how many (a single number) or their labels",
    )
    add(
        "--disjoint_sentences",
        type=true_or_false,
        default=False,
        help="true: no sentence in two splits",
    )
    add("--split_by", default="clip", help="clip, or voice: no speaker in two splits")
    add("--held_out_speakers", nargs="+", default=[], help="with voice: in test, all they said")
    add("--held_out_clips", nargs="+", default=[], help="with voice: ids of test, or beginnings")
    add("--speakers", nargs="+", help="use only these")
    options = vars(parser.parse_args(arguments))
    folders, levels = options.pop("data_folders"), options["loudness_dbfs"]
    options["data_folder"] = folders or options["data_folder"]
    options["loudness_dbfs"] = levels[0] if levels and len(levels) == 1 else levels
    unseen = options["unseen_speakers"]
    if len(unseen) == 1 and unseen[0].isdigit():
        options["unseen_speakers"] = int(unseen[0])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_vctk(**options)


if __name__ == "__main__":
    sys.exit(main())
