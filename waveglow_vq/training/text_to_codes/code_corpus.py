"""The codes of a corpus: extracted once by a trained model, kept as files, read to train on.

    <codes_folder>/<utterance id>.wvq   a code file for each utterance, see code_file.py
    <codes_folder>/codes.jsonl          a line for each that is finished: of which recording it is
    <codes_folder>/codes.json           of which model they are, and whether all are there

The index is written before the first file, and a line of the journal follows its file. So a killed
run loses only what was in work, and the next one resumes; another model, a changed recording and a
damaged file are noticed.
"""

import contextlib
import logging
from typing import NamedTuple

from waveglow_vq.data.manifests import load_manifest
from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.code_file import SUFFIX, read_code_file
from waveglow_vq.inference.codes.coding import (
    load_codec,
    model_name,
    pitch_format,
    resample_nearest,
)
from waveglow_vq.training.text_to_codes.code_extraction import (
    JOURNAL,
    VERSION,
    all_entries,
    code_path,
    encode_all,
    is_valid,
    recording_key,
)
from waveglow_vq.utils.files import read_json, user_path, write_json
from waveglow_vq.utils.journal import Journal

import torch

logger = logging.getLogger(__name__)

INDEX = "codes.json"


class CodeCorpus(NamedTuple):
    """The index of a folder of codes, ``codes.json``."""

    codec: str  # name of the model, for people
    checksum: str  # of its weights: utils.files.model_checksum
    sample_rate: int  # of the model, in Hz
    codebook_size: int
    samples_per_code: int
    pitch_levels: int  # values of the pitch beside unvoiced; 0 without pitch
    samples_per_pitch: int  # for each value of the pitch in the files; 0 without pitch
    utterances: int = 0  # number of files
    skipped: dict = {}  # id of an utterance that could not be encoded: the reason

    @property
    def codes_per_second(self):
        """Rate of the codes in Hz."""
        return self.sample_rate / self.samples_per_code


class CodedUtterance(NamedTuple):
    """A training utterance; ``id`` and ``text`` are from the manifest.

    ``pitch`` has one value for each code (see
    :func:`~waveglow_vq.inference.codes.coding.resample_nearest`): 0 where unvoiced, else 1 to
    ``pitch_levels``; None for models without pitch.
    """

    id: str
    text: str
    codes: torch.Tensor  # int64 [T]
    pitch: torch.Tensor | None  # int64 [T]
    speaker: str | None  # the label, if the manifest has one
    wav: str  # path of the recording
    samples: int  # its length at the model's rate


def extract_codes(
    codec_folder,
    manifests,
    data_root,
    codes_folder,
    num_workers=None,
    device=None,
    max_skipped=10,
    overwrite=False,
):
    """Encodes those utterances of prepared manifests that are not encoded yet, on the main process.

    Arguments
    ---------
    codec_folder : str or Path
        The export of a ``SpeechCodec``, or of a ``VoiceConverter`` with codes.
    manifests : dict
        Paths by split.
    data_root : str or Path
        What ``{data_root}`` in the manifests stands for.
    codes_folder : str or Path
        Where the codes go, and nothing else.
    num_workers : int or None
        Processes on a CPU, each with a copy of the model; None for the number of CPUs, at most 16.
        The codes do not depend on it. A GPU is used by one process.
    device : str or None
        Such as ``cpu`` or ``cuda:1``; None for the GPU if there is one.
    max_skipped : int
        Recordings that may be unusable; one more is an error.
    overwrite : bool
        Whether to replace codes of another model.

    Returns
    -------
    report : dict
        The index, how many utterances of these manifests were ``encoded`` and ``kept``, and the
        encoded ``seconds``.

    Raises
    ------
    UserError
        If the model does not encode, the folder holds codes of another model, too many recordings
        are unusable, or nothing can be written.
    """
    if num_workers is not None and num_workers < 1:
        raise UserError(f"num_workers is {num_workers}; it must be at least 1")
    folder, data_root = user_path(codes_folder), user_path(data_root)
    entries = all_entries(manifests, data_root)
    codec = load_codec(codec_folder, {"device": device} if device else None)
    corpus = _describe(codec)
    with _write_errors(folder):
        _check_folder(folder, corpus, overwrite)
        before, finished = read_json(folder / INDEX), Journal(folder / JOURNAL).entries
        keys = {key: recording_key(entry, data_root) for key, entry in entries.items()}
        pending = {
            key: entry["wav"]
            for key, entry in entries.items()
            # Codes remain valid if the recording is gone.
            if key not in finished
            or (keys[key] is not None and [keys[key]] != finished[key])
            or not is_valid(code_path(folder, key), corpus.checksum)
        }
        kept = len(entries) - len(pending)
        if not pending and before.get("complete"):
            logger.info("%s: the codes of all %d utterances are there", folder, kept)
            return {**before, "encoded": 0, "kept": kept, "seconds": 0.0}
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(".*.part*"):  # of a run that was killed
            part.unlink(missing_ok=True)
        _write_index(folder, corpus, complete=False)
        seconds, skipped = encode_all(
            codec, codec_folder, pending, keys, folder, num_workers, max_skipped
        )
        utterances = sum(1 for _ in folder.glob(f"*{SUFFIX}"))
        corpus = corpus._replace(utterances=utterances, skipped=skipped)
        report = _write_index(folder, corpus, complete=True)
    encoded = len(pending) - len(skipped)
    return {**report, "encoded": encoded, "kept": kept, "seconds": seconds}


