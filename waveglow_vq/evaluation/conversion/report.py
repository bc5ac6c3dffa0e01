"""The conversion diagnostics as a table to read."""

from waveglow_vq.evaluation.verdicts import (
    HIGHER,
    LEGEND,
    LOWER,
    code_verdict,
    conversion_verdict,
    likelihood_verdict,
)
from waveglow_vq.evaluation.words.recognizers import DEFAULT
from waveglow_vq.evaluation.words.relative_errors import RATES

NO_MODEL = "log-mels decoded without a model"
GROUPS = ("all", "seen", "unseen")


def format_report(results):
    """Lays out the results of
    :func:`~waveglow_vq.evaluation.conversion.diagnosis.diagnose_conversion`; what is missing in
    them is left out.

    Example
    -------
    >>> print(format_report({"likelihoods": {"mean_difference": 0.05, "share_positive": 1.0,
    ...     "share_best": 0.5, "utterances": 4, "wrong_speakers": 3, "differences": {}}}))
    Does the model use the speaker? (4 held-out utterances, 3 wrong speakers each)
      NLL with a wrong speaker minus NLL with the right one, nats per sample ↑     0.0500
      utterances for which that is positive ↑                                      100.0 %
      utterances for which the right speaker is the best ↑                          50.0 %
      => the model uses the speaker little: by less than 0.2 nats a sample
    <BLANKLINE>
    ↑ higher is better, ↓ lower is better
    """
    sections = [
        _likelihoods(results.get("likelihoods")),
        _codes(results.get("codes")),
        _conversion(results.get("conversion"), results.get("settings", {}).get("recognizer")),
    ]
    if any(sections):
        sections.append([LEGEND])
    sections.append(list(results.get("notes", [])))
    return "\n\n".join("\n".join(section) for section in sections if section)


def _line(words, *cells):
    return f"  {words:<72}" + "".join(f"{cell:>11}" for cell in cells).rstrip()


def _likelihoods(found):
    if not found:
        return []
    return [
        f"Does the model use the speaker? ({found['utterances']} held-out utterances, "
        f"{found['wrong_speakers']} wrong speakers each)",
        _line(
            f"NLL with a wrong speaker minus NLL with the right one, nats per sample {HIGHER}",
            f"{found['mean_difference']:.4f}",
        ),
        _line(f"utterances for which that is positive {HIGHER}", _percent(found["share_positive"])),
        _line(
            f"utterances for which the right speaker is the best {HIGHER}",
            _percent(found["share_best"]),
        ),
        likelihood_verdict(found),
    ]


def _codes(found):
    if not found:
        return []
    bits = found["bits_per_second"]
    lines = [
        f"What do the codes say? ({found['codes_per_second']:.1f} codes per second, "
        f"{bits['codes_used']} of {found['codebook_size'] * found.get('codebooks', 1)} used, "
        f"perplexity {bits['perplexity']:.0f})",
        _line("bit/s if all codes cost the same", f"{bits['uniform']:.0f}"),
        _line("bit/s by how often they are used", f"{bits['unigram']:.0f}"),
    ]
    if "first_order" in bits:
        words = "bit/s by the code before as well (coded, so at most)"
        lines.append(_line(words, f"{bits['first_order']:.0f}"))
    if bits["pitch"]:
        lines.append(_line("bit/s of pitch beside the codes", f"{bits['pitch']:.0f}"))
    told = found["mutual_information"]
    if told:
        words = f"bits about the speaker in one code, bias removed {LOWER}"
        lines.append(_line(words, f"{told['bits']:.3f}"))
        words = f"the same, as a share of all that could be said {LOWER}"
        lines.append(_line(words, _percent(told["share"])))
    probes = {
        "mean encoder output": found["probe_encoder"],
        "mean code vector": found["probe_codes"],
        "code frequencies": found["probe_histograms"],
    }
    for words, probe in probes.items():
        if probe:
            lines.append(
                _line(
                    f"speaker named by a linear probe on {words} {LOWER}",
                    _percent(probe["accuracy"]),
                )
            )
    probe = found["probe_encoder"]
    if probe:
        words = f"  by always naming the most frequent of {probe['speakers']} speakers"
        lines.append(_line(words, _percent(probe["majority"])))
    return [*lines, code_verdict(found)]


