"""The tables of scores."""

import math

from waveglow_vq.evaluation.baselines import no_model_name
from waveglow_vq.evaluation.sound_quality import measures_of
from waveglow_vq.evaluation.verdicts import LEGEND, LOWER, score_verdict
from waveglow_vq.evaluation.words.relative_errors import RATES

# Name in the results: heading of the table.
METRICS = {
    "log_mel_l1": "log-mel L1",
    "spectral_convergence": "spec. conv.",
    "multi_resolution_stft": "MR-STFT",
    "mel_cepstral_distortion": "MCD [dB]",
    "log_f0_rmse": "log-F0 RMSE",
    "voicing_error": "voicing err.",
}
# By the tracker of the package, of recordings too.
VOICING = {
    "voiced_share": ("voiced", ""),
    "voiced_ratio": ("/ recording's", ""),
    "f0_error_cents": ("F0 err. [cents]", LOWER),
}
UNITS = (
    f"{LOWER} lower is better, 0 for a copy; log-mel L1 and log-F0 RMSE are in natural logarithms"
    " (0.058 is a semitone), MCD in dB, voicing errors a share of the frames"
)

VOICING_UNITS = (
    "voiced is the share of voiced frames, then as a share of the recording's (1 as it should be);"
    " F0 errors are medians over the frames voiced in both"
)
JUDGE_UNITS = (
    f"{LEGEND}; PESQ-WB (to 4.64), ViSQOL, DNSMOS and distillmos are opinion scores of 1 to 5,"
    " periodicity errors RMS of 0 to 1, V/UV F1 that of the voicing decisions,"
    " content a cosine distance (0 for a copy, 1 if nothing is alike)"
)

WORD_UNITS = (
    "word error (WER) and character error (CER) are edits over what the text has, all files"
    " together; then less those of the same recognizer on the recordings, and on their log-mels"
    " decoded without a model"
)


def distances(names=METRICS):
    """The measures of these names as :func:`table_lines` takes them.

    Example
    -------
    >>> list(distances(["log_mel_l1"]))
    ['log_mel_l1']
    """
    return {name: (METRICS[name], LOWER) for name in names}


def format_table(results):
    """Formats the results of ``score_folders`` as a table for the terminal.

    Arguments
    ---------
    results : dict
        What ``score_folders`` returned.

    Returns
    -------
    str
        One line per file, lines of means, units, a verdict, and a sentence for each thing to know;
        before the verdict the same lines for voicing and judges, and those of words.

    Example
    -------
    >>> one = {name: 0.25 for name in [*METRICS, *VOICING]} | {
    ...     "delay_samples": 0, "gain": 1.0, "length_difference_samples": 0}
    >>> print(format_table({"files": {"a": one}, "mean": one, "settings": {"align": False,
    ...     "level_match": False}, "missing_estimates": ["b"], "missing_references": []}))
    file    log-mel L1 ↓  spec. conv. ↓  MR-STFT ↓  MCD [dB] ↓  log-F0 RMSE ↓  voicing err. ↓
    a              0.250          0.250      0.250       0.250          0.250           0.250
    mean           0.250          0.250      0.250       0.250          0.250           0.250
    ↓ lower is better, 0 for a copy; log-mel L1 and log-F0 RMSE are in natural logarithms (0.058 is
    a semitone), MCD in dB, voicing errors a share of the frames
    <BLANKLINE>
    file    voiced  / recording's  F0 err. [cents] ↓
    a        0.250          0.250              0.250
    mean     0.250          0.250              0.250
    voiced is the share of voiced frames, then as a share of the recording's (1 as it should be); F0
    errors are medians over the frames voiced in both
      => log-mel L1 is that of good vocoders; it does not measure naturalness
    1 recording without a reconstruction, left out: b
    """
    extra = []
    if results["settings"]["align"]:
        extra.append(("delay", "delay_samples", "{:d}"))
    if results["settings"]["level_match"]:
        extra.append(("gain", "gain", "{:.3f}"))
    rows = results["files"] | {"mean": results["mean"]}
    baselines = {row: of["mean"] for row, of in results.get("baselines", {}).items()}
    # To these measures a recording is a copy of itself.
    others = {row: mean for row, mean in baselines.items() if row != "recordings"}
    lines = [*table_lines(rows | others, distances(), extra), UNITS, ""]
    judges, no_model = (results["settings"].get(key) for key in ("judges", "no_model"))
    lines += table_lines(rows | baselines, VOICING | measures_of(judges or ()))
    lines += [VOICING_UNITS, JUDGE_UNITS] if judges else [VOICING_UNITS]
    if no_model and no_model_name(no_model, pulses=True) not in baselines:
        lines.append("No row from pulses: pitch is read off log-mels of 22050 Hz only")
    lines += ["", *format_words(results["words"])] if results.get("words") else []
    lines.append(score_verdict(results["mean"]["log_mel_l1"]))
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


