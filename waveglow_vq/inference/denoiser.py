"""Denoiser: subtracts the constant tone of a WaveGlow from its output.

Without noise, the flows should give silence. They give a constant tone at multiples of the rate of
their groups (an eighth of the sample rate), which is heard behind quiet speech. As published with
NVIDIA's WaveGlow, a share of its magnitude spectrum is subtracted from every frame; phases stay.
"""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.utils.devices import at_least_fp32

import torch

N_FFT = 1024
HOP = 256
# A sample depends on the samples less than this far away: the frames that it is in reach there.
MARGIN = N_FFT


def denoise(signal, bias_magnitude, strength):
    """Subtracts a magnitude spectrum from that of every frame; phases stay.

    Frames of 1024 samples under a Hann window are centred on every multiple of 256 samples. What is
    outside of the signal counts as silence, at its ends and for padding alike: where an item's
    padding is zero, it gets what it gets alone, and its padding is to be set to zero again.

    A slice of a long signal that begins at a multiple of ``HOP`` gives the same samples as the
    whole, but for the first and last ``MARGIN`` samples (at the true ends, for all).

    The signal ``[batch, samples]`` is of any length, and fp64 stays, all else becomes fp32. The
    spectrum ``[513]`` is that of :func:`bias_magnitude`. ``strength`` is how often it is
    subtracted: 0 changes nothing; 0.01 to 0.1 are usual; more than 1 takes away more than the tone.
    A negative one, or no number, is a UserError.

    Example
    -------
    >>> import torch
    >>> tone = torch.cos(torch.pi / 4 * torch.arange(8192))[None]
    >>> spectrum = magnitudes(tone[:, 1024:2048])[0]
    >>> [round(denoise(tone, spectrum, s)[0, 1024:-1024].std().item(), 3) for s in (0, 0.1, 1)]
    [0.707, 0.636, 0.0]
    """
    if not 0 <= strength < math.inf:
        raise UserError(f"denoise: {strength}; the strength must be a number of at least 0")
    signal = at_least_fp32(signal)
    if not strength:
        return signal
    half = N_FFT // 2
    window = torch.hann_window(N_FFT, dtype=signal.dtype, device=signal.device)
    with torch.autocast(signal.device.type, enabled=False):
        # Silence on both sides, so that all frames that a sample is in are there; the transform
        # centres its frames in as much again.
        padded = torch.nn.functional.pad(signal, (half, half))
        spectrum = torch.stft(
            padded, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True
        )
        magnitude = spectrum.abs()
        kept = (magnitude - strength * bias_magnitude.to(magnitude)[:, None]).clamp_min(0)
        # Where there is nothing, nothing is kept, and nothing is divided by zero.
        spectrum = spectrum * (kept / magnitude.clamp_min(torch.finfo(kept.dtype).tiny))
        result = torch.istft(spectrum, N_FFT, HOP, window=window, length=padded.shape[-1])
    return result[:, half:-half]


def magnitudes(frames):
    """Magnitude spectra ``[..., 513]`` of frames ``[..., 1024]``, as :func:`denoise` sees them."""
    window = torch.hann_window(N_FFT, dtype=frames.dtype, device=frames.device)
    return torch.fft.rfft(frames * window).abs()


@torch.no_grad()
def bias_magnitude(model):
    """Magnitude spectrum of the tone that a vocoder's flows leave where there is no noise.

    The log-mel is zero everywhere, as published. Away from the ends the flows then repeat
    themselves within every hop, and all frames have the same spectrum; it is that of one frame so
    far from both ends that no layer sees them. With ``prior: envelope`` it is the spectrum before
    the all-pole filter, and :func:`denoise` is for the signal there, which the filter then shapes.

    The result ``[513]`` is at least fp32. The model is in evaluation mode; one of codes or of
    speakers is no vocoder, and a UserError.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> from waveglow_vq.lobes.conditioners.mel import MelConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.flows.waveglow import WaveGlow
    >>> features = LogMel()
    >>> flows = WaveGlow(features, 16, flows=2, layers=2, channels=8, prior="white")
    >>> bias_magnitude(WaveGlowVQ(MelConditioner(features, channels=16), flows)).shape
    torch.Size([513])
    """
    conditioner, flows = model.conditioner, model.vocoder
    if not conditioner.is_vocoder or model.speakers is not None:
        raise UserError("denoise: it is for vocoders; the model has codes or speakers")
    reach = sum(flows.condition_reach) + conditioner.receptive_field
    reach += flows.overlap_frames
    frames = 2 * reach + math.ceil(N_FFT / flows.hop)
    weight = next(model.parameters())
    local = conditioner(torch.zeros(1, conditioner.n_mels, frames).to(weight)).local
    groups = frames * flows.hop // flows.group_size
    silence = torch.zeros(1, flows.group_size, groups, device=weight.device)
    signal = flows.inverse_flows(silence.to(at_least_fp32(weight).dtype), local)
    first = reach * flows.hop
    return magnitudes(at_least_fp32(signal)[0, first : first + N_FFT])
