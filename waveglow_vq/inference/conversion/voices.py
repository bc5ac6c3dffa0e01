"""Voices: a speaker's vector and the statistics of its pitch, by label or from speech.

Authors
 * The waveglow-vq developers, 2026
"""

import difflib

from waveglow_vq.errors import UserError
from waveglow_vq.inference.batching import batch_log_mels, relative_lengths
from waveglow_vq.inference.conversion.whole_utterances import utterance_pitch
from waveglow_vq.lobes.conditioners.speaker_condition import UNKNOWN

import torch

# Speakers that an error proposes.
MOST_HINTS = 6


def speaker_numbers(known, labels, batch, interface="VoiceConverter"):
    """Numbers of speakers from their labels.

    Arguments
    ---------
    known : list of str
        The labels of the model's speakers.
    labels : str or list of str
        One label, or one for each item.
    batch : int
        Number of items.
    interface : str
        Whose speakers they are, for the error.

    Returns
    -------
    torch.Tensor
        int64 ``[batch]``.

    Raises
    ------
    UserError
        If a label is unknown, or there are too many or too few.

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
    """Vectors ``[B, C]`` and F0 statistics ``[B, 2]`` of speakers of the model, -1 where unknown;
    ``numbers`` are on its device."""
    return model.speakers(numbers), model.speakers.f0_statistics(numbers)


def heard_vectors(model, features, wavs, counts):
    """What the encoder of speakers hears in waveforms ``[B, N]``, ``counts`` samples of each:
    ``[B, C]``. A UserError if the model has only a table."""
    log_mels, frames = batch_log_mels(features, wavs, counts)
    lengths = relative_lengths(frames, log_mels.shape[-1])
    return model.speakers(reference=log_mels, reference_lengths=lengths)


def reference_voice(model, features, wavs, batch):
    """The voice that is heard in waveforms ``[1 or B, N]``, as in :func:`known_voice`."""
    counts = torch.full((len(wavs),), wavs.shape[-1], device=wavs.device)
    vectors = heard_vectors(model, features, wavs, counts)
    statistics = model.speakers.f0_statistics(torch.full_like(counts, UNKNOWN))
    if model.uses_pitch:
        _, statistics = utterance_pitch(model, features, wavs, counts)
    return vectors.expand(batch, -1), statistics.expand(batch, -1)
