"""Summaries of the matrix of conversions."""

from waveglow_vq.evaluation.conversion.matrix import MIN_SEMITONES
from waveglow_vq.evaluation.words.relative_errors import RATES, relative_errors

import torch

# How far from the recordings' share of voiced frames conversions may be.
VOICED_WITHIN = 0.1


def summarize(conversions, originals):
    """Means over the conversions of a matrix: ``all``, of speakers trained on (``seen``), and of
    others (``unseen``). A group without conversions is left out, and so is what was not judged."""
    groups = {"all": (True, False), "seen": (True,), "unseen": (False,)}
    summary = {}
    for name, kinds in groups.items():
        chosen = [row for row in conversions if row["seen"] in kinds]
        if chosen:
            summary[name] = _summary(chosen, [row for row in originals if row["seen"] in kinds])
    return summary


def _summary(conversions, originals):
    pairs = {}
    for row in conversions:
        pairs.setdefault((row["speaker"], row["target"]), []).append(row)
    result = {
        "conversions": len(conversions),
        "utterances": len(originals),
        "speaker_pairs": len(pairs),
        "mcd_to_reconstruction_db": _mean(conversions, "mcd"),
        "mcd_to_recording_db": _mean(conversions, "mcd_to_recording"),
        "reconstruction_mcd_db": _mean(originals, "reconstruction_mcd"),
        "no_model_mcd_db": _mean(originals, "no_model_mcd"),
    }
    content = {
        "no_model": _mean(originals, "no_model_content"),
        "reconstructions": _mean(originals, "reconstruction_content"),
        "conversions": _mean(conversions, "content"),
    }
    if any(distance is not None for distance in content.values()):
        result["content"] = content
    if conversions[0]["to_target"] is not None:
        nearer = [row["to_target"] > row["to_source"] for row in conversions]
        pairs_nearer = [
            _mean(rows, "to_target") > _mean(rows, "to_source") for rows in pairs.values()
        ]
        result["similarity"] = {
            "to_target": _mean(conversions, "to_target"),
            "to_source": _mean(conversions, "to_source"),
            "share_nearer_to_target": sum(nearer) / len(nearer),
            "share_of_pairs_nearer_to_target": sum(pairs_nearer) / len(pairs_nearer),
            "recording_to_target": _mean(conversions, "before"),
            "recording_to_source": _mean(originals, "recording_to_source"),
            "reconstruction_to_source": _mean(originals, "reconstruction_to_source"),
        }
    moved = torch.tensor([r["f0_moved"] for r in conversions if r["f0_moved"] is not None])
    if len(moved):
        low, median, high = moved.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        result["f0_moved"] = {
            "median": median,
            "quartiles": [low, high],
            "conversions": len(moved),
            "min_semitones": MIN_SEMITONES,
        }
    voiced = {
        pair: _mean(rows, "voiced") / recorded
        for pair, rows in pairs.items()
        if (recorded := _mean(rows, "source_voiced"))
    }
    if voiced:
        least = min(voiced, key=voiced.get)
        within = [abs(ratio - 1) <= VOICED_WITHIN for ratio in voiced.values()]
        result["voiced"] = {
            "recordings": _mean(originals, "recording_voiced"),
            "reconstructions": _mean(originals, "reconstruction_voiced"),
            "conversions": _mean(conversions, "voiced"),
            "share_of_pairs_within_a_tenth": sum(within) / len(within),
            "least_voiced_pair": list(least),
            "least_over_recordings": voiced[least],
        }
    words = {
        "recordings": _counts(originals, "recording_errors"),
        "no_model": _counts(originals, "no_model_errors"),
        "reconstructions": _counts(originals, "reconstruction_errors"),
        "conversions": _counts(conversions, "errors"),
    }
    words = relative_errors(words, "no_model")
    if all(words.values()):
        for rate in RATES:
            difference = words["conversions"][rate] - words["reconstructions"][rate]
            words["conversions"][f"{rate}_above_reconstructions"] = difference
        result["words"] = words
    return result


def similarity_by_pair(conversions):
    """Mean cosine to the target for each source speaker and target.

    Returns ``sources`` (speakers trained on first), ``unseen`` (those that were not), ``targets``,
    and ``values``, rows of sources and columns of targets; None where both are one.
    """
    seen = {row["speaker"]: row["seen"] for row in conversions}
    sources = sorted(seen, key=lambda speaker: (not seen[speaker], speaker))
    targets = sorted({row["target"] for row in conversions})
    cells = {}
    for row in conversions:
        cells.setdefault((row["speaker"], row["target"]), []).append(row)
    return {
        "sources": sources,
        "unseen": [speaker for speaker in sources if not seen[speaker]],
        "targets": targets,
        "values": [
            [_mean(cells[s, t], "to_target") if (s, t) in cells else None for t in targets]
            for s in sources
        ],
    }


def _counts(rows, key):
    return [row[key] for row in rows if row[key] is not None]


def _mean(rows, key):
    values = _counts(rows, key)
    return sum(values) / len(values) if values else None
