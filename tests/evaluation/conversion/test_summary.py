from waveglow_vq.evaluation.conversion.summary import similarity_by_pair, summarize

import pytest

KEYS = (
    "reconstruction_mcd", "recording_to_source", "reconstruction_to_source", "recording_errors",
    "reconstruction_errors", "reconstruction_content", "no_model_mcd", "no_model_content",
    "no_model_errors",
)  # fmt: skip


def rows(similarities):
    """One conversion each: (speaker, target, seen, to_target, to_source)."""
    return [
        {
            "speaker": speaker, "target": target, "seen": seen, "utterance": f"{speaker}{number}",
            "to_target": to_target, "to_source": to_source, "before": 0.1, "f0_moved": None,
            "voiced": 0.0, "source_voiced": 0.0, "mcd": 2.0, "errors": None,
            "mcd_to_recording": 3.0, "content": None,
        }
        for number, (speaker, target, seen, to_target, to_source) in enumerate(similarities)
    ]  # fmt: skip


def test_pairs_are_means_of_their_conversions():
    conversions = rows(
        [
            ("a", "b", True, 0.9, 0.2),
            ("a", "b", True, 0.5, 0.6),
            ("a", "c", True, 0.4, 0.7),
            ("a", "c", True, 0.6, 0.55),
            ("x", "b", False, 0.8, 0.3),
        ]
    )
    summary = summarize(conversions, [])
    similarity = summary["all"]["similarity"]
    assert similarity["share_nearer_to_target"] == 0.6
    assert similarity["share_of_pairs_nearer_to_target"] == pytest.approx(2 / 3)
    assert similarity["to_target"] == pytest.approx(0.64)
    assert summary["unseen"]["similarity"]["share_nearer_to_target"] == 1.0
    assert summary["seen"]["speaker_pairs"] == 2 and "f0_moved" not in summary["seen"]
    assert similarity_by_pair(conversions) == {
        "sources": ["a", "x"],
        "unseen": ["x"],
        "targets": ["b", "c"],
        "values": [[pytest.approx(0.7), pytest.approx(0.5)], [0.8, None]],
    }
    assert summary["all"]["mcd_to_recording_db"] == 3.0 and "content" not in summary["all"]
    assert "unseen" not in summarize(conversions[:4], [])
    # No recording has a voice that could be lost.
    assert "voiced" not in summary["all"]


def test_voiced_frames_of_pairs_beside_their_recordings():
    conversions = rows([("a", b, True, 0.9, 0.2) for b in "bbcd"] + [("x", "b", False, 0.9, 0.2)])
    # Of a and b together 93 %, of the others 89, 111 and 109.5 %.
    shares = [(0.6, 0.7), (0.75, 0.75), (0.445, 0.5), (0.555, 0.5), (0.438, 0.4)]
    for row, (voiced, recorded) in zip(conversions, shares, strict=True):
        row.update(voiced=voiced, source_voiced=recorded)
    originals = [
        {"seen": True, "recording_voiced": 0.7, "reconstruction_voiced": 0.6},
        {"seen": False, "recording_voiced": 0.4, "reconstruction_voiced": 0.4},
    ]
    originals = [row | dict.fromkeys(KEYS) for row in originals]
    assert summarize(conversions, originals)["all"]["voiced"] == {
        "recordings": pytest.approx(0.55), "reconstructions": pytest.approx(0.5),
        "conversions": pytest.approx(0.5576), "share_of_pairs_within_a_tenth": 0.5,
        "least_voiced_pair": ["a", "c"], "least_over_recordings": pytest.approx(0.89),
    }  # fmt: skip