def format_words(words):
    """Lays out the result of :func:`~waveglow_vq.evaluation.words.relative_errors.words_of_files`.

    Example
    -------
    >>> rates = {"word_error": 0.25, "character_error": 0.125, "words": 8, "utterances": 2}
    >>> print("\\n".join(format_words({"recognizer": "whisper", "rows": {"recordings": rates}})))
    8 words, 2 files, by whisper  WER ↓  - recordings  - no model  CER ↓  - recordings  - no model
    recordings                    0.250             -           -  0.125             -           -
    word error (WER) and character error (CER) are edits over what the text has, all files together;
    then less those of the same recognizer on the recordings, and on their log-mels decoded without
    a model
    """
    measures = {}
    for rate, heading in zip(RATES, ("WER", "CER"), strict=True):
        measures[rate] = (heading, LOWER)
        measures[f"{rate}_above_recordings"] = ("- recordings", "")
        measures[f"{rate}_above_no_model"] = ("- no model", "")
    first = next(iter(words["rows"].values()))
    files = f"{first['utterances']} file{'s' if first['utterances'] != 1 else ''}"
    name = f"{first['words']} words, {files}, by {words['recognizer']}"
    return [*table_lines(words["rows"], measures, name=name), WORD_UNITS]


def table_lines(rows, measures, extra=(), name="file"):
    """The lines of a table.

    Arguments
    ---------
    rows : dict
        ``{name: {measure: value}}``; a measure that a row lacks is a dash.
    measures : dict
        ``{measure: (heading, which is better)}``, as
        :func:`~waveglow_vq.evaluation.sound_quality.measures_of` returns.
    extra : list of tuple
        Further columns, empty where a row lacks them: heading, name and format of the value.
    name : str
        What the rows are.

    Returns
    -------
    list of str
        The headings, and a line for each row.

    Example
    -------
    >>> rows = {"recordings": {"dnsmos": 3.2}, "conversions": {"dnsmos": 2.5}}
    >>> print("\\n".join(table_lines(rows, {"dnsmos": ("DNSMOS", "^")}, name="of")))
    of           DNSMOS ^
    recordings      3.200
    conversions     2.500
    """
    headings = [f"{heading} {better}".rstrip() for heading, better in measures.values()]
    headings += [heading for heading, _, _ in extra]
    width = max(map(len, [name, *rows])) + 2
    lines = ["".join([f"{name:<{width}}"] + [f"{h:>{len(h) + 2}}" for h in headings])]
    for row, scores in rows.items():
        cells = [_cell(scores.get(key, math.nan)) for key in measures]
        cells += [form.format(scores[key]) if key in scores else "" for _, key, form in extra]
        cells = [f"{c:>{len(h) + 2}}" for c, h in zip(cells, headings, strict=True)]
        lines.append("".join([f"{row:<{width}}", *cells]).rstrip())
    return lines


def _cell(value):
    return "-" if math.isnan(value) else f"{value:.3f}"
