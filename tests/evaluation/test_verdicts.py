import io
import re

from waveglow_vq.evaluation.verdicts import (
    BOUNDS,
    code_verdict,
    conversion_verdict,
    likelihood_verdict,
    print_report,
    score_verdict,
    speech_verdict,
)

import pytest


@pytest.mark.parametrize(
    ("share", "nats", "verdict"),
    [
        (BOUNDS.share_positive, BOUNDS.nats, "=> the model uses the speaker$"),
        (1.0, BOUNDS.nats - 0.01, "uses the speaker little"),
        (BOUNDS.share_positive - 0.1, 1.0, "ignores the speaker: .* only 80 % of the utterances"),
    ],
)
def test_likelihoods(share, nats, verdict):
    found = likelihood_verdict({"share_positive": share, "mean_difference": nats})
    assert re.search(verdict, found)


def test_codes():
    def verdict(used, accuracy=None):
        probe = accuracy and {"accuracy": accuracy, "majority": 0.25}
        bits = {"codes_used": used}
        return code_verdict({"bits_per_second": bits, "codebook_size": 64, "probe_codes": probe})

    assert verdict(16) == "  => the codes are in use"
    assert verdict(8).startswith("  => most codes are unused: 88 % never occur")
    assert verdict(16, 0.35).endswith("little about the speaker")
    assert verdict(16, 0.36).endswith("still reveal the speaker")


def group(nearer=None, moved=None, **words):
    found = {"words": {kind: {"word_error": error} for kind, error in words.items()}}
    if nearer is not None:
        found["similarity"] = {"share_nearer_to_target": nearer}
    return found | ({} if moved is None else {"f0_moved": {"median": moved}})


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (group(0.95, 0.8, recordings=0.25, reconstructions=0.375, conversions=0.45), "works"),
        (
            group(0.94, 0.8),
            "works in part: 94 % are nearer to the target's voice (goal: 95 %) "
            "(words were not judged)",
        ),
        (
            group(0.5, 0.1, recordings=0.2, reconstructions=0.5, conversions=0.75),
            "does not work yet: 50 % are nearer to the target's voice (goal: 95 %); "
            "pitch moves 10 % of the way to the target (goal: 80 %); "
            "reconstructions lose words: their WER is 0.30 above that of recordings; "
            "conversions lose words: their WER is 0.25 above that of reconstructions",
        ),
    ],
)
def test_conversions(found, verdict):
    assert conversion_verdict(found) == f"  => conversion {verdict}"


def test_without_judges_nothing_is_claimed():
    said = conversion_verdict(group())
    assert said == "  => no verdict (voices were not compared, words were not judged)"


def test_speech():
    good = {"diagonal": 0.9, "mcd_ratio": 1.2, "duration_deviation": 0.2, "looping": 0.1}
    assert speech_verdict(good).startswith("  => it reads in order")
    for name, value, said in (
        ("diagonal", 0.5, "50 % are read in order (goal: 90 %)"),
        ("nearer_to_own", 0.5, "50 % are nearer to their own recording"),
        ("stopped", 0.5, "50 % are ended by themselves"),
        ("truncated", 0.2, "20 % cut short"),
        ("looping", 0.2, "20 % repeat themselves"),
        ("mcd_ratio", 1.25, "is 1.25 times that"),
        ("duration_deviation", 0.3, "durations are off by 30 %"),
    ):
        verdict = speech_verdict(good | {name: value})
        assert verdict.startswith("  => reading does not work yet: ") and said in verdict


def test_scores():
    for error, said in ((0.35, "that of good vocoders"), (0.85, "audibly"), (0.86, "fails")):
        assert said in score_verdict(error)


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", "a v b ^\n"), ("utf-8", "a ↓ b ↑\n")])
def test_arrows_are_printed_everywhere(monkeypatch, encoding, printed):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    print_report("a ↓ b ↑")
    stream.flush()
    assert stream.buffer.getvalue().decode("utf-8") == printed
