"""Judgements of speech from text, summarized and as a table to read."""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.judges import ErrorCounts, error_rates
from waveglow_vq.evaluation.verdicts import HIGHER, LEGEND, LOWER, speech_verdict

# Name in the summary: what the table calls it. All are means or shares over the utterances, unless
# it says something else.
FIGURES = {
    "mcd_speech_db": "DTW-MCD of the speech to the recording, dB",
    "mcd_reconstruction_db": "DTW-MCD of the codec's reconstruction to the recording, dB",
    "mcd_ratio": "  ratio of these two",
    "nearer_to_own": "speech nearer to its own recording than to any of the others",
    "reconstruction_nearer_to_own": "  the same of the codec's reconstruction",
    "duration_ratio": "duration of the speech over that of the recording",
    "duration_deviation": "  distance from 1 of an utterance's",
    "duration_deviation_most": "  the greatest",
    "truncated": "truncated",
    "looping": "looping",
    "diagonal": "alignment diagonal",
    "stopped": "ended by itself, not by the bound on the length",
    "accuracy": "teacher-forced accuracy of codes",
    "nll": "teacher-forced negative log-likelihood of a code, nats",
    "perplexity": "teacher-forced perplexity of codes",
    "pitch_accuracy": "teacher-forced accuracy of the pitch",
    "pitch_nll": "teacher-forced negative log-likelihood of a value of pitch, nats",
    "diagonal_teacher_forced": "alignment diagonal, teacher-forced",
    "word_error_recording": "word error of the recordings",
    "word_error_no_model": "word error of their log-mels decoded without a model",
    "word_error_reconstruction": "word error of the codec's reconstructions",
    "word_error_reconstruction_above_recording": "  above that of the recordings",
    "word_error_speech": "word error of the speech",
    "word_error_speech_above_reconstruction": "  above that of the reconstructions",
    "character_error_recording": "character error of the recordings",
    "character_error_no_model": "character error of their log-mels decoded without a model",
    "character_error_reconstruction": "character error of the codec's reconstructions",
    "character_error_reconstruction_above_recording": "  above that of the recordings",
    "character_error_speech": "character error of the speech",
    "character_error_speech_above_reconstruction": "  above that of the reconstructions",
}
KINDS = ("recording", "no_model", "reconstruction", "speech")
_SHARES = {
    "nearer_to_own", "reconstruction_nearer_to_own", "truncated", "looping", "diagonal", "stopped",
    "accuracy", "pitch_accuracy", "diagonal_teacher_forced",
}  # fmt: skip


# Neither more nor less is better.
_NO_DIRECTION = {"duration_ratio"}
_HIGHER = {*_SHARES} - {"truncated", "looping"}


def summarize(rows):
    """Means and shares over the utterances of
    :func:`~waveglow_vq.evaluation.text_to_speech.judgement.judge_text_to_speech`.

    Returns ``utterances``, their number, and those of ``FIGURES`` that there are. ``mcd_ratio`` is
    the ratio of the two means. Teacher-forced figures are means over codes, and error rates over
    words, so that long utterances count more.
    """
    rows = list(rows.values())
    speech, reconstruction = (
        _mean(row[kind]["mcd_db"] for row in rows) for kind in ("speech", "reconstruction")
    )
    forced = [row["teacher_forced"] for row in rows]
    found = {
        "mcd_speech_db": speech,
        "mcd_reconstruction_db": reconstruction,
        "mcd_ratio": speech / max(reconstruction, 1e-6),
        "nearer_to_own": _mean(_collect(rows, "speech", "nearer_to_own")),
        "reconstruction_nearer_to_own": _mean(_collect(rows, "reconstruction", "nearer_to_own")),
        "duration_ratio": _mean(row["duration_ratio"] for row in rows),
        "duration_deviation": _mean(row["duration_deviation"] for row in rows),
        "duration_deviation_most": max(row["duration_deviation"] for row in rows),
        **{
            name: _mean(row[name] for row in rows)
            for name in ("truncated", "looping", "diagonal", "stopped")
        },
        **{
            name: _mean_over_codes(forced, name)
            for name in ("accuracy", "nll", "pitch_accuracy", "pitch_nll")
        },
        "diagonal_teacher_forced": _mean(row["diagonal"] for row in forced),
    }
    found["perplexity"] = math.exp(found["nll"])
    for kind in KINDS:
        for name, rate in _error_rates(rows, kind).items():
            found[f"{name}_{kind}"] = rate
    for one, other in (("reconstruction", "recording"), ("speech", "reconstruction")):
        for name in ("word_error", "character_error"):
            if f"{name}_{one}" in found:
                difference = found[f"{name}_{one}"] - found[f"{name}_{other}"]
                found[f"{name}_{one}_above_{other}"] = difference
    return {"utterances": len(rows)} | {
        name: found[name] for name in FIGURES if found.get(name) is not None
    }


