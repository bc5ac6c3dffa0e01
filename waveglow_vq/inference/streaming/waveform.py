"""Waveforms of any length in constant memory: overlap and discard.

What a model gives at a place depends on a stretch of its input around that place, which follows
from its layers. So a long utterance is computed window by window: each reaches to both sides as
far as the layers see, and what the cut has changed there is thrown away. What is left equals what
the whole utterance at once would have given, rounding apart. Where an utterance begins and ends a
window does too, so that padding is met there and nowhere else. Noise belongs to its place in the
utterance, and the recursion of the envelope's filter goes on with the samples that it gave last.

From inputs to waveforms in two steps, each a generator, which may be used alone:

    conditions = condition_blocks(conditioner, log_mel_chunks, conditioner.receptive_field)
    blocks = stream_waveform(model, conditions, generator=0)

:func:`stream_waveform` also takes the Condition of a whole utterance, as of a conversion: at
frame rate it is small, and it is the flows that take the memory. With the ``noise`` that
:func:`stream_noise` makes of a waveform, it is the second half of a latent swap.
"""

import itertools
import math
from contextlib import nullcontext
from typing import Any, NamedTuple

from waveglow_vq.inference.inputs import as_count
from waveglow_vq.inference.streaming.noise import Given, Noise
from waveglow_vq.inference.streaming.pitch_parts import excited_parts, followed_parts
from waveglow_vq.lobes.conditioners.base import Condition
from waveglow_vq.lobes.flows.envelope import EnvelopeContext
from waveglow_vq.lobes.flows.transforms import squeeze, unsqueeze
from waveglow_vq.utils.devices import in_float64, returned
from waveglow_vq.utils.windows import Buffer, until_end, windows

import torch

# Samples of a window of files and long inputs, where latency does not matter: 10 s at
# 22050 Hz.
WINDOW_SAMPLES = 864 * 256
# Steps of its input that a conditioner is given at once, beside those that it only looks at.
CONDITION_STEPS = 256
NO_CONTEXT = nullcontext()


class AfterFlows(NamedTuple):
    """What is done to the signal between the flows and the envelope's filter.

    Arguments
    ---------
    apply : callable
        ``[batch, samples]`` to the same.
    margin : int
        Samples to either side that a sample of the result depends on.
    unit : int
        Slices that begin at multiples of so many samples are treated as the whole would be.
    """

    apply: Any
    margin: int
    unit: int

    def frames(self, hop):
        """Frames of ``hop`` samples to either side that a slice needs besides its own."""
        return math.ceil((self.margin + self.unit - 1) / hop)


