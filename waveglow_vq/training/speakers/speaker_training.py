"""Trains a :class:`~waveglow_vq.lobes.conditioners.speaker_embedding.SpeakerEmbedding` to tell the
voices of recordings, and those of the same recordings played faster and slower. It is a matter of
statistics, without gradients: seconds of work once log-mels are made."""

import math
from typing import NamedTuple

from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import read_for_model
from waveglow_vq.audio.resampling import resample
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.speaker_embedding import (
    COMPONENTS,
    DIMENSION,
    SpeakerEmbedding,
)
from waveglow_vq.training.pitch.variety import Variety
from waveglow_vq.training.pitch.varying import RMS, uniform, varied

import torch
from torch.nn import functional as F

# Of a segment, of a recording, and of a speaker.
SEGMENT_FRAMES, CLIP_SECONDS, SPEAKER_SECONDS = 256, 12, 180
# Each is another voice: F0 and formants are multiplied by it.
SPEEDS = (0.85, 0.92, 1.0, 1.08, 1.17)
# 16 kHz recordings end below 8 kHz: the upper bands must not tell who speaks.
SEGMENT_VARIETY = Variety(gains_db=(-15.0, 10.0), noise_db=(12.0, 45.0), lowest_cut_hz=4000.0)
# Of a curve over the bands that is added to a segment, in dB: of microphones and rooms.
CURVE_DB = 2.0
# Frames that the mixture is made for, its rounds, and its least variance, of that of all frames.
FRAMES, ROUNDS, LEAST_VARIANCE = 60_000, 10, 0.05
# Directions of greatest variance in which speakers are told apart, and what is added to the
# variance within them.
DIRECTIONS, ADDED = 200, 1e-3


class SpeakerExample(NamedTuple):
    """A log-mel ``[n_mels, frames]``, in fp16, and whose it is."""

    speaker: str
    log_mel: torch.Tensor


def speaker_examples(utterances, features, speeds=SPEEDS, after_each=None):
    """SpeakerExamples of recordings with ``speaker`` and ``path``, each at all speeds; those of
    each speaker's first minutes. Silent and short recordings are left out."""
    left, examples = {}, []
    for utterance in utterances:
        speaker = utterance.speaker
        if left.setdefault(speaker, SPEAKER_SECONDS) > 0:
            wav = read_for_model(utterance.path, features.sample_rate)
            wav = wav[: CLIP_SECONDS * features.sample_rate]
            level, seconds = wav.square().mean().sqrt(), len(wav) / features.sample_rate
            if level > 1e-4 and seconds > 1:
                left[speaker] -= seconds
                for speed in speeds:
                    rate = round(features.sample_rate * speed)
                    faster = resample(wav * (RMS / level), rate, features.sample_rate)
                    name = speaker if speed == 1 else f"{speaker} x{speed}"
                    examples.append(SpeakerExample(name, features(faster[None])[0].half()))
        if after_each is not None:
            after_each()
    return examples


def train_speaker_embedding(
    examples, segments=12, seed=0, components=COMPONENTS, dimension=DIMENSION
):
    """Trains on so many segments of each voice of SpeakerExamples, varied.

    A Gaussian mixture is made by expectation and maximization; then, in the directions of greatest
    variance of the deviations m (see SpeakerEmbedding), the projection whose vectors differ most
    among voices for how they differ within them (Fisher's linear discriminants):

        S_b a = lambda S_w a,    a' S_w a = 1,    the greatest lambda

    with S_w the covariance within voices and S_b that of their means.
    """
    generator = torch.Generator().manual_seed(seed)
    log_mels, voices = _segments(examples, segments, generator)
    with torch.random.fork_rng(devices=[]):
        embedding = SpeakerEmbedding(log_mels[0].shape[1], components, dimension)
    values, counts = zip(*map(embedding.frames, log_mels), strict=True)
    fit_mixture(embedding, torch.cat(values), torch.cat(counts), generator)
    parts = zip(values, counts, strict=True)
    deviations = torch.cat([embedding.deviations(*part).float() for part in parts])
    origin, projection = discriminants(deviations, voices, dimension, generator)
    embedding.origin.copy_(origin)
    # Its scale has no effect, and suits half precision.
    embedding.projection.copy_(projection / projection.std())
    return embedding.eval()


