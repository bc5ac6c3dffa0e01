"""The high-pass and the level of speech that recordings can be brought to in preparation."""

import math

import torch

_FRAME_SECONDS = 0.02
# A recording that is this far below is noise, or spoiled: more gain does not help it.
MAX_GAIN_DB = 20.0


def high_pass(wav, sample_rate, cutoff_hz):
    """Removes what lies below a frequency from `wav` [N], without delay and with zero phase.

    From `cutoff_hz` on nothing changes; the edge is a quarter of a sine and ends an octave below,
    where nothing is left.

    Example
    -------
    >>> time = torch.arange(22050) / 22050
    >>> rumble, tone = (torch.sin(2 * math.pi * hz * time) for hz in (30, 200))
    >>> bool((high_pass(rumble + tone, 22050, 70.0) - tone)[2000:-2000].abs().max() < 0.01)
    True
    """
    if len(wav) < 2:
        return wav
    # The signal goes on, turned around, beyond its ends: where rumble broke off, a click would be.
    more = min(len(wav) - 1, sample_rate // 10)
    before = 2 * wav[0] - wav[1 : more + 1].flip(0)
    after = 2 * wav[-1] - wav[len(wav) - 1 - more : -1].flip(0)
    longer = torch.cat([before, wav, after])
    n_fft = 1 << (len(longer) + more).bit_length()
    hz = torch.fft.rfftfreq(n_fft, 1 / sample_rate, dtype=wav.dtype).clamp_min(1e-3)
    gain = (math.pi / 2 * ((hz / cutoff_hz).log2() + 1).clamp(0, 1)).sin()
    filtered = torch.fft.irfft(torch.fft.rfft(longer, n_fft) * gain, n_fft)
    return filtered[more : more + len(wav)]


def frame_energies(wav, sample_rate):
    """Energies of the frames of 20 ms of `wav` [N], and the samples in a frame."""
    frame = max(1, round(_FRAME_SECONDS * sample_rate))
    whole = torch.nn.functional.pad(wav, (0, -len(wav) % frame))
    return whole.view(-1, frame).square().sum(1), frame


def speech_level_dbfs(wav, sample_rate, threshold_db):
    """RMS level of the speech in `wav` [N], in dB relative to an RMS of 1: of the frames of 20 ms
    that are not quieter than the loudest by the (negative) threshold; -inf for digital silence.

    Example
    -------
    >>> wav = torch.zeros(60_000)
    >>> wav[20_000:40_000] = 0.1
    >>> round(speech_level_dbfs(wav, 20_000, -35.0), 2)
    -20.0
    """
    energy, frame = frame_energies(wav.double(), sample_rate)
    active = energy[energy > energy.max() * 10 ** (threshold_db / 10)]
    return 10 * math.log10(float(active.mean()) / frame) if len(active) else -math.inf


def gain_to(loudness_dbfs, wav, sample_rate, threshold_db, draw):
    """The factor that brings the speech of `wav` [N] to a level, at most 20 dB up.

    `loudness_dbfs` is the level, or the lowest and the highest of a range, within which `draw`, a
    number in [0, 1), says which.
    """
    if not isinstance(loudness_dbfs, int | float):
        lowest, highest = loudness_dbfs
        loudness_dbfs = lowest + draw * (highest - lowest)
    level = speech_level_dbfs(wav, sample_rate, threshold_db)
    if not math.isfinite(level):
        return 1.0
    return 10 ** (min(loudness_dbfs - level, MAX_GAIN_DB) / 20)