def condition_blocks(condition_of, chunks, reach, unit=1, context=NO_CONTEXT):
    """The Conditions of an utterance, block by block.

    ``condition_of`` gives that of a window: a conditioner, or its ``decode``. ``chunks`` are
    log-mels ``[batch, n_mels, t]``, or codes ``[batch, t]``. ``reach`` is the conditioner's
    ``receptive_field``, the steps to either side that the condition of a step depends on; ``unit``
    steps make a frame of the log-mel, for codes that share one. ``context`` is entered for each
    window, for autocast.
    """
    reach = math.ceil(reach / unit) * unit
    for window, first, new in windows(
        chunks, reach, unit, math.ceil(CONDITION_STEPS / unit) * unit
    ):
        with torch.no_grad(), context:
            condition = condition_of(window)
        steps = window.shape[-1]

        def part(x, first=first, new=new, steps=steps):
            # There may be several steps for a frame, or several frames for a step, less for the
            # last one of all.
            if x.shape[-1] < steps:
                return x[..., first // unit : (first + new) // unit]
            per_step = math.ceil(x.shape[-1] / steps)
            return x[..., first * per_step : (first + new) * per_step]

        log_mel, f0 = (None if x is None else part(x) for x in (condition.log_mel, condition.f0))
        yield Condition(part(condition.local), condition.hop, None, log_mel, f0=f0)


def stream_waveform(
    model,
    conditions,
    speaker=None,
    sigma=1.0,
    generator=None,
    overlap_frames=None,
    chunk_frames=None,
    noise=None,
    frames=None,
    after_flows=None,
    context=NO_CONTEXT,
):
    """Draws a waveform of any length: what ``model.sample`` gives, block by block.

    Frames are those of the features, ``model.vocoder.hop`` samples each.

    Arguments
    ---------
    model : WaveGlowVQ
        In evaluation mode.
    conditions : Condition or iterable of Condition
        Of the whole utterance, or of its consecutive parts, each of whole frames. Their ``local``
        ``[batch, channels, t]``, ``hop`` and ``log_mel`` ``[batch, n_mels, t]`` are used.
    speaker : torch.Tensor
        Global condition ``[batch, speakers.channels]``, or None.
    sigma : float
        Standard deviation of the noise.
    generator : int, torch.Generator or None
        As for ``model.sample``, and for a batch of one the same noise; see
        :class:`~waveglow_vq.inference.streaming.noise.Noise`.
    overlap_frames : int
        Frames that the flows see to either side of a chunk. None: as many as their layers reach,
        so that the result is exact. Fewer cost less time, and change the waveform near the edges
        of chunks.
    chunk_frames : int
        Frames of a chunk. It is yielded as soon as it and what must be seen behind it are known.
        None: as many as fit into a window of WINDOW_SAMPLES.
    noise : iterable of torch.Tensor
        In the place of a generator: the noise ``[batch, n]``, group after group.
    frames : int
        Frames of the waveform; None: as many as the condition has. There may be one more, towards
        which the last one is interpolated.
    after_flows : AfterFlows
        What is done to what the flows give, or None.
    context : context manager
        Entered for each window, for autocast.

    Yields
    ------
    torch.Tensor
        ``[batch, n]`` on the device of the condition; ``frames * hop`` samples together.

    Raises
    ------
    UserError
        If ``overlap_frames`` or ``chunk_frames`` is out of range.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.conditioners.mel import MelConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> features = LogMel()
    >>> flows = WaveGlow(features, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    >>> model = WaveGlowVQ(MelConditioner(features, channels=16), flows).eval()
    >>> condition = model.conditioner(torch.randn(1, 80, 20) - 5)
    >>> blocks = list(stream_waveform(model, condition, generator=0, chunk_frames=8))
    >>> [block.shape[1] // 256 for block in blocks]
    [8, 8, 4]
    >>> whole = model.sample(condition, generator=0)
    >>> torch.allclose(torch.cat(blocks, dim=1), whole, atol=1e-5)
    True
    """
    plan = _plan(model.vocoder, overlap_frames, chunk_frames, after_flows)
    if model.vocoder.excitation:
        conditions = excited_parts(model, _parts(conditions))
    source = Noise(generator) if noise is None else Given(noise)
    places = _places(model.vocoder, conditions, plan, frames)
    return _waveforms(model.vocoder, places, source, speaker, sigma, after_flows, context)


def _waveforms(vocoder, places, source, speaker, sigma, after_flows, context):
    hop, order, history = vocoder.hop, vocoder.history, None
    for place in places:
        z = source.take(place, hop)
        with torch.no_grad(), context:
            z = squeeze(z * sigma, vocoder.group_size)
            before, after = place.first - place.begin, place.end - place.last
            if after_flows is None:
                wav = vocoder.inverse_flows(z, place.local, speaker, spare=(before, after))
            else:
                margin = after_flows.frames(hop)
                spare = max(0, before - margin), max(0, after - margin)
                wav = vocoder.inverse_flows(z, place.local, speaker, spare=spare)
                begin = place.begin + spare[0]
                skipped = -begin * hop % after_flows.unit
                wav = torch.cat([wav[:, :skipped], after_flows.apply(wav[:, skipped:])], dim=-1)
                wav = wav[:, (place.first - begin) * hop : (place.last - begin) * hop]
            if vocoder.envelope is not None:
                # In fp64 from one block to the next, as it is within one.
                exact = EnvelopeContext(place.log_mel, history)
                exact = vocoder.envelope.inverse(in_float64(wav)[:, None], exact)[:, 0]
                history = exact if history is None else torch.cat([history, exact], dim=-1)
                history = history[:, history.shape[-1] - order :]
                wav = returned(exact, wav)
        yield wav


def stream_noise(
    model, conditions, wavs, frames, speaker=None, chunk_frames=None, context=NO_CONTEXT
):
    """Sends a waveform of any length to noise: what ``model.to_noise`` gives, block by block,
    ``[batch, n]``, as :func:`stream_waveform` takes it as ``noise``; arguments as there.

    The waveform comes in parts ``[batch, n]`` of any length, and is ``frames * hop`` long; the
    condition may have one frame more.
    """
    vocoder = model.vocoder
    if vocoder.excitation:
        wavs, again = itertools.tee(wavs)
        conditions = followed_parts(model, _parts(conditions), again)
    source = Given(wavs)
    if vocoder.envelope is not None:
        conditions, whitening = itertools.tee(_parts(conditions))
        places = _places(vocoder, whitening, _Plan(0, 0, CONDITION_STEPS), frames)
        source = Given(_whiten(vocoder, places, source))
    plan = _plan(vocoder, None, chunk_frames, None)
    return _noises(vocoder, _places(vocoder, conditions, plan, frames), source, speaker, context)


def _whiten(vocoder, places, source):
    history = None
    for place in places:
        wav = source.take(place, vocoder.hop)
        with torch.no_grad():
            context = EnvelopeContext(place.log_mel, history)
            error = vocoder.envelope(wav[:, None], context)[0][:, 0]
        history = wav if history is None else torch.cat([history, wav], dim=-1)
        history = history[:, history.shape[-1] - vocoder.history :]
        yield error


def _noises(vocoder, places, source, speaker, context):
    for place in places:
        error = source.take(place, vocoder.hop)
        with torch.no_grad(), context:
            z, _ = vocoder.forward_flows(error, place.local, speaker)
        yield place.new(unsqueeze(z), vocoder.hop)


class _Place(NamedTuple):
    """A window: frames ``begin`` to ``end``, of which ``first`` to ``last`` are new. The local
    condition is of the window, the log-mel of what is new, each with the frame that follows."""

    begin: int
    end: int
    first: int
    last: int
    is_last: bool
    local: torch.Tensor
    log_mel: torch.Tensor | None

    def new(self, signal, hop):
        """What is new of a signal of the window, ``[batch, n]``."""
        return signal[:, (self.first - self.begin) * hop : (self.last - self.begin) * hop]


class _Plan(NamedTuple):
    """Frames that a window shows before and after what is new, and how many of these it has."""

    before: int
    after: int
    chunk: int


def _plan(vocoder, overlap_frames, chunk_frames, after_flows):
    hop = vocoder.hop
    overlap = vocoder.overlap_frames
    if overlap_frames is not None:
        overlap = min(overlap, as_count("overlap_frames", overlap_frames, 0))
    if after_flows is not None:
        overlap += after_flows.frames(hop)
    before = overlap + math.ceil(vocoder.condition_reach[0] * vocoder.condition_hop / hop)
    if chunk_frames is None:
        window = WINDOW_SAMPLES // hop
        chunk_frames = max(window - before - overlap, window // 4)
    return _Plan(before, overlap, as_count("chunk_frames", chunk_frames, 1))


def is_long(vocoder, frames):
    """Whether an input of so many frames of the features is better processed window by window."""
    return frames * vocoder.hop > WINDOW_SAMPLES * 5 // 4


def _places(vocoder, conditions, plan, frames=None):
    """The windows of an utterance, one after the other, as soon as its condition is known."""
    local, log_mel, first = Buffer(), Buffer(), 0
    for condition, ended in until_end(_parts(conditions)):
        if not ended:
            local.append(condition.local)
            if condition.log_mel is not None:
                log_mel.append(condition.log_mel)
            per_frame = vocoder.hop // condition.hop
        known = local.end // per_frame if local.end else 0
        total = known if ended and frames is None else frames
        while total is None or first < total:
            last = first + plan.chunk
            if total is not None and last + plan.after >= total:
                last = total  # its window reaches the end
            end = last + plan.after if total is None else min(last + plan.after, total)
            # With the frame that follows, towards which the last one is interpolated.
            if known <= end and not ended:
                break
            if known < end:
                raise ValueError(f"a condition of {known} frames where {end} are needed")
            begin = max(0, first - plan.before)
            yield _Place(
                begin,
                end,
                first,
                last,
                end == total,
                local.take(begin * per_frame, end * per_frame + 1),
                log_mel.take(first, last + 1) if log_mel.end else None,
            )
            first = last
            local.drop((first - plan.before) * per_frame)
            log_mel.drop(first)


def _parts(conditions):
    return [conditions] if isinstance(conditions, Condition) else conditions
