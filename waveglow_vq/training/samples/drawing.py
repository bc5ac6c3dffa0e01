"""Samples of training segments and of utterances, with gradients."""

from waveglow_vq.lobes.conditioners.speaker_condition import UNKNOWN
from waveglow_vq.lobes.flows.waveglow import draw_noise
from waveglow_vq.lobes.mel_consistency import mel_consistent
from waveglow_vq.utils.masking import whole_lengths

import torch


def draw_samples(model, features, inputs, sigma=1.0, iterations=0, margin=0, generator=None):
    """Draws what a model says in the place of its recordings; differentiable in its weights.

    A segment is cut out of an utterance whose log-mel knows of the samples around it. So some
    frames more are drawn on either side, where there are any, and cut off behind the iterations, to
    which a waveform ends where it is cut.

    Arguments
    ---------
    model : WaveGlowVQ
        Without codes; not wrapped.
    features : LogMel
        The feature contract, on the model's device.
    inputs : dict
        The arguments of the model's ``forward``; see there.
    sigma : float
        Standard deviation of the noise.
    iterations : int
        Of :func:`~waveglow_vq.lobes.mel_consistency.mel_consistent`, towards the given log-mel.
    margin : int
        Frames on either side of a segment.
    generator : torch.Generator or int
        See :meth:`~waveglow_vq.lobes.model.WaveGlowVQ.sample`.

    Returns
    -------
    torch.Tensor
        ``[batch, samples]`` as ``inputs["wav"]``.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.conditioners import MelConditioner
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> features = LogMel()
    >>> vocoder = WaveGlow(features, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    >>> model = WaveGlowVQ(MelConditioner(features, channels=16), vocoder)
    >>> inputs = {"wav": torch.zeros(2, 2048), "mel": torch.randn(2, 80, 24) - 5}
    >>> inputs["starts"] = torch.tensor([0, 15])
    >>> draw_samples(model, features, inputs, iterations=2, margin=3).shape
    torch.Size([2, 2048])
    """
    wav, mel, mel_lens = inputs["wav"], inputs["mel"], inputs.get("mel_lens")
    hop = features.hop_length
    speaker = inputs.get("speaker")
    if speaker is None:
        speaker = torch.full((len(wav),), UNKNOWN, device=wav.device)
    who = (inputs.get(name) for name in ("reference", "reference_lens", "f0_statistics"))
    vectors, statistics = model.global_condition(speaker, *who)
    condition = model.condition(mel, mel_lens, vectors, None, statistics)
    if model.vocoder.excitation:
        condition = _with_phases(model, condition, mel_lens, wav, inputs.get("starts"))

    frames = wav.shape[-1] // hop
    first, offset = inputs.get("starts"), 0
    if first is None:
        first, margin = torch.zeros(len(wav), dtype=torch.long, device=wav.device), 0
    drawn = frames + 2 * margin
    if margin:
        known = torch.full_like(first, mel.shape[-1])
        if mel_lens is not None:
            known = whole_lengths(mel_lens, mel.shape[-1])
        begin = torch.minimum(first - margin, known - drawn - 1).clamp_min(0)
        first, offset = begin, first - begin
    # And the frame that follows, towards which the last one is interpolated.
    piece = condition.cropped(drawn + 1, first, mel_lens)
    samples = inputs.get("wav_lens")
    if samples is not None:
        samples = whole_lengths(samples, frames) * hop

    group = model.vocoder.group_size
    z = draw_noise(piece.local, group, drawn * hop // group, generator) * sigma
    sound = model.vocoder.inverse(z, piece.local, piece.log_mel, vectors, samples)
    sound = mel_consistent(sound, piece.log_mel, features, iterations, samples)
    if margin:
        place = torch.arange(wav.shape[-1], device=wav.device) + offset[:, None] * hop
        sound = sound.gather(1, place)
    return sound


def _with_phases(model, condition, lengths, wav, starts):
    """The Condition of flows that see pulses, whose phase is that of the recordings: what short
    windows see of a sample and of its recording can be compared. Around a segment it goes on as the
    integral of F0."""
    whole, there = model.excited(condition, lengths), model.excited(condition, lengths, wav, starts)
    integral, followed = whole.local[:, -1], there.local[:, -1]
    first = 0 if starts is None else starts[:, None]
    frames = torch.arange(followed.shape[-1], device=wav.device).expand(len(wav), -1)
    last = integral.shape[-1] - 1
    ahead = followed - integral.gather(1, (frames + first).clamp_max(last))
    place = torch.arange(last + 1, device=wav.device) - first
    place = place.clamp(0, frames.shape[1] - 1).expand(len(wav), -1)
    phase = (integral + ahead.gather(1, place)) % 1
    return whole._replace(local=torch.cat([whole.local[:, :-1], phase[:, None]], dim=1))
