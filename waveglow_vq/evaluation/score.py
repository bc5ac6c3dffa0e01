"""Scores reconstructions against recordings.

    waveglow-vq evaluate recordings/ reconstructions/ --align --level_match

Files are paired by their relative paths. The same from Python: ``score_folders`` and,
for two waveforms, ``score_pair``.
"""

import contextlib
import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.formats import how_to_convert, sound_suffixes
from waveglow_vq.audio.io import read_wav_and_rate
from waveglow_vq.audio.resampling import resample
from waveglow_vq.audio.sound_files import audio_info
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation import time_alignment
from waveglow_vq.evaluation.baselines import ITERATIONS, sounds_without_model
from waveglow_vq.evaluation.f0_accuracy import compare_f0
from waveglow_vq.evaluation.metrics import (
    check_length,
    log_mel_l1,
    mel_cepstral_distortion,
    multi_resolution_stft_distance,
    spectral_convergence,
)
from waveglow_vq.evaluation.score_table import (
    METRICS,
    VOICING,
    format_table,  # noqa: F401 (its old place)
)
from waveglow_vq.evaluation.sound_quality import measures_of, require, score_sound
from waveglow_vq.evaluation.time_alignment import MAX_SHIFT_SAMPLES
from waveglow_vq.evaluation.words.recognizers import DEFAULT, open_recognizer, word_errors
from waveglow_vq.evaluation.words.reference_texts import texts_of
from waveglow_vq.evaluation.words.relative_errors import RECORDINGS, words_of_files
from waveglow_vq.utils.files import count_kinds, user_path, walk_files

from tqdm import tqdm

# A recording whose peak is below this (-80 dBFS) is silent: nothing is relative to it.
SILENCE = 1e-4


def score_pair(
    reference,
    estimate,
    sample_rate=22050,
    align=False,
    level_match=False,
    max_shift_samples=MAX_SHIFT_SAMPLES,
    features=None,
    judges=(),
):
    """All objective measures of one reconstruction; ``METRICS`` are 0 for a copy.

    Arguments
    ---------
    reference, estimate : torch.Tensor
        Samples [N] and [M] of one rate; the longer is cut to the shorter.
    sample_rate : int
        In Hz.
    align : bool
        Remove a constant delay first.
    level_match : bool
        Scale the estimate to the RMS level of the reference first.
    max_shift_samples : int
        The greatest delay looked for.
    features : LogMel or None
        The mel features, ``None`` for the feature contract at ``sample_rate``.
    judges : iterable of str
        Names of :data:`~waveglow_vq.evaluation.sound_quality.JUDGES`.

    Returns
    -------
    dict
        The keys of ``METRICS`` and ``VOICING`` (see
        :func:`~waveglow_vq.evaluation.f0_accuracy.compare_f0`), the measures of the judges, and
        ``delay_samples``, ``gain``, ``length_difference_samples`` (estimate minus reference),
        ``duration_seconds`` (of what was compared).

    Raises
    ------
    UserError
        If a signal has fewer than 2048 samples.

    Example
    -------
    >>> import torch
    >>> wav = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    >>> scores = score_pair(wav, wav.clone())
    >>> [scores[name] for name in ("log_mel_l1", "spectral_convergence", "voicing_error")]
    [0.0, 0.0, 0.0]
    >>> late = torch.cat([torch.zeros(300), 0.5 * wav])
    >>> scores = score_pair(wav, late, align=True, level_match=True)
    >>> scores["log_mel_l1"], scores["delay_samples"], scores["gain"]
    (0.0, 300, 2.0)
    """
    for name, wav in (("the reference", reference), ("the estimate", estimate)):
        check_length(wav, name)
    features = LogMel(sample_rate=sample_rate) if features is None else features
    difference = len(estimate) - len(reference)
    delay, gain = 0, 1.0
    if align:
        reference, estimate, delay = time_alignment.align(reference, estimate, max_shift_samples)
    common = min(len(reference), len(estimate))
    reference, estimate = reference[:common], estimate[:common]
    if level_match:
        estimate, gain = time_alignment.match_level(reference, estimate)
    return {
        "log_mel_l1": log_mel_l1(reference, estimate, features),
        "spectral_convergence": spectral_convergence(reference, estimate),
        "multi_resolution_stft": multi_resolution_stft_distance(reference, estimate),
        "mel_cepstral_distortion": mel_cepstral_distortion(reference, estimate, features),
        **compare_f0(reference, estimate, sample_rate),
        **score_sound(reference, estimate, sample_rate, judges),
        "delay_samples": delay,
        "gain": gain,
        "length_difference_samples": difference,
        "duration_seconds": common / sample_rate,
    }