def checked_bars(words):
    """Values to compare with, as they are given on the command line: ``NAME=VALUE``, names of
    ``FIGURES``; anything else is a UserError.

    Example
    -------
    >>> checked_bars(["mcd_ratio=1.3", "looping=0"])
    {'mcd_ratio': 1.3, 'looping': 0.0}
    """
    bars = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            bars[name] = float(value)
        except ValueError:
            raise UserError(f"--bars: expected NAME=VALUE, got {word!r}") from None
        if name not in FIGURES:
            raise UserError(f"--bars: {name!r} is not one of {', '.join(FIGURES)}")
    return bars


def format_report(results, bars=None):
    """Lays out the results of
    :func:`~waveglow_vq.evaluation.text_to_speech.judgement.judge_text_to_speech`: a line for each
    utterance, and below them the summary, beside ``bars`` from :func:`checked_bars`.

    Example
    -------
    >>> summary = {"utterances": 2, "mcd_ratio": 1.25, "nearer_to_own": 0.5}
    >>> results = {"utterances": {}, "summary": summary, "notes": []}
    >>> print(format_report(results, {"mcd_ratio": 1.3}))
    2 utterances                                                                 found        bar
        ratio of these two ↓                                                     1.250      1.300
      speech nearer to its own recording than to any of the others ↑            50.0 %
      => reading does not work yet: 50 % are nearer to their own recording than to others (goal:
    90 %); MCD to the recording is 1.25 times that of the codec's reconstruction
    <BLANKLINE>
    ↑ higher is better, ↓ lower is better
    """
    rows, summary = results["utterances"], results["summary"]
    sections = [_table(rows)] if rows else []
    bars = bars or {}
    heading = f"{summary['utterances']} utterance{'s' if summary['utterances'] != 1 else ''}"
    lines = [_line(heading, "found", "bar" if bars else "")]
    for name, words in FIGURES.items():
        if name in summary:
            bar = _cell(name, bars[name]) if name in bars else ""
            arrow = HIGHER if name in _HIGHER else "" if name in _NO_DIRECTION else LOWER
            lines.append(_line(f"  {words} {arrow}", _cell(name, summary[name]), bar))
    sections += [[*lines, speech_verdict(summary)], [LEGEND], list(results["notes"])]
    return "\n\n".join("\n".join(section) for section in sections if section)


def _table(rows):
    width = max(len("utterance"), *map(len, rows)) + 2
    lines = [
        f"{'utterance':<{width}}   MCD  codec  ratio  own?  duration  accuracy  word error  reading"
    ]
    for name, row in rows.items():
        own = row["speech"].get("nearer_to_own")
        words = row.get("words", {}).get("speech")
        error = f"{words['word_edits'] / max(words['words'], 1):.2f}" if words else "-"
        remarks = [] if row["diagonal"] else ["not diagonal"]
        remarks += ["truncated"] * row["truncated"] + row["loop_signs"]
        lines.append(
            f"{name:<{width}}{row['speech']['mcd_db']:6.2f}{row['reconstruction']['mcd_db']:7.2f}"
            f"{row['mcd_ratio']:7.2f}{'-' if own is None else 'yes' if own else 'no':>6}"
            f"{row['duration_ratio']:10.2f}{row['teacher_forced']['accuracy']:10.2f}{error:>12}"
            f"  {', '.join(remarks) or 'in order'}"
        )
    return lines


def _line(words, *cells):
    return (f"{words:<72}" + "".join(f"{cell:>11}" for cell in cells)).rstrip()


def _cell(name, value):
    return f"{100 * value:.1f} %" if name in _SHARES else f"{value:.3f}"


def _collect(rows, kind, name):
    return [row[kind][name] for row in rows if name in row[kind]]


def _mean(values):
    values = [float(value) for value in values]
    return sum(values) / len(values) if values else None


def _mean_over_codes(forced, name):
    if name not in forced[0]:
        return None
    # All codes and the end; the end has no pitch.
    weights = [row["codes"] - name.startswith("pitch_") for row in forced]
    total = sum(weight * row[name] for weight, row in zip(weights, forced, strict=True))
    return total / sum(weights)


def _error_rates(rows, kind):
    counts = [row["words"][kind] for row in rows if kind in row.get("words", {})]
    rates = error_rates(
        ErrorCounts(**{field: count[field] for field in ErrorCounts._fields}) for count in counts
    )
    return {name: rates[name] for name in ("word_error", "character_error") if name in rates}
