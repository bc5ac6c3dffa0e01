"""What a model has to be better than: sound made of the same log-mel without one."""

from waveglow_vq.lobes.mel_consistency import refine_voiced, shaped_noise
from waveglow_vq.lobes.source.pitch_reader import is_readable, shipped_pitch_reader
from waveglow_vq.lobes.source.pitch_rows import PitchRows

import torch

# Where the model has none of its own.
ITERATIONS = 20


def no_model_name(iterations, pulses=False):
    """How the row is called.

    Example
    -------
    >>> no_model_name(20)
    'no model, 20 iterations'
    >>> no_model_name(1, pulses=True)
    'no model, pulses at the pitch read, 1 iteration'
    """
    start = "pulses at the pitch read, " if pulses else ""
    return f"no model, {start}{iterations} iteration{'s' if iterations != 1 else ''}"


@torch.no_grad()
def without_model(recording, features, iterations=ITERATIONS, generator=0, pulses=False):
    """The log-mel of a recording [N] turned into sound [N] by mel-consistent iterations that begin
    with noise; with ``pulses``, voiced frames begin with pulses at the pitch that is read off the
    log-mel (see :func:`~waveglow_vq.lobes.source.pitch_reader.is_readable`).

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> without_model(torch.rand(8192), LogMel(), 2).shape
    torch.Size([8192])
    """
    wav = recording[None].cpu().float()
    target = log_mel = features(wav)
    noise = shaped_noise(log_mel, features, wav.shape[1], generator)
    if pulses:
        rows = PitchRows(features.hop_length, features.sample_rate)
        pitch = rows.of(*shipped_pitch_reader()(log_mel))
        target = torch.cat([log_mel, pitch], dim=1)
    return refine_voiced(noise, target, features, iterations)[0]


def sounds_without_model(recording, features, iterations=ITERATIONS):
    """What :func:`without_model` makes of a recording [N], ``{row: samples [N]}``: from noise and,
    where pitch is read off log-mels of these features, from pulses. Nothing for 0 iterations.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> list(sounds_without_model(torch.rand(8192), LogMel(sample_rate=16000), 2))
    ['no model, 2 iterations']
    """
    starts = [False, True] if is_readable(features) else [False]
    return {
        no_model_name(iterations, pulses): without_model(
            recording, features, iterations, pulses=pulses
        )
        for pulses in (starts if iterations else ())
    }