def score_baselines(recording, features, judges=(), no_model=0, sounds=None):
    """What the measures of a reconstruction are to be compared with: those of the recording itself,
    and of what its log-mel gives without a model.

    Arguments
    ---------
    recording : torch.Tensor
        Samples [N] at the rate of the features.
    features : LogMel
        The mel features.
    judges : iterable of str
        As in :func:`score_pair`.
    no_model : int
        Iterations of :func:`~waveglow_vq.evaluation.baselines.without_model`; 0 leaves it out.
    sounds : dict
        What :func:`~waveglow_vq.evaluation.baselines.sounds_without_model` made with as many; None:
        it is made here.

    Returns
    -------
    dict
        ``{row: measures}``, of the rows "recordings", "no model, N iterations" and, where pitch is
        read off log-mels of these features, "no model, pulses at the pitch read, N iterations".

    Example
    -------
    >>> import torch
    >>> wav = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    >>> rows = score_baselines(wav, LogMel(), no_model=5)
    >>> list(rows), rows["recordings"]["log_mel_l1"]
    (['recordings', 'no model, 5 iterations', 'no model, pulses at the pitch read, 5 iterations'],
    0.0)
    """
    rate = features.sample_rate
    copy = dict.fromkeys(METRICS, 0.0) | compare_f0(recording, recording, rate)
    copy |= score_sound(recording, recording, rate, judges)
    rows = {"recordings": copy}
    sounds = sounds_without_model(recording, features, no_model) if sounds is None else sounds
    for row, estimate in sounds.items():
        scores = score_pair(recording, estimate, rate, features=features, judges=judges)
        rows[row] = {key: scores[key] for key in copy}
    return rows


def score_folders(
    reference_folder,
    estimate_folder,
    ext=None,
    sample_rate=None,
    align=False,
    level_match=False,
    allow_resampling=False,
    max_shift_samples=MAX_SHIFT_SAMPLES,
    progress=False,
    judges=(),
    no_model=0,
    beside=(),
    texts=None,
    recognizer=DEFAULT,
):
    """Scores every file that both folders have, at any depth, under the same relative path.

    Arguments
    ---------
    reference_folder, estimate_folder : str or Path
        Recordings and reconstructions.
    ext : str
        Extension of the files, such as ``"wav"`` or ``"flac"``; ``None`` for all audio
        files, where a recording may be of another kind than its reconstruction.
    sample_rate : int or None
        Rate at which everything is scored; ``None`` is the rate of the first recording.
    align, level_match : bool
        As in ``score_pair``.
    allow_resampling : bool
        Files at another rate are resampled instead of refused.
    max_shift_samples : int
        The greatest delay that the alignment looks for.
    progress : bool
        Show a progress bar on stderr.
    judges, no_model : iterable of str, int
        As in :func:`score_baselines`.
    beside : iterable of str or Path
        Folders of other reconstructions of the same recordings, further rows by their names.
    texts : str or Path
        What the recordings say, see ``texts_of``; None: words are not judged. If they are, there
        are rows without a model in any case, of 20 iterations.
    recognizer : str
        Who listens (:func:`~waveglow_vq.evaluation.words.recognizers.open_recognizer`).

    Returns
    -------
    dict
        ``files`` (relative path without extension: result of ``score_pair``), ``failed`` (path of
        those that cannot be scored: a sentence that says why), ``left_out`` (a sentence for each
        folder that holds something else), ``silent`` (names of silent recordings), ``mean`` (of
        each measure over the other files; an undefined value is left out), ``baselines`` (the rows
        of :func:`score_baselines` and of the folders beside: ``files`` and ``mean`` of each),
        ``words`` (`words_of_files`, None without texts),
        ``missing_estimates`` and ``missing_references`` (sorted relative paths), and ``settings``.

    Raises
    ------
    UserError
        If a folder is missing or empty, nothing is in common, or nothing can be scored: rates
        differ, files are damaged or too short, or all recordings are silent. If a judge is not
        installed, or a folder beside lacks a file or has the name of another row.

    Example
    -------
    >>> import tempfile, torch
    >>> from waveglow_vq.audio.io import write_wav
    >>> folder = tempfile.mkdtemp()
    >>> _ = write_wav(folder + "/a.wav", 0.1 * torch.randn(8192), 22050)
    >>> score_folders(folder, folder)["mean"]["log_mel_l1"]
    0.0
    """
    judges = list(judges)
    require(judges)
    references, left_out = _sound_files(reference_folder, ext)
    estimates, more_left_out = _sound_files(estimate_folder, ext)
    common = sorted(references.keys() & estimates.keys())
    if not common:
        raise UserError(
            f"{reference_folder} and {estimate_folder} have no {_kind(ext)} of the same name: the "
            f"first has {min(references)}, the second {min(estimates)}"
        )
    if sample_rate is None:
        sample_rate = _first_rate([references[name] for name in common])
    features = LogMel(sample_rate=sample_rate)
    others = _folders_beside(beside, ext, common)
    how = sample_rate, align, level_match, max_shift_samples, features, judges
    said, listener = {}, None
    if texts is not None:
        said, listener = texts_of(texts, common), open_recognizer(recognizer)
        no_model = no_model or ITERATIONS
    files, failed, silent, baselines, words, unmodelled = {}, {}, [], {}, {}, {}
    for name in tqdm(common, desc="scoring", unit="file", disable=not progress):
        try:
            recording, estimate = (
                _read(files_of[name], sample_rate, allow_resampling)
                for files_of in (references, estimates)
            )
            scores = score_pair(recording, estimate, *how)
            unmodelled = sounds_without_model(recording, features, no_model)
            rows = score_baselines(recording, features, judges, no_model, unmodelled)
            sounds = {
                row: _read(files_of[name], sample_rate, allow_resampling)
                for row, files_of in others.items()
            }
            rows |= {row: score_pair(recording, sound, *how) for row, sound in sounds.items()}
            if name in said:
                sounds = {RECORDINGS: recording} | unmodelled | sounds | {"mean": estimate}
                words[name] = word_errors(listener, said[name], sounds, sample_rate)
            for row, measures in rows.items():
                baselines.setdefault(row, {"files": {}})["files"][name] = measures
            files[name] = scores
            if recording.abs().max() < SILENCE:
                silent.append(name)
        except Exception as error:
            if len(common) == 1:
                raise
            why = "" if isinstance(error, UserError) else f"{name}: {type(error).__name__}: "
            failed[name] = f"{why}{error}"
    if not files:
        raise UserError(f"none of {len(common)} files can be scored: {next(iter(failed.values()))}")
    heard = [name for name in files if name not in silent]
    if not heard:
        raise UserError(f"{reference_folder}: the recordings are silent; score others")
    measures = [*METRICS, *VOICING, *measures_of(judges)]
    for row in baselines.values():
        row["mean"] = mean_scores([row["files"][name] for name in heard], measures)
    return {
        "files": files,
        "failed": failed,
        "left_out": left_out + more_left_out,
        "silent": silent,
        "mean": mean_scores([files[name] for name in heard], measures),
        "baselines": baselines,
        "words": words_of_files(words, recognizer, *list(unmodelled)[-1:]) if words else None,
        "missing_estimates": sorted(references.keys() - estimates.keys()),
        "missing_references": sorted(estimates.keys() - references.keys()),
        "settings": {
            "reference_folder": str(reference_folder),
            "estimate_folder": str(estimate_folder),
            "sample_rate": sample_rate,
            "align": align,
            "level_match": level_match,
            "max_shift_samples": max_shift_samples,
            "judges": judges,
            "no_model": no_model,
            "beside": [str(folder) for folder in beside],
            "texts": None if texts is None else str(texts),
            "recognizer": str(recognizer),
        },
    }


