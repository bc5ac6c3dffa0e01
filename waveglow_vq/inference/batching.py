"""Padded batches of waveforms and log-mels.

Authors
 * The waveglow-vq developers, 2026
"""

import math

from waveglow_vq.audio.blocks import log_mel_blocks
from waveglow_vq.errors import UserError
from waveglow_vq.inference.given import as_numbers
from waveglow_vq.utils.lengths import shares

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


def item_counts(option, lengths, batch, total):
    """Frames or samples of each item of a padded batch.

    Arguments
    ---------
    option : str
        Name of the argument, for the error.
    lengths : torch.Tensor or list
        ``[batch]``. Whole numbers count; fractions in (0, 1] are relative to ``total``, as
        SpeechBrain's lengths are. None: nothing is padded.
    batch, total : int
        Shape of the padded batch.

    Returns
    -------
    torch.Tensor
        int64 ``[batch]``.

    Example
    -------
    >>> item_counts("mel_lens", torch.tensor([50, 100]), 2, 100)
    tensor([ 50, 100])
    >>> item_counts("wav_lens", torch.tensor([0.5, 1.0]), 2, 100)
    tensor([ 50, 100])
    """
    if lengths is None:
        return torch.full((batch,), total)
    counts = as_numbers(option, lengths).detach().cpu().flatten()
    if counts.shape != (batch,):
        raise UserError(f"{option}: {counts.numel()} lengths for a batch of {batch}")
    if counts.is_floating_point():
        if counts.dtype.itemsize < 4:
            raise UserError(
                f"{option}: {str(counts.dtype).removeprefix('torch.')} cannot tell {total} lengths "
                "apart; give whole numbers, or fp32"
            )
        # A relative length of 1 and a count of 1 look alike; a batch of one-frame items is
        # not what anybody decodes.
        counts = counts.double()
        counts = (counts * total if bool((counts <= 1).all()) else counts).round()
    if not bool(((counts >= 1) & (counts <= total)).all()):
        raise UserError(f"{option}: {lengths} does not fit a batch that is {total} long")
    return counts.long()


def relative_lengths(counts, total):
    """Relative lengths ``[B]``, or None where nothing is padded."""
    return None if bool((counts == total).all()) else shares(counts, total)


def fill_padding(x, counts, value):
    """Sets what lies behind the first ``counts`` steps, on the last dimension, to ``value``."""
    padding = torch.arange(x.shape[-1], device=x.device) >= counts.to(x.device)[:, None]
    return x.masked_fill(padding if x.dim() == 2 else padding[:, None], value)
