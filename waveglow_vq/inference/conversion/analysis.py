"""Recordings of any length to what conversions need of them, block by block, and to codes.

What is kept of a recording is at frame rate: its log-mel or codes, and its pitch. So an hour takes
the memory of a few minutes of waveforms.
"""

from typing import NamedTuple

from waveglow_vq.audio.blocks import log_mel_blocks
from waveglow_vq.audio.pitch import PitchTracker
from waveglow_vq.inference.codes.coding import code_blocks, new_code_file
from waveglow_vq.inference.conversion.voices import Voice, own_f0_statistics, unknown_voice
from waveglow_vq.inference.conversion.whole_utterances import Content
from waveglow_vq.inference.streaming.waveform import NO_CONTEXT
from waveglow_vq.lobes.conditioners.pitch_condition import normalize_pitch, pitch_values

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
    voice : Voice
        Who speaks: the vector that an encoder of speakers hears, else that of unknown speakers;
        the statistics of the recording's own log-F0, or where the model uses no pitch, or nothing
        is voiced, those of unknown speakers.
    """

    samples: int
    content: Content
    pitch: torch.Tensor
    voice: Voice


@torch.no_grad()
def analyze(model, features, read, whole_hops=False, context=NO_CONTEXT):
    """The Analysis of a recording by a model with speakers, in evaluation mode.

    ``read`` gives the blocks ``[n]`` of the recording, from its beginning, whenever it is called.
    With ``whole_hops``, and always for models of waveforms, the content is that of the recording
    with zeros behind its end, up to a whole hop. ``context`` is entered where the model computes,
    for autocast.
    """
    hop, device = features.hop_length, next(model.parameters()).device
    tracker = PitchTracker(features.sample_rate, hop) if model.uses_pitch else None
    samples = 0

    def passing():
        nonlocal samples
        for block in read():
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
        codes = torch.cat(list(code_blocks(conditioner, features, passing(), context)), dim=1)
    frames = conditioner.frame_count(samples + (-samples % hop if whole_hops else 0))
    content = Content(codes, inputs, frames)
    pitch, voice = None, unknown_voice(model)
    if tracker is not None:
        log_f0 = tracker.finish()
        statistics = own_f0_statistics(log_f0, voice.f0_statistics[0])[None]
        pitch = normalize_pitch(log_f0[None].to(statistics), statistics)
        voice = voice._replace(f0_statistics=statistics)
    if model.speakers.hears_references:
        log_mel = list(log_mel_blocks(features, (block.to(device) for block in read())))
        with context:
            vector = model.speakers(reference=torch.cat(log_mel, dim=-1)[None])
        voice = voice._replace(vector=vector)
    return Analysis(samples, content, pitch, voice)


def recording_code_file(interface, read):
    """The CodeFile of a recording (``read`` as for :func:`analyze`), from a VoiceConverter with
    codes."""
    model, context = interface.mods.model, interface.inference_ctx
    analysis, pitch = analyze(model, interface.mods.features, read, context=context), None
    if model.uses_pitch:
        condition = model.conditioner.pitch
        pitch = pitch_values(analysis.pitch, condition.stride, condition.levels)[0]
    codes = analysis.content.codes[0]
    return new_code_file(interface, codes, analysis.samples, pitch, analysis.voice)