def mean_scores(scores, measures):
    """Mean of each of the measures over dictionaries of them, where it is defined; NaN where it is
    in none.

    Example
    -------
    >>> mean_scores([{"dnsmos": 2.0}, {"dnsmos": 3.0}, {"dnsmos": math.nan}], ["dnsmos"])
    {'dnsmos': 2.5}
    """
    return {key: _mean(each[key] for each in scores) for key in measures}


def _sound_files(folder, ext):
    folder = user_path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    suffixes = sound_suffixes() if ext is None else ("." + ext.lstrip(".").lower(),)
    found, others = {}, []
    for path in walk_files(folder):
        if path.suffix.lower() not in suffixes:
            others.append(path)
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{found[name]} and {path} have the same name; choose one with --ext")
        found[name] = path
    if not found:
        others = "" if ext is None else "; choose others with --ext"
        raise UserError(f"{folder} holds no {_kind(ext)}s{others}")
    if not others or ext is not None:
        return found, []
    return found, [f"{folder}: left out: {count_kinds(others)}{how_to_convert(others)}"]


def _folders_beside(folders, ext, common):
    """Name of the row: files, of folders that have all of the names in common."""
    found = {}
    for folder in folders:
        row, (files, _) = user_path(folder).resolve().name, _sound_files(folder, ext)
        if row in {"recordings", "mean", *found, *common}:
            raise UserError(f"{folder}: the table has a row {row} already; rename the folder")
        if missing := [name for name in common if name not in files]:
            raise UserError(f"{folder} has no {_kind(ext)} {missing[0]}, which the others have")
        found[row] = files
    return found


def _kind(ext):
    return "audio file" if ext is None else f".{ext.lstrip('.')} file"


def _first_rate(paths):
    """The rate of the first file that is whole."""
    for path in paths:
        with contextlib.suppress(UserError):
            return audio_info(path).sample_rate
    return audio_info(paths[0]).sample_rate


def _read(path, sample_rate, allow_resampling):
    wav, rate = read_wav_and_rate(path, mono="mix")
    if rate != sample_rate:
        if not allow_resampling:
            raise UserError(
                f"{path} has a sample rate of {rate} Hz, but scoring is at {sample_rate} Hz; "
                "add --resample"
            )
        wav = resample(wav, rate, sample_rate)
    check_length(wav, path)
    return wav


def _mean(values):
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
