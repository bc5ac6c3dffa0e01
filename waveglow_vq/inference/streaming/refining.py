"""Mel-consistent iterations (see :mod:`~waveglow_vq.lobes.mel_consistency`) behind the flows: of
batches, and of streams in constant memory.

A sample depends on those less than ``reach(features, iterations)`` away. So a long waveform is
refined window by window: each shows as much to both sides of what is new, and begins where a frame
does. Where an utterance begins and ends, a window does too, and reflects.
"""

import itertools

from waveglow_vq.errors import UserError
from waveglow_vq.inference.inputs import as_count
from waveglow_vq.inference.streaming.waveform import WINDOW_SAMPLES, stream_waveform
from waveglow_vq.lobes.conditioners.base import Condition
from waveglow_vq.lobes.mel_consistency import mel_consistent, reach
from waveglow_vq.utils.masking import whole_lengths
from waveglow_vq.utils.windows import Buffer, windows

import torch


def as_iterations(model, refine):
    """The number of iterations, checked: a whole number of at least 0, and 0 for a model that knows
    no log-mel to lead to; else a UserError."""
    refine = as_count("refine", refine, 0)
    if refine and not model.conditioner.gives_log_mel:
        raise UserError(
            f"refine: {refine} iterations, but the model predicts no log-mel that they could lead "
            "to; give 0"
        )
    return refine


def refined(wav, condition, features, iterations, lengths=None):
    """Waveforms ``[batch, frames * hop]``, with their log-mels nearer to those of a Condition.

    ``lengths`` are the relative lengths ``[batch]`` with which they were sampled, or None. Items of
    at most ``features.margin`` samples, which are too short to reflect, stay as they are.
    """
    if not iterations or wav.shape[-1] <= features.margin:
        return wav
    log_mel = condition.cropped(lengths=lengths).log_mel
    if lengths is None:
        return mel_consistent(wav, log_mel, features, iterations)
    frames = wav.shape[-1] // features.hop_length
    samples = whole_lengths(lengths, frames) * features.hop_length
    result = mel_consistent(wav, log_mel, features, iterations, samples)
    return torch.where(samples[:, None] > features.margin, result, wav)


def refined_blocks(blocks, log_mels, features, iterations):
    """A waveform that comes in blocks, refined: together, what
    :func:`~waveglow_vq.lobes.mel_consistency.mel_consistent` gives for the whole, rounding apart.

    Memory does not depend on the length. A block comes as soon as ``reach(features, iterations)``
    samples behind it are known, ``iterations * features.n_fft``; so many before and behind what is
    new are computed again for each block, hence many short ones take long.

    Arguments
    ---------
    blocks : iterable of torch.Tensor
        ``[batch, n]``, of any lengths.
    log_mels : iterable of torch.Tensor
        The consecutive parts of the log-mel, ``[batch, n_mels, t]``, of any lengths. They are taken
        up to the frame at the end of the waveform that is known; where the last one of all is
        missing, the one before is held.
    features : LogMel
        The feature contract.
    iterations : int
        How many; 0 gives back the blocks.

    Returns
    -------
    iterator of torch.Tensor
        ``[batch, n]``, fp32. An utterance of at most ``features.margin`` samples, which is too
        short to reflect, stays as it is.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> features = LogMel()
    >>> log_mel = features(torch.sin(torch.arange(16384.0) ** 1.5 / 400)[None])
    >>> wav = torch.randn(1, 16384)
    >>> blocks = refined_blocks(wav.split(3000, 1), log_mel.split(20, -1), features, 2)
    >>> whole = mel_consistent(wav, log_mel, features, 2)
    >>> torch.allclose(torch.cat(list(blocks), dim=1), whole, atol=1e-4)
    True
    """
    return _refined_blocks(blocks, log_mels, features, iterations) if iterations else iter(blocks)


def _refined_blocks(blocks, log_mels, features, iterations):
    hop, log_mels, log_mel, done = features.hop_length, iter(log_mels), Buffer(), 0
    most = max(1, WINDOW_SAMPLES // hop) * hop
    # In whole frames, so that windows begin where frames are centred.
    margin = -(-reach(features, iterations) // hop) * hop
    for window, first, new in windows(blocks, margin, hop, most):
        begin = (done - first) // hop
        end = begin + 1 + window.shape[-1] // hop
        while log_mel.end < end and (part := next(log_mels, None)) is not None:
            log_mel.append(part)
        log_mel.drop(begin)
        if window.shape[-1] > features.margin:
            with torch.no_grad():
                target = log_mel.take(begin, end)
                window = mel_consistent(window, target, features, iterations)
        yield window[:, first : first + new]
        done += new


def stream_refined(model, features, conditions, iterations, **options):
    """:func:`~waveglow_vq.inference.streaming.waveform.stream_waveform`, whose ``options`` are
    taken, and so many iterations towards the log-mels of the Conditions behind it."""
    if not iterations:
        return stream_waveform(model, conditions, **options)
    conditions = [conditions] if isinstance(conditions, Condition) else conditions
    # What only one of the two has taken is kept: the look-ahead of the iterations.
    conditions, again = itertools.tee(conditions)
    blocks = stream_waveform(model, conditions, **options)
    return refined_blocks(blocks, (c.log_mel for c in again), features, iterations)