def fit_mixture(embedding, values, counts, generator):
    """Gives an embedding the mixture of frames ``[batch, frames, values]`` that count so much."""
    counts = counts.flatten()
    count = min(FRAMES, len(counts))
    # In parts: few categories can be drawn from at once.
    drawn = torch.randperm(len(counts), generator=generator)[: 4 * count]
    drawn = drawn[torch.multinomial(counts[drawn], count, True, generator=generator)]
    frames = values.flatten(0, 1)[drawn]
    components = len(embedding.weights)
    begin = torch.randperm(count, generator=generator)[:components]
    least = LEAST_VARIANCE * frames.var(0)
    embedding.centres.copy_(frames[begin])
    embedding.variances.copy_(frames.var(0).expand(components, -1))
    for _ in range(ROUNDS):
        shares = embedding.log_likelihoods(frames).softmax(dim=-1)
        occupied = shares.sum(0)[:, None] + 1e-3
        embedding.centres.copy_(shares.T @ frames / occupied)
        variances = shares.T @ frames.square() / occupied - embedding.centres.square()
        embedding.variances.copy_(variances.clamp_min(least))
        embedding.weights.copy_(occupied[:, 0] / occupied.sum())


def discriminants(vectors, voices, dimension, generator):
    """The mean ``[size]`` of vectors ``[N, size]`` with numbers of voices ``[N]``, and Fisher's
    discriminants ``[size, dimension]``, zero where there are no more."""
    mean = vectors.mean(0)
    centred, many = vectors - mean, int(voices.max()) + 1
    kept = min(DIRECTIONS, vectors.shape[1], max(1, (len(vectors) - many) // 2))
    # A random start and two rounds find the directions (Halko, Martinsson and Tropp 2011).
    basis = torch.randn(vectors.shape[1], min(2 * kept, len(vectors)), generator=generator)
    for _ in range(2):
        basis = torch.linalg.qr(centred.T @ (centred @ basis))[0]
    basis = basis @ torch.linalg.svd(centred @ basis, full_matrices=False)[2][:kept].T
    inside = centred @ basis
    counts = torch.bincount(voices, minlength=many)[:, None]
    means = torch.zeros(many, kept).index_add_(0, voices, inside) / counts
    apart = inside - means[voices]
    within = apart.T @ apart / len(inside)
    among = means.T @ means / many - within / counts.float().mean()
    within += ADDED * within.diagonal().mean() * torch.eye(kept)
    whitening = torch.linalg.inv(torch.linalg.cholesky(within))
    found = torch.linalg.eigh(whitening @ among @ whitening.T)[1].flip(1)
    projection = basis @ whitening.T @ found[:, :dimension]
    return mean, F.pad(projection, (0, dimension - projection.shape[1]))


def _segments(examples, segments, generator):
    """Batches of log-mels ``[batch, n_mels, frames]``, and numbers of their voices ``[N]``."""
    by_voice = {}
    for example in examples:
        by_voice.setdefault(example.speaker, []).append(example.log_mel)
    if len(by_voice) < 2:
        raise UserError("FOLDER: recordings of two speakers at least are needed to train on")
    features, cut, voices = LogMel(), [], []
    for number, log_mels in enumerate(by_voice.values()):
        for _ in range(segments):
            log_mel = log_mels[int(uniform(0, len(log_mels), generator))]
            cut.append(_segment(log_mel.float(), features, generator))
            voices.append(number)
    return torch.stack(cut).split(256), torch.tensor(voices)


def _segment(log_mel, features, generator):
    # What is shorter is heard again from its beginning.
    log_mel = log_mel.repeat(1, -(-SEGMENT_FRAMES // log_mel.shape[1]))
    first = int(uniform(0, log_mel.shape[1] - SEGMENT_FRAMES + 1, generator))
    log_mel = log_mel[:, first : first + SEGMENT_FRAMES]
    log_mel = varied(log_mel, SEGMENT_VARIETY, features, generator)
    curve = torch.randn(1, 1, 5, generator=generator) * (CURVE_DB * math.log(10) / 20)
    curve = F.interpolate(curve, len(log_mel), mode="linear", align_corners=True)[0, 0]
    return (log_mel + curve[:, None]).clamp_min(math.log(features.floor))
