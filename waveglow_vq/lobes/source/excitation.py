"""Flows that see what excites the voice: pulses at its pitch, beside the local condition.

The rows of the pitch (see pitch_rows.py) go behind the channels of the local condition, so that
they are cropped and cut as it is; the vocoder makes pulses of them. On the way to noise their phase
follows the recording's own fundamental, on the way back it is the integral of F0. Given the rows,
the likelihood is exact.
"""

from waveglow_vq.lobes.source.pitch_rows import PitchRows, followed_phase, held_pitch
from waveglow_vq.lobes.source.pulses import at_samples, pulse_train
from waveglow_vq.utils.masking import crop_frames

import torch


def excitation(rows, hop_length, sample_rate):
    """Pulses where it is voiced, and zero elsewhere, ``[batch, (frames - 1) * hop_length]``, of the
    rows ``[batch, 3, frames]`` of a pitch."""
    voicing = at_samples(rows[:, 1], hop_length).flatten(1)
    return pulse_train(rows, hop_length, sample_rate) * voicing


def pitch_of(condition, reader, lengths=None):
    """F0 in Hz, positive, and voicing, ``[batch, 2, frames + 1]``, of a Condition: read off its
    log-mel, or, without a reader, as they were given beside codes. Behind the end of an item, by
    its relative length, the last frame is held."""
    frames = (condition.f0 if reader is None else condition.log_mel).shape[-1]
    with torch.no_grad():
        if reader is None:
            given = crop_frames(condition.f0[:, None].float(), frames, lengths=lengths)
            pitch = torch.stack(held_pitch(given[:, 0]), dim=1)
        else:
            held = frames + reader.receptive_field
            log_mel = crop_frames(condition.log_mel.float(), held, lengths=lengths)
            with torch.autocast(log_mel.device.type, enabled=False):
                pitch = torch.stack(reader(log_mel), dim=1)[..., :frames]
        return crop_frames(pitch, frames + 1, lengths=lengths)


def excited(condition, vocoder, reader, lengths=None, wav=None, starts=None):
    """A Condition with the rows of its pitch behind the channels of ``local``.

    Arguments
    ---------
    condition : Condition
        Of whole utterances; with frames of the features.
    vocoder : WaveGlow
        Gives hop and sampling rate.
    reader : PitchReader
        Reads the pitch; None where it is given.
    lengths : torch.Tensor
        Relative lengths ``[batch]``, or None where nothing is padded.
    wav : torch.Tensor
        Recordings ``[batch, samples]``, zero where padded, whose fundamental the phase follows;
        None: it is the integral of F0.
    starts : torch.Tensor
        First frames ``[batch]`` of the recordings in the condition, which then is cropped to them,
        with the frame that follows; 0 where None.

    Returns
    -------
    Condition
        That no longer is cropped by lengths.
    """
    hop, rate = vocoder.hop, vocoder.sample_rate
    pitch = pitch_of(condition, reader, lengths)
    if wav is None:
        condition = condition.cropped(lengths=lengths)
        rows = PitchRows(hop, rate).of(*pitch.unbind(1))
    else:
        frames = wav.shape[-1] // hop
        condition = condition.cropped(min(frames + 1, condition.local.shape[-1]), starts, lengths)
        pitch = crop_frames(pitch, frames + 1, starts)
        phase = followed_phase(wav[:, : frames * hop], pitch[:, 0], hop, rate)
        rows = torch.cat([pitch, phase[:, None]], dim=1)
    rows = rows[..., : condition.local.shape[-1]]
    return condition._replace(local=torch.cat([condition.local, rows], dim=1))


def swapped(there, source, target):
    """The Condition of a target for the way back from noise: its own pitch, and the phase by which
    the recording's fundamental is ahead of the integral of the source's F0.

    Arguments
    ---------
    there : Condition
        With which the recording was sent to noise.
    source, target : Condition
        With integrals for phases.
    """
    ahead = there.local[:, -1:] - source.local[:, -1:]
    local = target.local[..., : ahead.shape[-1]]
    phase = (local[:, -1:] + ahead) % 1
    return target._replace(local=torch.cat([local[:, :-1], phase], dim=1))
