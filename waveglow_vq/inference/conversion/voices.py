"""Voices: a speaker's vector and the statistics of its F0, by label or from speech."""

import difflib
from typing import NamedTuple

from waveglow_vq.audio.pitch import track_log_f0
from waveglow_vq.errors import UserError
from waveglow_vq.inference.batching import batch_log_mels
from waveglow_vq.lobes.conditioners.pitch_condition import normalize_pitch
from waveglow_vq.lobes.conditioners.speaker_condition import MIN_LOG_F0_STD, UNKNOWN
from waveglow_vq.utils.masking import relative_lengths

import torch

# Speakers that an error proposes.
MOST_HINTS = 6


class Voice(NamedTuple):
    """Who speaks: one voice, or one for each item of a batch.

    Arguments
    ---------
    vector : torch.Tensor
        Global condition of the flows, ``[B, C]``.
    f0_statistics : torch.Tensor
        Mean and standard deviation of the log-F0, ``[B, 2]``.

    Example
    -------
    >>> voice = Voice(torch.zeros(1, 4), torch.tensor([[5.0, 0.2]])).expand(3)
    >>> voice.vector.shape, voice.item(1).f0_statistics.shape
    (torch.Size([3, 4]), torch.Size([1, 2]))
    """

    vector: torch.Tensor
    f0_statistics: torch.Tensor

    def to(self, *args):
        """As ``torch.Tensor.to``."""
        return Voice(*(part.to(*args) for part in self))

    def expand(self, batch):
        """One voice as that of a whole batch."""
        return Voice(*(part.expand(batch, -1) for part in self))

    def item(self, index):
        """The voice of one item of a batch."""
        return Voice(*(part[index : index + 1] for part in self))


def speaker_numbers(known, labels, batch, interface="VoiceConverter"):
    """Numbers int64 ``[batch]`` of speakers from their labels: one, or one for each item.

    ``known`` are the labels of the model's speakers, and ``interface`` whose they are, for the
    UserError that says that a label is unknown, or that there are too many or too few.

    Example
    -------
    >>> speaker_numbers(["p225", "p226"], "p226", 3)
    tensor([1, 1, 1])
    >>> speaker_numbers(["p225", "p226", "p330"], "p22", 1)
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: speakers: 'p22' is not one of the 3 speakers of this model; near
    are 'p225' and 'p226', and VoiceConverter.speakers ('waveglow-vq info' at the command line) has
    all of them.
    """
    labels = list(labels) if isinstance(labels, (list, tuple)) else [labels] * batch
    if len(labels) != batch:
        raise UserError(f"speakers: {len(labels)} labels for a batch of {batch}")
    for label in labels:
        if label not in known:
            raise UserError(
                f"speakers: {label!r} is not one of the {len(known)} speakers of this model; "
                f"{_hint(str(label), known)}, and {interface}.speakers ('waveglow-vq info' at the "
                "command line) has all of them."
            )
    return torch.tensor([known.index(label) for label in labels])


def _hint(label, known):
    """Speakers that may be meant: whose labels begin with this one, or hold it, or are similar."""
    small = label.lower()
    near = [k for k in known if small and k.lower().startswith(small)]
    near = near or [k for k in known if small and small in k.lower()]
    near = near or difflib.get_close_matches(label, known, n=3, cutoff=0.4)
    if not near:
        return f"the first is {known[0]!r}"
    if len(near) == 1:
        return f"the nearest is {near[0]!r}"
    names = list(map(repr, near))
    if len(names) > MOST_HINTS:
        names[MOST_HINTS:] = [f"{len(names) - MOST_HINTS} more"]
    return f"near are {', '.join(names[:-1])} and {names[-1]}"


def known_voice(model, numbers):
    """The Voice of speakers of the model, int64 ``[B]`` on its device, -1 where unknown."""
    return Voice(model.speakers(numbers), model.speakers.f0_statistics(numbers))


def unknown_voice(model, batch=1):
    """The Voice of unknown speakers."""
    device = model.speakers.unknown.device
    return known_voice(model, torch.full((batch,), UNKNOWN, device=device))


def heard_vector(model, features, wavs, counts):
    """What the encoder of speakers hears in waveforms ``[B, N]``, ``counts`` samples of each:
    ``[B, C]``. A UserError if the model has only a table."""
    log_mels, frames = batch_log_mels(features, wavs, counts)
    lengths = relative_lengths(frames, log_mels.shape[-1])
    return model.speakers(reference=log_mels, reference_lengths=lengths)


def heard_voice(model, features, wavs):
    """The Voice that is heard in waveforms ``[B, N]``."""
    counts = torch.full((len(wavs),), wavs.shape[-1], device=wavs.device)
    vector = heard_vector(model, features, wavs, counts)
    if model.uses_pitch:
        return Voice(vector, utterance_pitch(model, features, wavs, counts)[1])
    return Voice(vector, unknown_voice(model, len(wavs)).f0_statistics)


def utterance_pitch(model, features, wavs, counts):
    """Tracks the pitch of utterances and normalizes it by its own mean and deviation.

    They are ``[B, N]``, of ``counts`` samples each; the model's speakers say what an utterance
    without voiced frames is taken for.

    Returns
    -------
    pitch : torch.Tensor
        ``[B, 1 + N // hop, 2]``: log-F0 less its mean, over its deviation, 0 where unvoiced; and 1
        where voiced.
    statistics : torch.Tensor
        Mean and standard deviation of the log-F0 of each, ``[B, 2]``.
    """
    unknown = unknown_voice(model).f0_statistics[0]
    log_f0 = [
        track_log_f0(wav[:count], features.sample_rate, features.hop_length)
        for wav, count in zip(wavs, counts.tolist(), strict=True)
    ]
    statistics = torch.stack([own_f0_statistics(item, unknown) for item in log_f0])
    log_f0 = torch.nn.utils.rnn.pad_sequence(log_f0, batch_first=True).to(unknown)
    return normalize_pitch(log_f0, statistics), statistics


def own_f0_statistics(log_f0, unknown):
    """Mean and standard deviation of a recording's log-F0 ``[frames]``, 0 where unvoiced;
    ``unknown``, ``[2]``, where nothing is voiced."""
    voiced = log_f0[log_f0 > 0]
    if not len(voiced):
        return unknown
    statistics = torch.stack([voiced.mean(), voiced.std(correction=0).clamp_min(MIN_LOG_F0_STD)])
    return statistics.to(unknown)


def flat_pitch(pitch):
    """Pitch ``[B, frames, 2]`` without intonation: at its mean wherever it is voiced."""
    return pitch * pitch.new_tensor([0.0, 1.0])
