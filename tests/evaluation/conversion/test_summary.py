from waveglow_vq.evaluation.conversion.summary import similarity_by_pair, summarize

import pytest


def rows(similarities):
    """One conversion each: (speaker, target, seen, to_target, to_source)."""
    return [
        {
            "speaker": speaker, "target": target, "seen": seen, "utterance": f"{speaker}{number}",
            "to_target": to_target, "to_source": to_source, "before": 0.1, "f0_moved": None,
            "mcd": 2.0, "errors": None,
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
    assert "unseen" not in summarize(conversions[:4], [])
