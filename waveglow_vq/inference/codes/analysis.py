"""Recordings of any length to what conversions need of them, block by block.

What is kept of a recording is at frame rate: its log-mel or codes, and its pitch. So an hour takes
the memory of a few minutes of waveforms.

Authors
 * The waveglow-vq developers, 2026
"""

from typing import NamedTuple

from waveglow_vq.audio.blocks import log_mel_blocks
from waveglow_vq.audio.pitch import PitchTracker
from waveglow_vq.inference.codes.encoding import code_blocks
from waveglow_vq.inference.conversion.whole_utterances import (
    Content,
    own_f0_statistics,
)
from waveglow_vq.inference.streaming.waveform import NO_CONTEXT
from waveglow_vq.lobes.conditioners.pitch_condition import normalize_pitch
from waveglow_vq.lobes.conditioners.speaker_condition import UNKNOWN

import torch


class Analysis(NamedTuple):
    """What a recording says, and how.

    Arguments
    ---------
    samples : int
        Its length.
    content : Content
        What is said.
    pitch : torch.Tensor
        ``[1, frames, 2]``, normalized by the recording's own statistics; None for models without
        pitch.
    f0_statistics : torch.Tensor
        Mean and standard deviation of its log-F0, ``[1, 2]``; where the model uses no pitch, or
        nothing is voiced, those of an unknown speaker.
    """

    samples: int
    content: Content
    pitch: torch.Tensor
    f0_statistics: torch.Tensor


@torch.no_grad()
def analyze(model, features, blocks, whole_hops=False, context=NO_CONTEXT):
    """Analyzes a recording.

    Arguments
    ---------
    model : WaveGlowVQ
        A model with speakers, in evaluation mode.
    features : LogMel
        Its features.
    blocks : iterable of torch.Tensor
        The recording, ``[n]`` each.
    whole_hops : bool
        Whether the content is that of the recording with zeros behind its end, up to a whole hop;
        for models of waveforms it is always.
    context : context manager
        Entered where the model computes, for autocast.

    Returns
    -------
    Analysis
    """
    hop, device = features.hop_length, next(model.parameters()).device
    tracker = PitchTracker(features.sample_rate, hop) if model.uses_pitch else None
    samples = 0

    def passing():
        nonlocal samples
        for block in blocks:
            samples += len(block)
            if tracker is not None:
                tracker.add(block)
            yield block.to(device)
        if whole_hops:
            yield torch.zeros(-samples % hop, device=device, dtype=torch.float32)

    conditioner, codes, inputs = model.conditioner, None, None
    if model.quantizer is None:
        inputs = torch.cat(list(conditioner.input_blocks(features, passing())), dim=-1)
    else:
        codes = torch.cat(list(code_blocks(conditioner, features, passing(), context)), dim=-1)
    frames = conditioner.frame_count(samples + (-samples % hop if whole_hops else 0))
    content = Content(codes, inputs, frames)
    unknown = torch.tensor([UNKNOWN], device=device)
    pitch, f0_statistics = None, model.speakers.f0_statistics(unknown)
    if tracker is not None:
        log_f0 = tracker.finish()
        f0_statistics = own_f0_statistics(log_f0, f0_statistics[0])[None]
        pitch = normalize_pitch(log_f0[None].to(f0_statistics), f0_statistics)
    return Analysis(samples, content, pitch, f0_statistics)


@torch.no_grad()
def own_vector(model, features, blocks, context=NO_CONTEXT):
    """The vector ``[1, C]`` of the voice in a recording in blocks ``[n]``: what a model with an
    encoder of speakers hears in it, else, without a look at it, that of unknown speakers."""
    speakers = model.speakers
    if speakers.source != "encoder":
        return speakers(torch.tensor([UNKNOWN], device=speakers.unknown.device))
    device = speakers.unknown.device
    log_mel = list(log_mel_blocks(features, (block.to(device) for block in blocks)))
    with context:
        return speakers(reference=torch.cat(log_mel, dim=-1)[None])