def read_index(codes_folder, checksum=None):
    """Reads the index of a folder of codes; they must be complete, and of the model with this
    checksum if one is given.
    """
    path = user_path(codes_folder) / INDEX
    index = read_json(path)
    complete = index.pop("complete", None)
    if index.pop("version", None) != VERSION or index.keys() != set(CodeCorpus._fields):
        raise UserError(
            f"{path} is missing, damaged or of another version; extract the codes with waveglow-vq"
            " encode-corpus"
        )
    if not complete:
        raise UserError(
            f"{codes_folder}: the extraction of the codes is unfinished; resume it with the same"
            " waveglow-vq encode-corpus"
        )
    corpus = CodeCorpus(**index)
    if checksum is not None and corpus.checksum != checksum:
        raise UserError(_other_model(codes_folder, corpus, checksum))
    return corpus


def read_code_corpus(codes_folder, manifest, data_root, checksum=None):
    """Reads the utterances of a manifest that have a text and codes, in its order, as
    CodedUtterance. The log counts those without. ``checksum`` is as for :func:`read_index`.
    """
    corpus = read_index(codes_folder, checksum)
    utterances, without_text, without_codes = [], 0, 0
    for key, entry in load_manifest(manifest, data_root).items():
        text = str(entry.get("text") or "").strip()
        path = code_path(codes_folder, key)
        if not text:
            without_text += 1
        elif not path.is_file():
            without_codes += 1
        else:
            found = read_code_file(path)
            if found.checksum != corpus.checksum:
                raise UserError(
                    f"{path} holds codes of another model ({found.model!r}); remove it and run"
                    " waveglow-vq encode-corpus again"
                )
            pitch = found.pitch
            if pitch is not None:
                steps = found.samples_per_code, found.samples_per_pitch
                pitch = resample_nearest(pitch, len(found.codes), *steps)
            utterances.append(
                CodedUtterance(
                    key, text, found.codes, pitch, entry.get("speaker"), entry["wav"], found.samples
                )
            )
    counts = f"{without_text} without text and {without_codes} without codes"
    if not utterances:
        raise UserError(
            f"{manifest} has no utterance to train on ({counts} in {codes_folder}); give"
            " manifests with texts, and extract their codes"
        )
    logger.info("%s: %d utterances; left out: %s", manifest, len(utterances), counts)
    return utterances


# ---- before anything is encoded


def _describe(codec):
    model = codec.mods.model
    pitch_levels, samples_per_pitch = pitch_format(codec)
    return CodeCorpus(
        codec=model_name(codec),
        checksum=codec.checksum,
        sample_rate=codec.sample_rate,
        codebook_size=model.quantizer.codebook_size,
        samples_per_code=model.conditioner.samples_per_code,
        pitch_levels=pitch_levels,
        samples_per_pitch=samples_per_pitch,
    )


@contextlib.contextmanager
def _write_errors(folder):
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); the same"
            " command resumes after what is encoded"
        ) from None


def _check_folder(folder, corpus, overwrite):
    """Checks that a folder holds codes of no other model, or removes them."""
    index = read_json(folder / INDEX)
    files = list(folder.glob(f"*{SUFFIX}"))
    if index.get("checksum") == corpus.checksum or not (index or files):
        return
    if overwrite:
        # The index, which says that they are complete, first.
        for path in (folder / INDEX, folder / JOURNAL, *files):
            path.unlink(missing_ok=True)
        return
    if "checksum" not in index:
        raise UserError(
            f"{folder} holds codes of an unknown model; choose another folder, or replace them with"
            " --force"
        )
    known = CodeCorpus(**{name: index.get(name) for name in CodeCorpus._fields})
    raise UserError(_other_model(folder, known, corpus.checksum))


def _other_model(folder, corpus, checksum):
    return (
        f"{folder} holds codes of the model {corpus.codec!r} with checksum"
        f" {str(corpus.checksum)[:12]}..., not {checksum[:12]}...; choose another folder, or"
        " replace them with waveglow-vq encode-corpus --force"
    )


def _write_index(folder, corpus, complete):
    index = {"version": VERSION, "complete": complete, **corpus._asdict()}
    write_json(folder / INDEX, index)
    return index
