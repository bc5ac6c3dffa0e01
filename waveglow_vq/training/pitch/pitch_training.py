"""Trains a :class:`~waveglow_vq.lobes.source.pitch_reader.PitchReader` on recordings: on their
log-mels, and on what the pitch tracker finds in the waveforms."""

import fnmatch
import math
from typing import NamedTuple

from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import read_for_model
from waveglow_vq.audio.pitch import track_f0
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.source.pitch_reader import PitchReader

import torch
from torch.nn import functional as F

FRAMES, BATCH, LEARNING_RATE, WARM_UP = 192, 16, 2e-3, 100
# Recordings are brought to this RMS; in training, gains from -13 to 9 dB are drawn.
RMS, GAINS = 0.06, (-1.5, 1.0)
LONGEST_SECONDS = 12


class PitchExample(NamedTuple):
    """A log-mel ``[n_mels, frames]``, and F0 in Hz ``[frames]``, 0 where unvoiced."""

    name: str
    log_mel: torch.Tensor
    f0: torch.Tensor


def pitch_example(path, features):
    """The :class:`PitchExample` of a recording's first seconds, or None if it is too short, or
    silent."""
    wav = read_for_model(path, features.sample_rate)[: LONGEST_SECONDS * features.sample_rate]
    level = wav.square().mean().sqrt()
    if len(wav) <= features.n_fft or level < 1e-4:
        return None
    wav = wav * (RMS / level)
    log_mel = features(wav[None])[0]
    track = track_f0(wav, features.sample_rate, features.hop_length)
    return PitchExample(str(path), log_mel, track.f0[: log_mel.shape[1]])


def split_examples(examples, held_out):
    """Examples to train on, and those whose names match a pattern of ``held_out``.

    Example
    -------
    >>> examples = [PitchExample(name, None, None) for name in ("p1/a.wav", "p2/a.wav")]
    >>> [[e.name for e in part] for part in split_examples(examples, ["p2/*"])]
    [['p1/a.wav'], ['p2/a.wav']]
    """

    def is_held_out(example):
        return any(fnmatch.fnmatchcase(example.name, pattern) for pattern in held_out)

    parts = [], []
    for example in examples:
        parts[is_held_out(example)].append(example)
    if not parts[0]:
        raise UserError("FOLDER: no recording is left to train on")
    return parts


def train_pitch_reader(examples, steps, seed=0, channels=96, after_step=None):
    """Trains on PitchExamples, with AdamW and a cosine schedule.

    ``after_step(step, loss)`` is called after each step. Returns the PitchReader, in evaluation
    mode.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = PitchReader(examples[0].log_mel.shape[0], channels)
    optimizer = torch.optim.AdamW(reader.parameters(), LEARNING_RATE, weight_decay=0.01)
    floor = math.log(LogMel().floor)
    warm_up = min(WARM_UP, 1 + steps // 10)
    for step in range(steps):
        share = min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * share
        loss = reader.loss(*_batch(examples, generator, floor))
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
        f0, voicing = reader(example.log_mel[None])
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


def _batch(examples, generator, floor):
    log_mels, f0s = [], []
    for _ in range(BATCH):
        example = examples[_below(len(examples), generator)]
        spare = example.log_mel.shape[1] - FRAMES
        first = _below(spare + 1, generator) if spare > 0 else 0
        log_mel = example.log_mel[:, first : first + FRAMES]
        low, high = GAINS
        gain = low + (high - low) * float(torch.rand((), generator=generator))
        missing = FRAMES - log_mel.shape[1]
        log_mel = F.pad((log_mel + gain).clamp_min(floor), (0, missing), value=floor)
        log_mels.append(log_mel)
        f0s.append(F.pad(example.f0[first : first + FRAMES], (0, missing)))
    return torch.stack(log_mels), torch.stack(f0s)


def _below(count, generator):
    return int(torch.randint(count, (), generator=generator))
