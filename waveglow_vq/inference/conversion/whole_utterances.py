"""Voice conversion with a model in memory: the same words, another speaker.

Two ways. Through the codes: what they leave of the recording, and its pitch moved to the target's
range, are decoded for the target. By latent swap: the flows send the waveform to noise as the
source speaker's and back to a waveform as the target's, so that nothing is lost, and only as
much changes as flows and condition know of speakers.
"""

from typing import NamedTuple

from waveglow_vq.errors import UserError
from waveglow_vq.inference.batching import batch_log_mels
from waveglow_vq.inference.conversion.voices import utterance_pitch
from waveglow_vq.inference.streaming.refining import as_iterations, refined
from waveglow_vq.lobes.source.excitation import swapped
from waveglow_vq.utils.masking import fill_padding, relative_lengths

import torch

MODES = ("codes", "latent_swap")


@torch.no_grad()
def convert_utterances(
    model,
    features,
    wavs,
    counts,
    target,
    mode="codes",
    source=None,
    sigma=1.0,
    generator=None,
    pitch=None,
    refine=0,
):
    """Converts a batch of utterances with a model with speakers, in evaluation mode.

    Arguments
    ---------
    model, features : WaveGlowVQ, LogMel
        The model and its features.
    wavs : torch.Tensor or list of torch.Tensor
        Waveforms ``[B, N]``, or B waveforms of any lengths, at the model's rate.
    counts : torch.Tensor
        Samples of each, int64 ``[B]``; None: nothing is padded, or as long as the list says.
    target, source : Voice
        Who is to speak, for each item, and for ``latent_swap`` who speaks in the recordings. Where
        they are one, the waveform comes back as it was.
    mode : str
        ``codes`` or ``latent_swap``; others, or ``codes`` for a model without, are a UserError.
    sigma, generator
        Standard deviation of the noise, and a seed or a source of it, for ``codes``; a seed makes
        an item independent of its batch.
    pitch : torch.Tensor
        Normalized pitch ``[B, frames, 2]``, see
        :func:`~waveglow_vq.inference.conversion.voices.utterance_pitch`; None: tracked here where
        the model uses it.
    refine : int
        For ``codes``: mel-consistent iterations towards the predicted log-mels.

    Returns
    -------
    torch.Tensor
        ``[B, N]``, zero where padded.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.inference.conversion.voices import known_voice
    >>> from waveglow_vq.lobes.conditioners.mel import MelConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> features = LogMel()
    >>> flows = WaveGlow(features, 16, flows=2, layers=2, channels=8, speaker_channels=4)
    >>> speakers = SpeakerCondition(3, channels=4)
    >>> model = WaveGlowVQ(MelConditioner(features, channels=16), flows, speakers=speakers)
    >>> model = model.eval()
    >>> voice = known_voice(model, torch.tensor([2]))
    >>> wav = torch.randn(1, 2048) * 0.1
    >>> same = convert_utterances(model, features, wav, None, voice, "latent_swap", voice)
    >>> torch.allclose(same, wav, atol=1e-3)
    True
    """
    check_mode(model, mode)
    if isinstance(wavs, (list, tuple)):
        counts = torch.tensor([len(wav) for wav in wavs])
        wavs = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    weight = next(model.parameters())
    dtype = torch.promote_types(weight.dtype, torch.float32)
    wavs = wavs.to(weight.device, dtype)
    if counts is None:
        counts = torch.full((len(wavs),), wavs.shape[1])
    counts = counts.to(weight.device)
    if pitch is None and model.uses_pitch:
        pitch = utterance_pitch(model, features, wavs, counts)[0]
    target = target.to(dtype)
    if mode == "codes":
        options = target, pitch, sigma, generator, as_iterations(model, refine)
        result = _through_codes(model, features, wavs, counts, *options)
    else:
        if source is None:
            raise ValueError("latent_swap needs a source")
        result = _latent_swap(model, features, wavs, counts, target, source.to(dtype), pitch)
    return fill_padding(result[:, : wavs.shape[1]], counts, 0.0)


def check_mode(model, mode):
    """Raises a UserError if the model cannot convert in this way."""
    if mode not in MODES:
        raise UserError(f"mode: {mode!r} is not one of {', '.join(MODES)}")
    if mode == "codes" and model.quantizer is None:
        raise UserError(
            "mode: the model has no codes to convert through; choose mode latent_swap, or train a "
            "model with codes (hparams/vq.yaml)"
        )


