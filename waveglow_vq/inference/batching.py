"""Padded batches of waveforms and log-mels."""

import math

from waveglow_vq.audio.blocks import log_mel_blocks

import torch

# Samples whose log-mel is computed at once.
LOG_MEL_SAMPLES = 2**19


def batch_log_mels(features, wavs, counts):
    """Log-mels ``[B, n_mels, T]`` of waveforms ``[B, N]``, ``counts`` samples of each, and the
    frames of each. An item's frames at its end see the reflection of its own samples, never the
    padding of its batch. Of long waveforms they are computed block by block."""
    is_short = wavs.shape[1] <= LOG_MEL_SAMPLES
    if is_short and bool((counts == wavs.shape[1]).all()):
        log_mels = features(wavs)
        frames = torch.full_like(counts, log_mels.shape[-1])
        return log_mels, frames
    items = [
        torch.cat(list(log_mel_blocks(features, wav[:n].split(LOG_MEL_SAMPLES))), dim=1).T
        for wav, n in zip(wavs, counts.tolist(), strict=True)
    ]
    frames = torch.tensor([len(item) for item in items], device=wavs.device)
    padded = torch.nn.utils.rnn.pad_sequence(
        items, batch_first=True, padding_value=math.log(features.floor)
    )
    return padded.transpose(1, 2), frames
