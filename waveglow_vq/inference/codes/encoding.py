"""Codes of waveforms of any length, in windows.

Authors
 * The waveglow-vq developers, 2026
"""

import math

from waveglow_vq.inference.streaming.waveform import NO_CONTEXT
from waveglow_vq.utils.windows import windows

import torch

# Seconds of sound that are encoded at once.
WINDOW_SECONDS = 10


def code_blocks(conditioner, features, wavs, context=NO_CONTEXT):
    """The codes of a waveform, block by block.

    Each window reaches as far beyond what is new in it as the encoder sees. With instance
    normalization, whose statistics are of the whole utterance, there is one window: of log-mels,
    which take a twentieth of what the waveform's flows would.

    Arguments
    ---------
    conditioner : Conditioner
        One with codes, in evaluation mode.
    features : LogMel
        Its features.
    wavs : iterable of torch.Tensor
        The waveform ``[n]``, in blocks of any length. Conditioners of waveforms see zeros behind
        its end, up to a whole hop of the features, as in training.
    context : context manager
        Entered for each window, for autocast.

    Yields
    ------
    torch.Tensor
        int64 ``[1, t]``; together, what ``conditioner.encode`` gives for the whole.
    """
    hop, reach = features.hop_length, conditioner.encoder_receptive_field
    frames = int(WINDOW_SECONDS * features.sample_rate) // hop
    inputs, per_code = conditioner.input_blocks(features, wavs), conditioner.stride
    # Windows of whole codes and, of codes shorter than that, whole frames.
    unit = math.lcm(conditioner.samples_per_code, hop) // conditioner.input_hop
    most = max(1, frames * hop // conditioner.input_hop // unit) * unit
    if reach is None:
        whole = torch.cat(list(inputs), dim=-1)
        parts = [(whole, 0, whole.shape[-1])]
    else:
        parts = windows(inputs, math.ceil(reach * per_code / unit) * unit, unit, most)
    for window, first, new in parts:
        with torch.no_grad(), context:
            codes = conditioner.encode(window)
        yield codes[:, first // per_code : math.ceil((first + new) / per_code)]
