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
from waveglow_vq.evaluation.f0_accuracy import compare_f0
from waveglow_vq.evaluation.metrics import (
    check_length,
    log_mel_l1,
    mel_cepstral_distortion,
    multi_resolution_stft_distance,
    spectral_convergence,
)
from waveglow_vq.evaluation.time_alignment import MAX_SHIFT_SAMPLES
from waveglow_vq.evaluation.verdicts import LOWER, score_verdict
from waveglow_vq.utils.files import count_kinds, user_path, walk_files

from tqdm import tqdm

# Name in the results: heading of the table.
METRICS = {
    "log_mel_l1": "log-mel L1",
    "spectral_convergence": "spec. conv.",
    "multi_resolution_stft": "MR-STFT",
    "mel_cepstral_distortion": "MCD [dB]",
    "log_f0_rmse": "log-F0 RMSE",
    "voicing_error": "voicing err.",
}
# A recording whose peak is below this (-80 dBFS) is silent: nothing is relative to it.
SILENCE = 1e-4
UNITS = (
    f"{LOWER} lower is better, 0 for a copy; log-mel L1 and log-F0 RMSE are in natural logarithms"
    " (0.058 is a semitone), MCD in dB, voicing errors a share of the frames"
)


def score_pair(
    reference,
    estimate,
    sample_rate=22050,
    align=False,
    level_match=False,
    max_shift_samples=MAX_SHIFT_SAMPLES,
    features=None,
):
    """All objective measures of one reconstruction; each is 0 for a copy.

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

    Returns
    -------
    dict
        The keys of ``METRICS``, and ``delay_samples``, ``gain``, ``length_difference_samples``
        (estimate minus reference), ``duration_seconds`` (of what was compared).

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
        "delay_samples": delay,
        "gain": gain,
        "length_difference_samples": difference,
        "duration_seconds": common / sample_rate,
    }


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

    Returns
    -------
    dict
        ``files`` (relative path without extension: result of ``score_pair``), ``failed`` (path of
        those that cannot be scored: a sentence that says why), ``left_out`` (a sentence for each
        folder that holds something else), ``silent`` (names of silent recordings), ``mean`` (of
        each measure over the other files; an undefined log-F0 RMSE is left out),
        ``missing_estimates`` and
        ``missing_references`` (sorted relative paths), and ``settings``.

    Raises
    ------
    UserError
        If a folder is missing or empty, nothing is in common, or nothing can be scored: rates
        differ, files are damaged or too short, or all recordings are silent.

    Example
    -------
    >>> import tempfile, torch
    >>> from waveglow_vq.audio.io import write_wav
    >>> folder = tempfile.mkdtemp()
    >>> _ = write_wav(folder + "/a.wav", 0.1 * torch.randn(8192), 22050)
    >>> score_folders(folder, folder)["mean"]["log_mel_l1"]
    0.0
    """
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
    files, failed, silent = {}, {}, []
    for name in tqdm(common, desc="scoring", unit="file", disable=not progress):
        try:
            pair = [
                _read(files_of[name], sample_rate, allow_resampling)
                for files_of in (references, estimates)
            ]
            files[name] = score_pair(
                *pair, sample_rate, align, level_match, max_shift_samples, features
            )
            if pair[0].abs().max() < SILENCE:
                silent.append(name)
        except Exception as error:
            if len(common) == 1:
                raise
            why = "" if isinstance(error, UserError) else f"{name}: {type(error).__name__}: "
            failed[name] = f"{why}{error}"
    if not files:
        raise UserError(f"none of {len(common)} files can be scored: {next(iter(failed.values()))}")
    heard = [scores for name, scores in files.items() if name not in silent]
    if not heard:
        raise UserError(f"{reference_folder}: the recordings are silent; score others")
    return {
        "files": files,
        "failed": failed,
        "left_out": left_out + more_left_out,
        "silent": silent,
        "mean": {key: _mean(scores[key] for scores in heard) for key in METRICS},
        "missing_estimates": sorted(references.keys() - estimates.keys()),
        "missing_references": sorted(estimates.keys() - references.keys()),
        "settings": {
            "reference_folder": str(reference_folder),
            "estimate_folder": str(estimate_folder),
            "sample_rate": sample_rate,
            "align": align,
            "level_match": level_match,
            "max_shift_samples": max_shift_samples,
        },
    }


def format_table(results):
    """Formats the results of ``score_folders`` as a table for the terminal.

    Arguments
    ---------
    results : dict
        What ``score_folders`` returned.

    Returns
    -------
    str
        One line per file, a line of means, units, a verdict, and a sentence for each thing to know.

    Example
    -------
    >>> one = {name: 0.25 for name in METRICS} | {
    ...     "delay_samples": 0, "gain": 1.0, "length_difference_samples": 0}
    >>> print(format_table({"files": {"a": one}, "mean": one, "settings": {"align": False,
    ...     "level_match": False}, "missing_estimates": ["b"], "missing_references": []}))
    file    log-mel L1 ↓  spec. conv. ↓  MR-STFT ↓  MCD [dB] ↓  log-F0 RMSE ↓  voicing err. ↓
    a              0.250          0.250      0.250       0.250          0.250           0.250
    mean           0.250          0.250      0.250       0.250          0.250           0.250
    ↓ lower is better, 0 for a copy; log-mel L1 and log-F0 RMSE are in natural logarithms (0.058 is
    a semitone), MCD in dB, voicing errors a share of the frames
      => log-mel L1 is that of good vocoders; it does not measure naturalness
    1 recording without a reconstruction, left out: b
    """
    headings = [f"{heading} {LOWER}" for heading in METRICS.values()]
    extra = []
    if results["settings"]["align"]:
        extra.append(("delay", "delay_samples", "{:d}"))
    if results["settings"]["level_match"]:
        extra.append(("gain", "gain", "{:.3f}"))
    headings += [heading for heading, _, _ in extra]
    width = max(len(name) for name in [*results["files"], "mean", "file"]) + 2
    lines = ["".join([f"{'file':<{width}}"] + [f"{h:>{len(h) + 2}}" for h in headings])]
    for name, scores in [*results["files"].items(), ("mean", results["mean"])]:
        cells = [_cell(scores[key]) for key in METRICS]
        cells += [form.format(scores[key]) if key in scores else "" for _, key, form in extra]
        row = [f"{c:>{len(h) + 2}}" for c, h in zip(cells, headings, strict=True)]
        lines.append("".join([f"{name:<{width}}", *row]).rstrip())
    lines += [UNITS, score_verdict(results["mean"]["log_mel_l1"])]
    for names, kind in (
        (results["missing_estimates"], "recording{} without a reconstruction, left out"),
        (results["missing_references"], "reconstruction{} without a recording, left out"),
        (results.get("silent"), "silent recording{}, left out of the means"),
    ):
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            kind = kind.format("s" if len(names) > 1 else "")
            lines.append(f"{len(names)} {kind}: {shown}")
    differences = [scores["length_difference_samples"] for scores in results["files"].values()]
    unequal = [difference for difference in differences if difference]
    if unequal:
        lines.append(
            f"{len(unequal)} of {len(differences)} pairs differ in length, by {min(unequal):+d} to "
            f"{max(unequal):+d} samples (reconstruction minus recording); the longer was cut"
        )
    return "\n".join(lines)


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


def _cell(value):
    return "-" if math.isnan(value) else f"{value:.3f}"
