"""Conversions of recordings of any length: the decoder of the condition and the flows, which take
the time and the memory, go over them window by window (see streaming/waveform.py). What is said,
and its pitch, is analyzed as a whole.
"""

import itertools
import math

from waveglow_vq.inference.conversion.analysis import analyze
from waveglow_vq.inference.conversion.voices import flat_pitch, unknown_voice
from waveglow_vq.inference.conversion.whole_utterances import Content, content_condition
from waveglow_vq.inference.streaming.pitch_parts import (
    excited_parts,
    followed_parts,
    swapped_parts,
)
from waveglow_vq.inference.streaming.refining import as_iterations, stream_refined
from waveglow_vq.inference.streaming.waveform import (
    NO_CONTEXT,
    condition_blocks,
    stream_noise,
    stream_waveform,
)
from waveglow_vq.lobes.conditioners.pitch_condition import pitch_from_values
from waveglow_vq.utils.windows import cropped

import torch


@torch.no_grad()
def stream_codes(
    model,
    features,
    code_file,
    voice,
    sigma=1.0,
    generator=None,
    keep_pitch=True,
    context=NO_CONTEXT,
    refine=0,
):
    """Decodes a CodeFile for a Voice, or None: for whoever spoke, as far as the file says.

    The model has speakers and is in evaluation mode; ``sigma`` and ``generator`` are as for
    :func:`~waveglow_vq.inference.streaming.waveform.stream_waveform`. ``keep_pitch`` says whether
    the intonation is kept, and ``context`` is entered for each window, for autocast; ``refine`` is
    the number of mel-consistent iterations towards the predicted log-mel. The blocks ``[n]`` have
    ``code_file.samples`` samples together.
    """
    device = next(model.parameters()).device
    if voice is None:
        voice = unknown_voice(model)
        if code_file.voice is not None:
            voice = voice._replace(vector=code_file.voice[None].to(voice.vector))
        if code_file.f0_statistics is not None:
            statistics = code_file.f0_statistics[None].to(voice.f0_statistics)
            voice = voice._replace(f0_statistics=statistics)
    frames = model.conditioner.frame_count(code_file.samples)
    content = Content(code_file.codes[None].to(device), None, frames)
    pitch = None
    if model.uses_pitch:
        condition = model.conditioner.pitch
        values = code_file.pitch[None].to(device)
        pitch = pitch_from_values(values, condition.stride, condition.levels, frames)
        pitch = pitch if keep_pitch else flat_pitch(pitch)
    conditions = content_blocks(model, content, voice, pitch, context)
    options = {"speaker": voice.vector, "sigma": sigma, "generator": generator, "context": context}
    iterations = as_iterations(model, refine)
    wavs = stream_refined(model, features, conditions, iterations, **options)
    return (wav[0] for wav in cropped(wavs, code_file.samples))


@torch.no_grad()
def stream_swap(model, features, read, source, target, keep_pitch=True, context=NO_CONTEXT):
    """Sends a recording to noise as the source's and back as the target's, in blocks ``[n]``, as
    long as the recording.

    ``read`` gives the blocks ``[n]`` of the recording, from its beginning, whenever it is called.
    Source and target are Voices; None: whoever speaks, as far as the model knows. All else is as
    for :func:`stream_codes`.
    """
    hop, device = features.hop_length, next(model.parameters()).device
    analysis = analyze(model, features, read, whole_hops=True, context=context)
    source, target = source or analysis.voice, target or analysis.voice
    pitch = analysis.pitch
    if pitch is not None and not keep_pitch:
        pitch = flat_pitch(pitch)
    there, back = (
        content_blocks(model, analysis.content, voice, pitch, context) for voice in (source, target)
    )
    frames = math.ceil(analysis.samples / hop)

    def whole_hops():
        for block in read():
            block = block[None].to(device)
            yield block
        yield block.new_zeros(1, -analysis.samples % hop)

    if model.vocoder.excitation:
        there, again, from_source = itertools.tee(there, 3)
        followed = followed_parts(model, again, whole_hops())
        back = swapped_parts(
            followed, excited_parts(model, from_source), excited_parts(model, back)
        )
    noise = stream_noise(model, there, whole_hops(), frames, source.vector, context=context)
    wavs = stream_waveform(model, back, target.vector, noise=noise, frames=frames, context=context)
    return (wav[0] for wav in cropped(wavs, analysis.samples))


def content_blocks(model, content, voice, pitch=None, context=NO_CONTEXT):
    """The Conditions of the Content of one utterance, block by block: together, what
    :func:`~waveglow_vq.inference.conversion.whole_utterances.content_condition` gives for the
    whole. ``context`` is entered for each window, for autocast."""
    conditioner = model.conditioner
    name, axis = ("features", -1) if content.codes is None else ("codes", 1)
    whole = getattr(content, name)
    hop, per_code = conditioner.frame_hop, conditioner.samples_per_code
    reach = conditioner.receptive_field
    if model.uses_pitch:
        # Which is interpolated towards the values beside a frame's own, and then convolved.
        reach += math.ceil((2 * conditioner.pitch.stride + 1) * hop / per_code)

    def frames(step):
        return min(step * per_code // hop, content.frames)

    def condition_of(places):
        begin, end = int(places[0]), int(places[-1]) + 1
        first, last = frames(begin), frames(end)
        piece = whole.narrow(axis, begin, end - begin)
        part = Content(None, None, last - first)._replace(**{name: piece})
        return content_condition(
            model, part, voice, None if pitch is None else pitch[:, first:last]
        )

    places = [torch.arange(whole.shape[axis])]
    return condition_blocks(condition_of, places, reach, conditioner.code_unit, context)
