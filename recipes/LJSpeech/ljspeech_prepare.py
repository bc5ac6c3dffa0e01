"""Prepares LJSpeech-1.1 (https://keithito.com/LJ-Speech-Dataset/): 13,100 clips of one speaker.

Writes the manifests train.json, valid.json and test.json (their form: see
waveglow_vq/data/corpora/preparation.py), and shards where a folder for them is named (see
waveglow_vq/data/shards/format.py). The recipe calls `prepare_ljspeech`; by hand:

    python ljspeech_prepare.py --data_folder /data/LJSpeech-1.1 --save_folder results/manifests
"""

import logging
import sys
from pathlib import Path

from waveglow_vq.data.corpora.download import download_file, unpack_tar
from waveglow_vq.data.corpora.filters import Filters
from waveglow_vq.data.corpora.ljspeech import find_recordings, read_metadata
from waveglow_vq.data.corpora.preparation import (
    check_manifests,
    preparation_parser,
    prepare_manifests,
    true_or_false,
)
from waveglow_vq.data.corpora.shard_writer import UTTERANCES_PER_SHARD, write_shards
from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.utils.files import user_path

CORPUS = "LJSpeech-1.1"
URL = "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2"
SHA256 = "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5"


def prepare_ljspeech(
    data_folder,
    save_folder,
    splits=("train", "valid", "test"),
    split_ratio=(90, 5, 5),
    seed=0,
    sample_rate=22050,
    num_workers=None,
    download=False,
    skip_prep=False,
    max_utterances=None,
    shards_folder=None,
    utterances_per_shard=UTTERANCES_PER_SHARD,
    **filters,
):
    """Filters the corpus, splits it, and writes the manifests and the shards.

    With the same options and files as the last time it does nothing.

    Arguments
    ---------
    data_folder : str or Path
        The corpus (the folder with metadata.csv and wavs/), or the folder that holds it under the
        name LJSpeech-1.1.
    save_folder : str or Path
        Where <split>.json and prepare_report.json go.
    splits : sequence of str
        Names of the splits.
    split_ratio : sequence of float
        The share of each split. A clip's split depends on its id and `seed` only.
    seed : int
        Another seed, another split.
    sample_rate : int
        The rate that every file has to have, in Hz.
    num_workers : int or None
        Files read at a time; None for the number of processors, at most 8.
    download : bool
        Whether to fetch the corpus (2.6 GB) into `data_folder` if it is not there.
    skip_prep : bool
        Whether to rely on manifests that are there already.
    max_utterances : int or None
        Use only so many clips, chosen by a hash of their id.
    shards_folder : str or Path or None
        Where the clips are also written as shards, with manifests of their own.
    utterances_per_shard : int
        At most so many clips make a shard.
    filters
        Fields of `waveglow_vq.data.corpora.filters.Filters`, such as ``min_samples=30_000``.

    Returns
    -------
    data_root : Path
        The corpus folder, which `{data_root}` in the manifests stands for.

    Raises
    ------
    waveglow_vq.errors.UserError
        If there is no corpus, or something in it is wrong; the sentence names the file.
    """
    data_root, save_folder = find_ljspeech(data_folder, download), user_path(save_folder)
    if skip_prep:
        check_manifests(save_folder, splits)
    else:
        recordings = find_recordings(read_metadata(data_root / "metadata.csv"), data_root)
        prepare_manifests(
            recordings,
            save_folder,
            splits,
            split_ratio,
            seed,
            Filters(**filters),
            sample_rate,
            num_workers,
            max_utterances,
        )
    if shards_folder is not None:
        write_shards(
            save_folder, data_root, shards_folder, sample_rate, splits, utterances_per_shard
        )
    return data_root


def find_ljspeech(data_folder, download=False):
    """Finds the corpus in or under a folder, and fetches it if asked to.

    Arguments
    ---------
    data_folder : str or Path or None
        The corpus, or the folder that holds it under the name LJSpeech-1.1.
    download : bool
        Whether to fetch the corpus into `data_folder` if it is not there.

    Returns
    -------
    data_root : Path
        The folder with metadata.csv and wavs/.

    Raises
    ------
    waveglow_vq.errors.UserError
        If there is none.
    """
    if data_folder is None or not str(data_folder).strip():
        raise UserError(
            "no data folder was given: name a copy of LJSpeech-1.1 with --data_folder FOLDER, or"
            " have it fetched with --data_folder FOLDER --download true, or run `make demo`, which"
            " generates a small corpus and trains on it"
        )
    folder = user_path(data_folder)
    for candidate in (folder, folder / CORPUS):
        if (candidate / "metadata.csv").is_file():
            return candidate
    if download:
        archive = download_file(URL, folder / Path(URL).name, SHA256)
        return unpack_tar(archive, folder, CORPUS)
    if not folder.is_dir():
        raise UserError(
            f"the data folder {folder} does not exist; name the folder of {CORPUS} with"
            " --data_folder, or fetch the corpus into it with --download true"
        )
    raise UserError(
        f"{folder} holds no {CORPUS} (no metadata.csv in it, nor in {CORPUS}/ under it); name the"
        " folder of the corpus with --data_folder, or fetch the corpus with --download true"
    )


@cli_errors()
def main(arguments=None):
    """The command line of this module."""
    parser = preparation_parser("Prepares LJSpeech-1.1: train.json, valid.json, test.json.")
    add = parser.add_argument
    add("--data_folder", help="the corpus, or the folder that holds LJSpeech-1.1/")
    add("--save_folder", required=True, help="where the manifests go")
    add("--splits", nargs="+", default=["train", "valid", "test"], help="names of the splits")
    add("--split_ratio", nargs="+", type=float, default=[90, 5, 5], help="share of each split")
    add("--download", type=true_or_false, default=False, help="fetch the corpus if it is missing")
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_ljspeech(**options)


if __name__ == "__main__":
    sys.exit(main())
