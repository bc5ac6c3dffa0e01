"""Reports of a run: means over an epoch, samples, pictures, scores."""

import copy
import math
import re
import time
from pathlib import Path

from waveglow_vq.audio.io import write_wav
from waveglow_vq.evaluation.baselines import ITERATIONS
from waveglow_vq.evaluation.plots import spectrogram_comparison
from waveglow_vq.evaluation.score import score_baselines, score_pair
from waveglow_vq.evaluation.sound_quality import installed, measures_of
from waveglow_vq.inference.streaming.refining import refined
from waveglow_vq.utils.devices import exact
from waveglow_vq.utils.distributed import all_gather_object
from waveglow_vq.utils.files import atomic_write

import torch

# Shorter utterances are not scored: the measures of pitch need some periods.
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
        self.weight = 0  # with 0.0, whole numbers of a device would become fp32

    def add(self, terms, weight):
        """Adds scalar tensors that stand for ``weight`` segments, samples or codes."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + exact(value.detach()) * weight
        self.weight += weight

    def summary(self):
        """Means over all processes as floats, {} if nothing was added. Every process has to call
        it."""
        own = {name: float(value) for name, value in self.sums.items()}, float(self.weight)
        parts = [part for part in all_gather_object(own) if part[1] > 0]
        total = sum(weight for _, weight in parts)
        names = parts[0][0] if parts else {}
        return {name: sum(sums[name] for sums, _ in parts) / total for name in names}


def reconstruct(model, wav, mel, sigma=1.0, seed=0, who=None, features=None, refine=0):
    """Reconstructs an utterance from ``wav`` ``[samples]``, whole hops, and log-mel ``[frames,
    n_mels]``.

    The model is in eval mode; ``seed`` is that of the noise. ``who`` holds ``speaker``, ``pitch``,
    ``f0_statistics`` and ``reference`` of the utterance as for the model's ``forward``, each with a
    batch dimension, where the model uses them. ``refine`` is how many mel-consistent iterations
    there are behind the flows, which take ``features`` on the model's device. Returns the waveform
    ``[samples]`` on the CPU, and the seconds of computing.
    """
    begin = time.perf_counter()
    who = dict(who or {})
    pitch = who.pop("pitch", None)
    with torch.inference_mode():
        vectors, statistics = model.global_condition(**who) if who else (None, None)
        inputs = model.conditioner.inputs(mel.T[None], wav[None]).features
        condition = model.condition(inputs, None, vectors, pitch, statistics)
        output = model.sample(condition, speaker=vectors, sigma=sigma, generator=seed)
    with torch.no_grad():  # what they keep, training may use
        output = refined(output, condition, model, features, refine) if refine else output
        output = output[0, : len(wav)].float().cpu()
    return output, time.perf_counter() - begin


def write_samples(folder, utterances, model, features, sigma=1.0, scores=True, refine=0):
    """Reconstructs utterances ``(id, wav, mel, who)``, as for :func:`reconstruct`; writes
    ``<id>.wav``, the recording as ``<id>_recording.wav`` and a picture of both as ``<id>.png``.

    With ``scores``, returns means of the measures of
    :func:`~waveglow_vq.evaluation.score.score_pair`, with those of the judges that are installed
    and not slow; to compare with, ``recordings_...`` of judges and of voiced frames, and of all
    ``no_model_...`` (from noise) and ``no_model_pulses_...``, as
    :func:`~waveglow_vq.evaluation.score.score_baselines` finds them; and ``real_time_factor``,
    seconds of computing per second of sound.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    on_device = copy.deepcopy(features).to(next(model.parameters()).device)
    seconds, samples = 0.0, 0
    scored = {"": [], "recordings_": [], "no_model_": [], "no_model_pulses_": []}
    judges = installed(slow=False) if scores else []
    for name, wav, mel, who in utterances:
        options = {"who": who, "features": on_device, "refine": refine}
        output, spent = reconstruct(model, wav, mel, sigma, **options)
        seconds, samples = seconds + spent, samples + len(wav)
        wav = wav.cpu()
        write_wav(folder / f"{name}.wav", output, features.sample_rate)
        write_wav(folder / f"{name}_recording.wav", wav, features.sample_rate)
        pair = {"recording": wav, "reconstruction": output}
        spectrogram_comparison(folder / f"{name}.png", pair, features, title=name)
        if scores and len(wav) >= MIN_SCORED_SAMPLES:
            pair = wav, output, features.sample_rate
            rows = score_baselines(wav, features, judges, refine or ITERATIONS).values()
            rows = score_pair(*pair, features=features, judges=judges), *rows
            # The last one only where pitch is read off these log-mels.
            for found, row in zip(scored.values(), rows, strict=False):
                found.append(row)
    results = {"real_time_factor": seconds * features.sample_rate / samples} if samples else {}
    # To the other measures a recording is a copy of itself.
    own = ["voiced_share", *measures_of(judges)]
    scored["recordings_"] = [{name: row[name] for name in own} for row in scored["recordings_"]]
    for prefix, found in scored.items():
        results |= {prefix + name: mean for name, mean in _means(found).items()}
    return results


def _means(scored):
    """Of each measure where it is defined; without those that describe the files."""
    means = {}
    for measure in scored[0] if scored else ():
        known = [s[measure] for s in scored if s[measure] is not None]
        known = [float(value) for value in known if math.isfinite(value)]
        if known and measure not in ("gain", "delay_samples", "length_difference_samples"):
            means[measure] = sum(known) / len(known)
    return means


def drop_later_epochs(train_log, epoch):
    """Removes epochs after the given one from a training log: a run that resumes from an earlier
    checkpoint writes them again.

    Example
    -------
    >>> import tempfile
    >>> log = Path(tempfile.mkdtemp()) / "train_log.txt"
    >>> _ = log.write_text("epoch: 1, steps: 3 - nll: 2\\nepoch: 2, steps: 6 - nll: 1\\n")
    >>> drop_later_epochs(log, 1)
    >>> log.read_text()
    'epoch: 1, steps: 3 - nll: 2\\n'
    """
    log = Path(train_log)
    if not log.is_file():
        return
    lines = log.read_text("utf-8").splitlines(keepends=True)
    kept = list(lines)
    while kept and (found := _EPOCH.match(kept[-1])) and int(found[1]) > epoch:
        kept.pop()
    if len(kept) < len(lines):
        with atomic_write(log) as part:
            part.write_text("".join(kept), "utf-8")


_EPOCH = re.compile(r"epoch: (\d+),")
