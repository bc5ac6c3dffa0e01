"""How well a SpeakerEmbedding tells voices that it has not heard in training."""

from typing import NamedTuple

from waveglow_vq.audio.io import read_for_model

import torch

# What is compared: so many parts of each speaker at most, and each so long.
PARTS, PART_SECONDS = 20, 3


class Part(NamedTuple):
    """Samples [N] of a recording, and whose they are."""

    speaker: str
    recording: str
    wav: torch.Tensor


def trial_parts(utterances, sample_rate):
    """Parts of recordings with ``speaker`` and ``path``, of the speakers' recordings in turn."""
    cut, size = {}, PART_SECONDS * sample_rate
    for utterance in utterances:
        wav = read_for_model(utterance.path, sample_rate)
        pieces = wav.split(size)[: max(1, len(wav) // size)]
        for turn, piece in enumerate(pieces):
            part = Part(utterance.speaker, str(utterance.path), piece)
            cut.setdefault(utterance.speaker, []).append((turn, part))
    in_turn = [sorted(parts, key=lambda pair: pair[0])[:PARTS] for parts in cut.values()]
    return [part for parts in in_turn for _, part in parts]


@torch.no_grad()
def embedded(embedding, parts, features):
    """Vectors ``[parts, dimension]`` of Parts."""
    return torch.cat([embedding(features(part.wav[None])) for part in parts])


def speaker_scores(vectors, parts):
    """The equal error rate of unit vectors ``[parts, dimension]``, and the mean cosine of parts of
    one speaker and of two. Two parts of one recording are not compared; None if nothing is left."""
    speaker, recording = (
        _numbers([p.speaker for p in parts]),
        _numbers([p.recording for p in parts]),
    )
    first, second = torch.triu_indices(len(parts), len(parts), 1)
    cosines = (vectors @ vectors.T)[first, second]
    one = speaker[first] == speaker[second]
    same, different = cosines[one & (recording[first] != recording[second])], cosines[~one]
    if not len(same) or not len(different):
        return None
    rate = equal_error_rate(same, different)
    means = {"cosine_of_one": float(same.mean()), "cosine_of_two": float(different.mean())}
    return {"equal_error_rate": rate, **means}


def equal_error_rate(same, different):
    """The share of errors at the threshold where as many pairs of one speaker are rejected as pairs
    of two are accepted; scores ``[pairs]`` of both.

    Example
    -------
    >>> same, different = torch.tensor([0.9, 0.8, 0.4]), torch.tensor([0.1, 0.2, 0.5])
    >>> round(equal_error_rate(same, different), 3)
    0.333
    """
    thresholds = torch.cat([same, different]).sort().values
    rejected = torch.searchsorted(same.sort().values, thresholds) / len(same)
    accepted = 1 - torch.searchsorted(different.sort().values, thresholds) / len(different)
    nearest = (rejected - accepted).abs().argmin()
    return float((rejected + accepted)[nearest] / 2)


def _numbers(names):
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([known[name] for name in names])
