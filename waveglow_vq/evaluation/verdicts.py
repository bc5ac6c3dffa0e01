"""Verdicts on the figures of the reports, a sentence each, and the bounds that decide them."""

import sys
from typing import NamedTuple

LOWER, HIGHER = "↓", "↑"
LEGEND = f"{HIGHER} higher is better, {LOWER} lower is better"


class Bounds(NamedTuple):
    """Bounds of good figures, measured on models of this package and on published ones.

    Arguments
    ---------
    share_positive, nats : float
        Of the likelihoods under wrong speakers. Models that converted 97 % or more of the pairs
        were surer of the right speaker by 0.28 nats per sample or more, those that converted 69 to
        79 % by 0.05 to 0.17. By chance, the right speaker is the likelier one in half.
    codes_used : float
        Share of the codebook in use: healthy quantizers use most of it, a collapsed one keeps a few
        codes.
    probe_margin : float
        By how much a probe that names the speaker from codes may be better than always naming the
        most frequent one: some two standard errors for a hundred utterances.
    nearer, nearer_partly : float
        Share of conversions that are nearer to the target. Models that did not convert had 69 to
        79 %, since noise is near to nobody's voice; 95 % is the aim of the recipes.
    f0_moved : float
        How far pitch moves to the target's, on the median; the aim of the recipes. Models that
        convert reached 92 to 96 %.
    words_lost, more_words_lost : float
        Word error that coding may add to the recordings', and conversion to the reconstructions':
        the aims of the recipes. On 150 words it is uncertain by 0.04.
    mcd_ratio : float
        Distance of speech from text to its recording, over that of the codec's reconstruction.
        Models that read in order reached 0.99 to 1.14, one that lost its place 1.35.
    in_order : float
        Share of sentences that are read in order and to their end, or are nearer to their own
        recording than to others. Models that read had 98 % or more, one that lost its place 12 %.
    duration_deviation : float
        What durations may be off by on the mean: models that read were off by 3 to 6 %. A fifth is
        three times that, and heard as another tempo.
    log_mel_near, log_mel_far : float
        Log-mel L1 of published vocoders on LJSpeech goes from 0.20 (HiFi-GAN) over 0.29 (WaveGlow)
        and 0.36 (Parallel WaveGAN) to 0.85 (the smallest SqueezeWave).
    """

    share_positive: float = 0.9
    nats: float = 0.2
    codes_used: float = 0.25
    probe_margin: float = 0.1
    nearer: float = 0.95
    nearer_partly: float = 0.8
    f0_moved: float = 0.8
    words_lost: float = 0.2
    more_words_lost: float = 0.1
    mcd_ratio: float = 1.2
    in_order: float = 0.9
    duration_deviation: float = 0.2
    log_mel_near: float = 0.35
    log_mel_far: float = 0.85


BOUNDS = Bounds()


def likelihood_verdict(found):
    """Whether the model uses the speaker, by ``likelihoods`` of the conversion diagnostics."""
    share, nats = found["share_positive"], found["mean_difference"]
    if share < BOUNDS.share_positive:
        return _verdict(
            "the model ignores the speaker: the right speaker is more likely in only "
            f"{_percent(share)} of the utterances"
        )
    if nats < BOUNDS.nats:
        return _verdict(
            f"the model uses the speaker little: by less than {BOUNDS.nats} nats a sample"
        )
    return _verdict("the model uses the speaker")


def code_verdict(found):
    """Whether the codes are in use, and whether they reveal the speaker, by ``codes`` of the
    conversion diagnostics."""
    used = found["bits_per_second"]["codes_used"] / found["codebook_size"]
    used /= found.get("codebooks", 1)
    said = "the codes are in use"
    if used < BOUNDS.codes_used:
        said = f"most codes are unused: {_percent(1 - used)} never occur"
    probe = found["probe_codes"]
    if not probe:
        return _verdict(said)
    leaks = probe["accuracy"] > probe["majority"] + BOUNDS.probe_margin
    more = "they still reveal the speaker" if leaks else "they reveal little about the speaker"
    return _verdict(f"{said}; {more}")


