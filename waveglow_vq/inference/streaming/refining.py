"""Mel-consistent iterations (see :mod:`~waveglow_vq.lobes.mel_consistency`) behind the flows: of
batches, and of streams in constant memory.

A sample depends on those less than ``reach(features, iterations + 2)`` away, the two more for the
pulses that voiced frames begin with, where the model's ``source`` says so. So a long waveform is
refined window by window: each shows as much to both sides of what is new, and begins where a frame
does. Where an utterance begins and ends, a window does too, and reflects.
"""

import itertools
from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.inference.inputs import as_count
from waveglow_vq.inference.streaming.pitch_parts import pitched
from waveglow_vq.inference.streaming.waveform import WINDOW_SAMPLES, stream_waveform
from waveglow_vq.lobes.conditioners.base import Condition
from waveglow_vq.lobes.mel_consistency import reach, refine_voiced
from waveglow_vq.lobes.source.excitation import pitch_of
from waveglow_vq.lobes.source.pitch_reader import is_readable
from waveglow_vq.lobes.source.pitch_rows import PitchRows
from waveglow_vq.utils.masking import whole_lengths
from waveglow_vq.utils.windows import Buffer, windows

import torch
from torch.nn.functional import pad


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


def pitch_reader(model, features):
    """What reads the pitch off log-mels for iterations that begin with pulses; None where the flows
    give all, or pitch is given beside the codes."""
    if model.source == "flows" or model.uses_pitch:
        return None
    if not is_readable(features):
        raise UserError(
            "source: pulses, but pitch is only read off log-mels of the feature contract; set "
            "source to flows"
        )
    return model.pitch_reader


def refined(wav, condition, model, features, iterations, lengths=None):
    """Waveforms ``[batch, frames * hop]``, with their log-mels nearer to those of a Condition.

    ``lengths`` are the relative lengths ``[batch]`` with which they were sampled, or None. Items of
    at most ``features.margin`` samples, which are too short to reflect, stay as they are.
    """
    if not iterations or wav.shape[-1] <= features.margin:
        return wav
    frames, samples = wav.shape[-1] // features.hop_length, None
    if lengths is not None:
        samples = whole_lengths(lengths, frames) * features.hop_length
    target = condition.cropped(lengths=lengths).log_mel
    if model.source == "pulses":
        pitch = pitch_of(condition, pitch_reader(model, features), lengths)
        rows = PitchRows(features.hop_length, features.sample_rate).of(*pitch.unbind(1))
        target = torch.cat([pad(target, (0, 1), mode="replicate").float(), rows], dim=1)
    result = refine_voiced(wav, target, features, iterations, samples)
    return (
        result if samples is None else torch.where(samples[:, None] > features.margin, result, wav)
    )


def _targets(conditions, model, features):
    """What iterations lead to and begin with, of consecutive Conditions: log-mels, with the rows of
    a pitch behind the bands where they begin with pulses."""
    if model.source == "flows":
        yield from (condition.log_mel for condition in conditions)
        return
    pitch_reader(model, features)
    for condition, rows in pitched(model, conditions, local=False):
        yield torch.cat([condition.log_mel, rows], dim=1)


class LookAhead(NamedTuple):
    """What is waited for: samples of what the flows draw, for iterations, and frames of the log-mel
    behind them, for the pitch."""

    samples: int
    frames: int


def refine_look_ahead(model, features, iterations):
    """The LookAhead of so many iterations in a stream, and of flows that see pulses."""
    pitch = 1 if model.pitch_reader is None else model.pitch_reader.receptive_field
    frames = 0
    if model.vocoder.excitation:
        # Behind all that the flows see of a chunk.
        frames = model.vocoder.overlap_frames + 1 + pitch
    if not iterations or model.source == "flows":
        return LookAhead(reach(features, iterations), frames)
    # And the frame that follows the last one.
    return LookAhead(reach(features, iterations + 2), max(frames, pitch + 1))


def refined_blocks(blocks, log_mels, features, iterations, pulses=False):
    """A waveform that comes in blocks, refined: together, what
    :func:`~waveglow_vq.lobes.mel_consistency.refine_voiced` gives for the whole, rounding apart.

    Memory does not depend on the length. A block comes as soon as ``iterations * features.n_fft``
    samples behind it are known, twice ``features.n_fft`` more with pulses; so many before and
    behind what is new are computed again for each block, hence many short ones take long.

    Arguments
    ---------
    blocks : iterable of torch.Tensor
        ``[batch, n]``, of any lengths.
    log_mels : iterable of torch.Tensor
        The consecutive parts of the log-mel, ``[batch, n_mels, t]``, of any lengths, with the rows
        of a pitch behind the bands, or not. They are taken up to the frame at the end of the
        waveform that is known; where the last one of all is missing, the one before is held.
    features : LogMel
        The feature contract.
    iterations : int
        How many; 0 gives back the blocks.
    pulses : bool
        Whether the log-mels have the rows of a pitch.

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
    >>> from waveglow_vq.lobes.mel_consistency import mel_consistent
    >>> whole = mel_consistent(wav, log_mel, features, 2)
    >>> torch.allclose(torch.cat(list(blocks), dim=1), whole, atol=1e-4)
    True
    """
    if not iterations:
        return iter(blocks)
    return _refined_blocks(blocks, log_mels, features, iterations, iterations + 2 * pulses)


def _refined_blocks(blocks, log_mels, features, iterations, steps):
    hop, log_mels, log_mel, done = features.hop_length, iter(log_mels), Buffer(), 0
    most = max(1, WINDOW_SAMPLES // hop) * hop
    # In whole frames, so that windows begin where frames are centred.
    margin = -(-reach(features, steps) // hop) * hop
    for window, first, new in windows(blocks, margin, hop, most):
        begin = (done - first) // hop
        end = begin + 1 + window.shape[-1] // hop
        while log_mel.end < end and (part := next(log_mels, None)) is not None:
            log_mel.append(part)
        log_mel.drop(begin)
        if window.shape[-1] > features.margin:
            with torch.no_grad():
                target = log_mel.take(begin, end)
                window = refine_voiced(window, target, features, iterations)
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
    targets = _targets(again, model, features)
    return refined_blocks(blocks, targets, features, iterations, model.source == "pulses")
