"""What a run says of itself: means over an epoch, samples, pictures, scores.

Authors
 * The waveglow-vq developers, 2026
"""

import json
import math
import time
from pathlib import Path

from waveglow_vq.data.audio import write_wav
from waveglow_vq.evaluation.plots import spectrogram_comparison
from waveglow_vq.evaluation.score import score_pair
from waveglow_vq.lobes.quantizer_statistics import all_reduce_sum

import torch

# Utterances shorter than this are not scored: the measures of pitch need some periods.
MIN_SCORED_SAMPLES = 2048


class EpochMeans:
    """Weighted means of named terms, without waiting for the device before the end.

    Example
    -------
    >>> import torch
    >>> means = EpochMeans()
    >>> means.add({"nll": torch.tensor(1.0)}, weight=1)
    >>> means.add({"nll": torch.tensor(4.0)}, weight=2)
    >>> means.summary()
    {'nll': 3.0}
    """

    def __init__(self):
        self.sums = {}
        self.weight = 0.0

    def add(self, terms, weight):
        """Adds scalars (tensors) that stand for ``weight`` segments or samples."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().double() * weight
        self.weight += weight

    def summary(self):
        """Plain floats, over all processes: every one has to call it. Nothing was added: {}."""
        if not self.sums:
            return {}
        device = next(iter(self.sums.values())).device
        values = list(self.sums.values()) + [torch.as_tensor(self.weight, device=device)]
        totals = all_reduce_sum(torch.stack([value.double() for value in values])).tolist()
        return {
            name: total / totals[-1] for name, total in zip(self.sums, totals[:-1], strict=True)
        }


def reconstruct(model, wav, mel, sigma=1.0, seed=0, who=None):
    """Sends one utterance through the model and back.

    Arguments
    ---------
    model : WaveGlowVQ
        In eval mode.
    wav : torch.Tensor
        ``[samples]``, whole hops.
    mel : torch.Tensor
        Log-mel ``[frames, n_mels]``.
    sigma : float
        Sampling temperature.
    seed : int
        Of the noise.
    who : dict
        ``speaker``, ``pitch``, ``f0_statistics`` and ``reference`` of the utterance as for the
        model's ``forward``, each with a batch dimension, where the model uses them.

    Returns
    -------
    wav : torch.Tensor
        ``[samples]`` on the CPU.
    seconds : float
        How long it took.
    """
    begin = time.perf_counter()
    who = dict(who or {})
    pitch = who.pop("pitch", None)
    with torch.inference_mode():
        by_wave = model.conditioner.input == "wav"
        vectors, statistics = model.global_condition(**who) if who else (None, None)
        features = wav[None] if by_wave else mel.T[None]
        condition = model.condition(features, None, vectors, pitch, statistics)
        output = model.sample(condition, speaker=vectors, sigma=sigma, generator=seed)
        output = output[0, : len(wav)].float().cpu()
    return output, time.perf_counter() - begin


def write_samples(folder, utterances, model, features, sigma=1.0, scores=True):
    """Reconstructs utterances; writes them, the recordings and a picture of both.

    Arguments
    ---------
    folder : str or Path
        Where ``<id>.wav``, ``<id>_recording.wav`` and ``<id>.png`` go.
    utterances : list of tuple
        ``(id, wav, mel, who)`` as for :func:`reconstruct`.
    model, sigma
        As for :func:`reconstruct`.
    features : LogMel
        The feature contract.
    scores : bool
        Whether to score them too.

    Returns
    -------
    results : dict
        Plain floats: means of the measures of
        :func:`~waveglow_vq.evaluation.score.score_pair`, and ``real_time_factor``, seconds of
        computing per second of sound.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    seconds, samples, scored = 0.0, 0, []
    for name, wav, mel, who in utterances:
        output, spent = reconstruct(model, wav, mel, sigma, who=who)
        seconds, samples = seconds + spent, samples + len(wav)
        wav = wav.cpu()
        write_wav(folder / f"{name}.wav", output, features.sample_rate)
        write_wav(folder / f"{name}_recording.wav", wav, features.sample_rate)
        pair = {"recording": wav, "reconstruction": output}
        spectrogram_comparison(folder / f"{name}.png", pair, features, title=name)
        if scores and len(wav) >= MIN_SCORED_SAMPLES:
            scored.append(score_pair(wav, output, features.sample_rate, features=features))
    results = {"real_time_factor": seconds * features.sample_rate / samples} if samples else {}
    for measure in scored[0] if scored else ():
        known = [s[measure] for s in scored if s[measure] is not None]
        known = [float(value) for value in known if math.isfinite(value)]
        if known and measure not in ("gain", "delay_samples", "length_difference_samples"):
            results[measure] = sum(known) / len(known)
    return results


def write_json(path, results):
    """Writes plain results, readable by people."""
    Path(path).write_text(json.dumps(results, indent=2) + "\n", "utf-8")