class Content(NamedTuple):
    """What is said in utterances, as far as a model keeps it apart from who says it.

    Arguments
    ---------
    codes : torch.Tensor
        int64 ``[B, T]``, or ``[B, T, N]`` of several codebooks, -1 where padded; None for models
        without codes.
    features : torch.Tensor
        What the conditioner reads, for models without codes; else None.
    frames : int
        Frames of the features' hop.
    lengths : torch.Tensor
        Relative lengths ``[B]`` of what the conditioner reads; None where nothing is padded.
    """

    codes: torch.Tensor
    features: torch.Tensor
    frames: int
    lengths: torch.Tensor = None


def utterance_inputs(model, features, wavs, counts):
    """What the conditioner reads of utterances ``[B, N]``, ``counts`` samples of each ``[B]``: its
    Inputs, and the frames of the condition."""
    conditioner = model.conditioner
    log_mels, mel_counts = batch_log_mels(features, wavs, counts)
    frames = conditioner.frame_count(int(counts.max()))
    wavs, counts = _pad_to_hops(wavs, counts, features.hop_length)
    mel_lens = relative_lengths(mel_counts, log_mels.shape[-1])
    wav_lens = relative_lengths(counts, wavs.shape[1])
    return conditioner.inputs(log_mels.to(wavs.dtype), wavs, mel_lens, wav_lens), frames


def utterance_content(model, features, wavs, counts):
    """Encodes utterances ``[B, N]``, ``counts`` samples of each ``[B]``; returns Content."""
    inputs, frames = utterance_inputs(model, features, wavs, counts)
    if model.quantizer is None:
        return Content(None, inputs.features, frames, inputs.lengths)
    codes = model.conditioner.encode(inputs.features, inputs.lengths)
    return Content(codes, None, frames, inputs.lengths)


def content_condition(model, content, voice, pitch=None):
    """The Condition of the flows where a Voice says what ``content`` and ``pitch`` are about."""
    if model.uses_pitch:
        # Behind the end of a recording nobody speaks.
        missing = content.frames - pitch.shape[1]
        pitch = torch.nn.functional.pad(pitch, (0, 0, 0, max(0, missing))).to(voice.vector.dtype)
    call = content.lengths, voice.vector, pitch, voice.f0_statistics
    if content.codes is None:
        return model.condition(content.features, *call)
    return model.decode(content.codes, content.frames, *call)


def _through_codes(model, features, wavs, counts, target, pitch, sigma, generator, iterations):
    content = utterance_content(model, features, wavs, counts)
    condition = content_condition(model, content, target, pitch)
    lengths, options = content.lengths, {"sigma": sigma, "generator": generator}
    wavs = model.sample(condition, lengths, speaker=target.vector, **options)
    return refined(wavs, condition, model, features, iterations, lengths)


def _latent_swap(model, features, wavs, counts, target, source, pitch):
    """z = flows(waveform | source), waveform = inverse(z | target), over whole hops."""
    wavs, counts = _pad_to_hops(wavs, counts, features.hop_length)
    content = utterance_content(model, features, wavs, counts)
    wav_lens = relative_lengths(counts, wavs.shape[1])
    condition = content_condition(model, content, source, pitch)
    z, _, samples = model.to_noise(
        wavs, None, condition, wav_lens=wav_lens, mel_lens=content.lengths, speaker=source.vector
    )
    # The same frames as on the way there, see WaveGlowVQ.to_noise.
    there, lengths = condition, content.lengths
    condition = model.excited(content_condition(model, content, target, pitch), lengths)
    if model.vocoder.excitation:
        followed = model.excited(there, lengths, fill_padding(wavs, counts, 0.0))
        condition = swapped(followed, model.excited(there, lengths), condition)
    samples = None if wav_lens is None else samples
    return model.vocoder.inverse(z, condition.local, condition.log_mel, target.vector, samples)


def _pad_to_hops(wavs, counts, hop):
    counts = (counts + hop - 1) // hop * hop
    return torch.nn.functional.pad(wavs, (0, int(counts.max()) - wavs.shape[1])), counts