def conversion_verdict(found):
    """Whether conversions convert, and what is missing, by a group of ``conversion`` of the
    diagnostics."""
    lacks, unknown = [], []
    nearer = (found.get("similarity") or {}).get("share_nearer_to_target")
    if nearer is None:
        unknown.append("voices were not compared")
    elif nearer < BOUNDS.nearer:
        lacks.append(f"{_percent(nearer)} are nearer to the target's voice {_aim(BOUNDS.nearer)}")
    moved = (found.get("f0_moved") or {}).get("median")
    if moved is not None and moved < BOUNDS.f0_moved:
        lacks.append(
            f"pitch moves {_percent(moved)} of the way to the target {_aim(BOUNDS.f0_moved)}"
        )
    words = {kind: rates["word_error"] for kind, rates in (found.get("words") or {}).items()}
    if "conversions" not in words:
        unknown.append("words were not judged")
    for one, other, bound in (
        ("reconstructions", "recordings", BOUNDS.words_lost),
        ("conversions", "reconstructions", BOUNDS.more_words_lost),
    ):
        if one in words and other in words and words[one] - words[other] > bound:
            lost = words[one] - words[other]
            lacks.append(f"{one} lose words: their WER is {lost:.2f} above that of {other}")
    beside = f" ({', '.join(unknown)})" if unknown else ""
    if not lacks:
        works = "conversion works" if nearer is not None else "no verdict"
        return _verdict(f"{works}{beside}")
    partly = nearer is None or nearer >= BOUNDS.nearer_partly
    begin = "conversion works in part" if partly else "conversion does not work yet"
    return _verdict(f"{begin}: {'; '.join(lacks)}{beside}")


def speech_verdict(summary):
    """Whether a model reads, and what is missing, by ``summary`` of the judgement of speech."""
    lacks = []
    for name, words in (
        ("diagonal", "read in order"),
        ("nearer_to_own", "nearer to their own recording than to others"),
        ("stopped", "ended by themselves"),
    ):
        if summary.get(name, 1.0) < BOUNDS.in_order:
            lacks.append(f"{_percent(summary[name])} are {words} {_aim(BOUNDS.in_order)}")
    for name, words in (("truncated", "cut short"), ("looping", "repeat themselves")):
        if summary.get(name, 0.0) > round(1 - BOUNDS.in_order, 6):
            lacks.append(f"{_percent(summary[name])} {words}")
    ratio = summary.get("mcd_ratio", 1.0)
    if ratio > BOUNDS.mcd_ratio:
        lacks.append(
            f"MCD to the recording is {ratio:.2f} times that of the codec's reconstruction"
        )
    if summary.get("duration_deviation", 0.0) > BOUNDS.duration_deviation:
        lacks.append(f"durations are off by {_percent(summary['duration_deviation'])}")
    if lacks:
        return _verdict(f"reading does not work yet: {'; '.join(lacks)}")
    return _verdict("it reads in order, and is as close to the recordings as its codec allows")


def score_verdict(log_mel_l1):
    """How near reconstructions are, by their mean log-mel L1 (`Bounds`)."""
    if log_mel_l1 <= BOUNDS.log_mel_near:
        return _verdict("log-mel L1 is that of good vocoders; it does not measure naturalness")
    if log_mel_l1 <= BOUNDS.log_mel_far:
        return _verdict(
            "audibly different from the recordings: good vocoders have a log-mel L1 of 0.20 to 0.35"
        )
    return _verdict(
        "reconstruction fails, or the files are misaligned (try --align) or differ in level (try"
        " --level_match)"
    )


def print_report(text):
    """Prints a report, its arrows as ``^`` and ``v`` where the terminal has no others.

    Example
    -------
    >>> print_report("MCD [dB] ↓")
    MCD [dB] ↓
    """
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = text.replace(HIGHER, "^").replace(LOWER, "v")
    print(text)


def _verdict(words):
    return f"  => {words}"


def _aim(bound):
    return f"(goal: {_percent(bound)})"


def _percent(share):
    return f"{100 * share:.0f} %"
