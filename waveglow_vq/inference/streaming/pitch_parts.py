"""The pitch of consecutive Conditions, in constant memory: for flows that see pulses, and for
iterations that begin with them (see lobes/source)."""

from waveglow_vq.lobes.conditioners.base import Condition
from waveglow_vq.lobes.source.excitation import swapped
from waveglow_vq.lobes.source.pitch_rows import (
    WINDOW,
    PitchRows,
    followed_phase,
    held_pitch,
)
from waveglow_vq.utils.devices import at_least_fp32
from waveglow_vq.utils.windows import Buffer, windows

import torch
from torch.nn.functional import pad


def pitched(model, conditions, local=True):
    """Consecutive Conditions, cut anew, each with the rows of its pitch ``[batch, 3, frames]``,
    whose phase is the integral of F0; with ``local=False``, without their local part."""
    vocoder, reader = model.vocoder, model.pitch_reader
    rows = PitchRows(vocoder.hop, vocoder.sample_rate)
    # A frame more to either side, whose pitch an edge takes.
    reach = 1 if reader is None else reader.receptive_field
    channels = []

    def together():
        for condition in conditions:
            f0 = None if condition.f0 is None else condition.f0[:, None]
            parts = condition.log_mel, f0, condition.local if local else None
            channels[:] = [0 if part is None else part.shape[1] for part in parts]
            yield torch.cat([at_least_fp32(part) for part in parts if part is not None], dim=1)

    for window, first, new in windows(together(), reach):
        log_mel, f0, signal = window.split(channels, dim=1)
        with torch.no_grad():
            pitch = held_pitch(f0[:, 0]) if reader is None else reader(log_mel.float())
            part = rows.of(*(x[:, first : first + new] for x in pitch))
        log_mel, f0, signal = (
            x[..., first : first + new] if x.shape[1] else None for x in (log_mel, f0, signal)
        )
        f0 = None if f0 is None else f0[:, 0]
        yield Condition(signal, vocoder.hop, None, log_mel, f0=f0), part


def excited_parts(model, conditions):
    """What ``model.excited`` gives, of consecutive Conditions; those that are so already pass."""
    conditions = iter(conditions)
    first = next(conditions, None)
    if first is None:
        return
    rest = _before(first, conditions)
    if first.local.shape[1] > model.vocoder.condition_channels:
        yield from rest
        return
    for condition, rows in pitched(model, rest):
        yield condition._replace(local=torch.cat([condition.local, rows], dim=1))


def followed_parts(model, conditions, wavs):
    """What ``model.excited`` gives of Conditions and their recording, which comes in parts
    ``[batch, n]``, whole hops together; zeros follow it."""
    hop, rate = model.vocoder.hop, model.vocoder.sample_rate
    wavs, wav, done, sizes = iter(wavs), Buffer(), 0, []

    def together():
        nonlocal done
        for condition, rows in pitched(model, conditions):
            frames = rows.shape[-1]
            while wav.end < (done + frames) * hop and (part := next(wavs, None)) is not None:
                wav.append(part)
            recording = wav.take(done * hop, (done + frames) * hop)
            recording = pad(recording, (0, frames * hop - recording.shape[1]))
            done += frames
            wav.drop(done * hop)
            parts = recording.unflatten(1, (-1, hop)).mT, rows, condition.local, condition.log_mel
            sizes[:] = [part.shape[1] for part in parts]
            yield torch.cat(parts, dim=1)

    # As far as the window, and the frame towards which F0 is interpolated there.
    reach = WINDOW // 2 // hop + 1
    for window, first, new in windows(together(), reach):
        recording, rows, local, log_mel = window.split(sizes, dim=1)
        f0 = pad(rows[:, 0], (0, 1), mode="replicate")
        phase = followed_phase(recording.mT.flatten(1), f0, hop, rate)[:, None, :-1]
        local = torch.cat([local, rows[:, :2], phase], dim=1)[..., first : first + new]
        yield Condition(local, hop, None, log_mel[..., first : first + new])


def swapped_parts(there, source, target):
    """:func:`~waveglow_vq.lobes.source.excitation.swapped` of consecutive Conditions, which may be
    cut differently."""
    streams = [(iter(stream), Buffer(), Buffer()) for stream in (source, target)]
    done = 0
    for first in there:
        frames, others = first.local.shape[-1], []
        for stream, local, log_mel in streams:
            while local.end < done + frames and (part := next(stream, None)) is not None:
                local.append(part.local)
                log_mel.append(part.log_mel)
            own = (x.take(done, done + frames) for x in (local, log_mel))
            others.append(Condition(next(own), first.hop, None, next(own)))
            local.drop(done + frames)
            log_mel.drop(done + frames)
        done += frames
        yield swapped(first, *others)


def _before(first, rest):
    yield first
    yield from rest
