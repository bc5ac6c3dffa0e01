"""Trains a :class:`~waveglow_vq.lobes.source.pitch_reader.PitchReader` on recordings: on their
log-mels, and on what the pitch tracker finds in the waveforms."""

import fnmatch
import math
from typing import NamedTuple

from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import read_for_model
from waveglow_vq.audio.pitch import track_f0
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.source.pitch_reader import CHANNELS, PitchReader
from waveglow_vq.training.pitch.variety import Variety
from waveglow_vq.training.pitch.varying import RMS, at_speed, uniform, varied

import torch
from torch.nn import functional as F

_USUAL = Variety()
FRAMES, BATCH, LEARNING_RATE, WARM_UP = 192, 16, 2e-3, 100
LONGEST_SECONDS = 12
# Voices of any median F0 between these are drawn equally often.
LOWEST_VOICE_HZ, HIGHEST_VOICE_HZ = 60.0, 300.0


class PitchExample(NamedTuple):
    """A log-mel ``[n_mels, frames]``, in fp16, and F0 in Hz ``[frames]``, 0 where unvoiced."""

    name: str
    log_mel: torch.Tensor
    f0: torch.Tensor


def pitch_examples(path, features, speeds=()):
    """The PitchExamples of a recording's first seconds, of itself and at other speeds; none if it
    is too short, or silent."""
    wav = read_for_model(path, features.sample_rate)[: LONGEST_SECONDS * features.sample_rate]
    level = wav.square().mean().sqrt()
    if len(wav) <= features.n_fft or level < 1e-4:
        return []
    wav = wav * (RMS / level)
    f0 = track_f0(wav, features.sample_rate, features.hop_length).f0
    fastest = len(wav) / features.n_fft
    speeds = [1.0, *(speed for speed in speeds if speed < fastest)]
    parts = [at_speed(wav, f0, speed, features) for speed in speeds]
    return [PitchExample(str(path), log_mel.half(), f0) for log_mel, f0 in parts]


def is_held_out(name, patterns):
    """Whether a name matches one of the patterns.

    Example
    -------
    >>> [is_held_out(name, ["p2/*"]) for name in ("p1/a.wav", "p2/a.wav")]
    [False, True]
    """
    return any(fnmatch.fnmatchcase(str(name), pattern) for pattern in patterns)


def voices_to_train_on(files, features, held_out, variety, seed=0):
    """PitchExamples of the files to train on, at their own and other speeds, and of those that
    match a pattern of ``held_out``."""
    generator, train, test = torch.Generator().manual_seed(seed), [], []
    low, high = map(math.log, variety.speeds)
    for file in files:
        if is_held_out(file, held_out):
            test += pitch_examples(file, features)
        else:
            speeds = [math.exp(uniform(low, high, generator)) for _ in range(variety.copies)]
            train += pitch_examples(file, features, speeds)
    if not train:
        raise UserError("FOLDER: no recording is left to train on")
    return train, test


def train_pitch_reader(examples, steps, seed=0, variety=_USUAL, channels=CHANNELS, after_step=None):
    """Trains on PitchExamples, varied, with AdamW and a cosine schedule.

    ``after_step(step, loss)`` is called after each step. Returns the PitchReader, in evaluation
    mode.
    """
    features = LogMel()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = PitchReader(examples[0].log_mel.shape[0], channels)
    optimizer = torch.optim.AdamW(reader.parameters(), LEARNING_RATE, weight_decay=0.01)
    draw = _Drawing(examples, variety, features, generator)
    warm_up = min(WARM_UP, 1 + steps // 10)
    for step in range(steps):
        share = min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * share
        loss = reader.loss(*draw.batch())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        if after_step is not None:
            after_step(step + 1, loss.detach())
    return reader.eval()


@torch.no_grad()
def pitch_scores(reader, examples):
    """How a reader agrees with the tracker: F1 of voicing, the share of voiced frames over the
    tracker's, and in frames that the tracker calls voiced the median error in cents and the share
    of errors above 50 cents."""
    hits = found = there = 0
    errors = []
    for example in examples:
        f0, voicing = reader(example.log_mel[None].float())
        voiced, expected = voicing[0] > 0.5, example.f0 > 0
        hits += int((voiced & expected).sum())
        found += int(voiced.sum())
        there += int(expected.sum())
        ratio = f0[0, expected] / example.f0[expected]
        errors.append(1200 * ratio.log2().abs())
    errors = torch.cat(errors)
    return {
        "f1": 2 * hits / max(1, found + there),
        "voiced_share": found / max(1, there),
        "median_cents": float(errors.median()),
        "above_50_cents": float((errors > 50).float().mean()),
    }


class _Drawing:
    """Draws batches."""

    def __init__(self, examples, variety, features, generator):
        medians = torch.stack([_median_log_f0(example.f0) for example in examples])
        self.medians, order = medians.sort()
        self.examples = [examples[place] for place in order]
        self.variety, self.features, self.generator = variety, features, generator

    def batch(self):
        """Log-mels ``[batch, n_mels, frames]`` and F0 ``[batch, frames]``."""
        log_mels, f0s = zip(*(self._one() for _ in range(BATCH)), strict=True)
        return torch.stack(log_mels), torch.stack(f0s)

    def _one(self):
        """A part of a recording whose median F0 is about one that is drawn."""
        wanted = uniform(math.log(LOWEST_VOICE_HZ), math.log(HIGHEST_VOICE_HZ), self.generator)
        around = max(1, len(self.examples) // 50)
        place = int(torch.searchsorted(self.medians, wanted))
        place += int(uniform(-around, around, self.generator))
        _, log_mel, f0 = self.examples[min(max(place, 0), len(self.examples) - 1)]
        first = int(uniform(0, max(1, log_mel.shape[1] - FRAMES + 1), self.generator))
        log_mel, f0 = log_mel[:, first : first + FRAMES], f0[first : first + FRAMES]
        log_mel = varied(log_mel.float(), self.variety, self.features, self.generator)
        missing, floor = FRAMES - log_mel.shape[1], math.log(self.features.floor)
        return F.pad(log_mel, (0, missing), value=floor), F.pad(f0, (0, missing))


def _median_log_f0(f0):
    return f0[f0 > 0].log().median() if (f0 > 0).any() else torch.tensor(math.inf)