def _conversion(found, recognizer=None):
    if not found:
        return []
    groups = [name for name in GROUPS if name in found]
    # What one group alone would say twice.
    if len(groups) == 2:
        groups = groups[1:]
    columns = [found[name] for name in groups]
    lines = [
        "Do conversions convert?",
        _line("sources: speakers trained on (seen), or not (unseen)", *groups),
    ]

    def row(words, form, *keys):
        cells = [_look_up(column, keys) for column in columns]
        if any(cell is not None for cell in cells):
            lines.append(_line(words, *("-" if c is None else form(c) for c in cells)))

    row("conversions", str, "conversions")
    row("pairs of source speaker and target", str, "speaker_pairs")
    row(f"conversions nearer to the target's voice than to the source's {HIGHER}", _percent,
        "similarity", "share_nearer_to_target")  # fmt: skip
    row(f"pairs for which that is so on the mean {HIGHER}", _percent,
        "similarity", "share_of_pairs_nearer_to_target")  # fmt: skip
    row(f"cosine of conversions to the target {HIGHER}", _three, "similarity", "to_target")
    row(f"cosine of conversions to the source {LOWER}", _three, "similarity", "to_source")
    row("cosine of the recordings to the target", _three, "similarity", "recording_to_target")
    row("cosine of the recordings to their own speaker", _three,
        "similarity", "recording_to_source")  # fmt: skip
    row(f"cosine of same-speaker reconstructions to that speaker {HIGHER}", _three,
        "similarity", "reconstruction_to_source")  # fmt: skip
    row(
        f"F0 moved towards the target (1: all the way), median {HIGHER}",
        _three,
        "f0_moved",
        "median",
    )
    for key in ("recordings", "reconstructions", "conversions"):
        row(f"voiced frames of {key}", _percent, "voiced", key)
    row(f"pairs voiced within 10 % of the recordings' share {HIGHER}", _percent,
        "voiced", "share_of_pairs_within_a_tenth")  # fmt: skip
    row(f"voiced frames of the least voiced pair, over the recordings' {HIGHER}", _three,
        "voiced", "least_over_recordings")  # fmt: skip
    row(f"DTW-MCD of conversions to the source's reconstruction, dB {LOWER}", _three,
        "mcd_to_reconstruction_db")  # fmt: skip
    for key, name in (
        ("conversions", "mcd_to_recording_db"),
        ("reconstructions", "reconstruction_mcd_db"),
        (NO_MODEL, "no_model_mcd_db"),
    ):
        row(f"DTW-MCD of {key} to the recording, dB {LOWER}", _three, name)
    for key in ("conversions", "reconstructions", "no_model"):
        words = NO_MODEL if key == "no_model" else key
        row(f"distance of content of {words} to the recording {LOWER}", _three, "content", key)
    if any("words" in column for column in columns):
        lines.append(_line(f"words, as understood by {recognizer or DEFAULT}:"))
    for rate in RATES:
        name = rate.replace("_", " ")
        row(f"{name} of recordings {LOWER}", _three, "words", "recordings", rate)
        row(f"{name} of {NO_MODEL} {LOWER}", _three, "words", "no_model", rate)
        for key, below in (("reconstructions", "recordings"), ("conversions", "reconstructions")):
            row(f"{name} of {key} {LOWER}", _three, "words", key, rate)
            row(f"  above that of {below}", _signed, "words", key, f"{rate}_above_{below}")
            row(f"  above that of {NO_MODEL}", _signed, "words", key, f"{rate}_above_no_model")
    return [*lines, conversion_verdict(columns[0])]


def _look_up(value, keys):
    for key in keys:
        if value is None:
            return None
        value = value.get(key)
    return value


def _three(value):
    return f"{round(value, 3) + 0.0:.3f}"  # without the sign of a negative zero


def _signed(value):
    return f"{round(value, 3) + 0.0:+.3f}"


def _percent(share):
    return f"{100 * share:.1f} %"
