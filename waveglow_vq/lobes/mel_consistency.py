"""Mel-consistent decoding: iterations that bring the log-mel of a waveform to the one it should
have. To the mel it is what Griffin-Lim is to the linear magnitude."""

import functools
import math

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows.waveglow import draw_noise
from waveglow_vq.lobes.source.pulses import continued, pulse_train
from waveglow_vq.lobes.source.shaping import minimum_phase

import librosa
import numpy as np
import torch
from torch.nn import functional as F

# Above, voices are noise.
CROSSOVER_HZ, CROSSOVER_WIDTH_HZ = 6000.0, 375.0


def mel_consistent(
    wav, log_mel, features, iterations, samples=None, momentum=0.9, greatest_gain=10.0
):
    """Waveforms whose log-mels are nearer to those given, differentiably.

    An iteration moves on from the short-time spectra with momentum (Griffin and Lim 1984;
    Perraudin, Balazs and Sondergaard 2013, alg. 2), and multiplies them by the gains that their mel
    magnitudes lack, limited, and interpolated linearly from the centres of the bands to the bins:

        S_k = STFT(y_k),    T_k = S_k + alpha (S_k - S_{k-1})
        y_{k+1} = ISTFT(T_k exp(interpolate(clip(log_mel - log(M |T_k|)))))

    Above the last band the gain is 1. Phases are those that ``wav`` leads to: what the result
    sounds like depends on where one begins, the more, the fewer iterations.

    Arguments
    ---------
    wav : torch.Tensor
        ``[batch, N]``; from the flows, or :func:`shaped_noise`.
    log_mel : torch.Tensor
        ``[batch, n_mels, frames]``; the last frame is held where frames are missing.
    features : LogMel
        The feature contract.
    iterations : int
        How many; 0 gives back ``wav``.
    samples : torch.Tensor
        Samples of each item that are not padding, int64 ``[batch]``; None for all.
    momentum : float
        alpha.
    greatest_gain : float
        Greatest gain of a band in one iteration, and one over the least.

    Returns
    -------
    torch.Tensor
        ``[batch, N]``, fp32, zero where padded. A sample depends on those less than
        :func:`reach` away.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> features = LogMel()
    >>> log_mel = features(torch.sin(torch.arange(8192.0) ** 1.5 / 400)[None])
    >>> noise = shaped_noise(log_mel, features, 8192, generator=0)
    >>> wav = mel_consistent(noise, log_mel, features, 20)
    >>> bool((features(wav) - log_mel).abs().mean() < (features(noise) - log_mel).abs().mean() / 2)
    True
    """
    if not iterations:
        return wav
    with torch.autocast(wav.device.type, enabled=False):
        wav, limit, before = wav.float(), math.log(greatest_gain), None
        frames = _Frames(wav, features, samples)
        target, to_bins = frames.like(log_mel), _interpolation(features).to(wav)
        for _ in range(iterations):
            spectrum = frames.analyze(wav)
            moved = spectrum
            if before is not None:
                moved = spectrum + momentum * (spectrum - before)
            gains = (target - _log_mel(moved, features)).clamp(-limit, limit)
            wav, before = frames.synthesize(moved * (gains @ to_bins).exp()), spectrum
        return wav


def shaped_noise(log_mel, features, samples, generator=None):
    """White noise with the spectrum of a log-mel ``[batch, n_mels, frames]``, ``[batch, samples]``:
    where iterations begin without a model. Above the last band it goes on as in it."""
    with torch.autocast(log_mel.device.type, enabled=False):
        noise = draw_noise(log_mel, 1, samples, generator)[:, 0].float()
        frames = _Frames(noise, features)
        spectrum, to_bins = frames.analyze(noise), _interpolation(features, hold=True).to(noise)
        gains = frames.like(log_mel) - _log_mel(spectrum, features)
        return frames.synthesize(spectrum * (gains @ to_bins).exp())


def voiced_by_pulses(wav, pulses, voicing, log_mel, features, samples=None):
    """Waveforms whose voiced frames are pulses below 6 kHz, with the spectrum of the log-mel and
    minimum phase, and ``wav`` above; elsewhere they are ``wav``.

    A frame of 46 ms and 80 bands do not resolve the harmonics of a low voice, so that iterations
    from noise whisper where those from pulses speak.

    Arguments
    ---------
    wav : torch.Tensor
        ``[batch, N]``; from the flows, or :func:`shaped_noise`.
    pulses : torch.Tensor
        ``[batch, N]``; see :func:`~waveglow_vq.lobes.source.pulses.pulse_train`.
    voicing : torch.Tensor
        ``[batch, frames]``, 0 to 1.
    log_mel, features, samples
        As for :func:`mel_consistent`. A sample depends on those as far away as in two iterations.

    Returns
    -------
    torch.Tensor
        ``[batch, N]``, fp32.
    """
    with torch.autocast(wav.device.type, enabled=False):
        frames = _Frames(wav, features, samples)
        pulses = minimum_phase(pulses, log_mel.float(), features)
        own, source = frames.analyze(wav.float()), frames.analyze(pulses)
        gains = frames.like(log_mel) - _log_mel(source, features)
        source = source * (gains @ _interpolation(features).to(gains)).exp()
        hertz = torch.arange(source.shape[-1], device=wav.device) * (
            features.sample_rate / features.n_fft
        )
        share = (
            frames.like(voicing[:, None]) * ((CROSSOVER_HZ - hertz) / CROSSOVER_WIDTH_HZ).sigmoid()
        )
        return frames.synthesize(source * share + own * (1 - share.square()).sqrt())


def refine_voiced(wav, target, features, iterations, samples=None):
    """:func:`mel_consistent` towards a log-mel ``[batch, n_mels, frames]``; with the rows of a
    pitch behind it (see source/pitch_rows.py), ``[batch, n_mels + 3, frames]``, from pulses where
    it is voiced."""
    log_mel = target[:, : features.n_mels]
    if target.shape[1] > features.n_mels:
        hop, rate, total = features.hop_length, features.sample_rate, wav.shape[-1]
        rows = target[:, features.n_mels :, : -(-total // hop) + 1]
        while (rows.shape[-1] - 1) * hop < total:
            rows = continued(rows, hop, rate)
        pulses, voicing = pulse_train(rows, hop, rate)[:, :total], rows[:, 1]
        wav = voiced_by_pulses(wav, pulses, voicing, log_mel, features, samples)
    return mel_consistent(wav, log_mel, features, iterations, samples)


def reach(features, iterations):
    """Samples to either side that a sample of :func:`mel_consistent` depends on."""
    return iterations * features.n_fft


class _Frames:
    """The short-time spectra ``[batch, frames, bins]`` of waveforms, which reflect at the ends of
    each item, and the way back."""

    def __init__(self, wav, features, samples=None):
        batch, total = wav.shape
        n_fft, self.hop, margin = features.n_fft, features.hop_length, features.margin
        if features.win_length != n_fft:
            raise UserError("refine: it is for windows as long as the transform")
        self.n_fft, self.window, self.total, self.margin = n_fft, features.window, total, margin
        self.count = 1 + total // self.hop
        length = n_fft + (self.count - 1) * self.hop
        place = torch.arange(-margin, length - margin, device=wav.device)
        ends = torch.full((1,), total, device=wav.device) if samples is None else samples
        if total <= margin:
            raise UserError(f"refine: {total} samples are too few; it takes more than {margin}")
        last = (ends - 1)[:, None]
        place = place.abs()
        place = torch.where(place > last, 2 * last - place, place).clamp(0, total - 1)
        self.place = place.expand(batch, -1)
        centres = torch.arange(self.count, device=wav.device) * self.hop
        self.mask = None
        if samples is not None:
            self.mask = (centres <= ends[:, None])[..., None].to(wav)
            self.inside = (torch.arange(total, device=wav.device) < ends[:, None]).to(wav)
        weight = self.window.square().expand(1 if samples is None else batch, self.count, n_fft)
        weight = weight if self.mask is None else weight * self.mask
        self.scale = 1 / self._overlap_add(weight).clamp_min(1e-8)

    def like(self, log_mel):
        """A log-mel ``[batch, n_mels, t]`` as ``[batch, frames, n_mels]``, the last frame held."""
        missing = self.count - log_mel.shape[-1]
        log_mel = log_mel[..., : self.count].float()
        if missing > 0:
            log_mel = F.pad(log_mel, (0, missing), mode="replicate")
        return log_mel.transpose(1, 2)

    def analyze(self, wav):
        """``[batch, samples]`` to complex ``[batch, frames, bins]``."""
        padded = wav.gather(1, self.place)
        return torch.fft.rfft(padded.unfold(1, self.n_fft, self.hop) * self.window)

    def synthesize(self, spectrum):
        """Least squares (Griffin and Lim 1984, eq. 6)."""
        frames = torch.fft.irfft(spectrum, self.n_fft) * self.window
        if self.mask is None:
            return self._overlap_add(frames) * self.scale
        return self._overlap_add(frames * self.mask) * self.scale * self.inside

    def _overlap_add(self, frames):
        length = self.n_fft + (self.count - 1) * self.hop
        size = (1, length)
        whole = F.fold(frames.transpose(1, 2), size, (1, self.n_fft), stride=(1, self.hop))
        whole = whole[:, 0, 0, self.margin :]
        missing = self.total - whole.shape[-1]
        return F.pad(whole, (0, missing)) if missing > 0 else whole[:, : self.total]


def _log_mel(spectrum, features):
    mel = spectrum.abs() @ features.filter_bank.T
    return mel.clamp_min(features.floor).log()


@functools.lru_cache(maxsize=4)
def _interpolation_of(sample_rate, n_fft, n_mels, f_min, f_max, hold):
    centres = librosa.mel_frequencies(n_mels + 2, fmin=f_min, fmax=f_max)[1:-1]
    bins = librosa.fft_frequencies(sr=sample_rate, n_fft=n_fft)
    matrix = np.stack([np.interp(bins, centres, row) for row in np.eye(n_mels)])
    if not hold:
        matrix[:, bins > f_max] = 0
    # Kept for later calls, in which there may be gradients.
    with torch.inference_mode(False):
        return torch.from_numpy(matrix).float()


def _interpolation(features, hold=False):
    """From bands to bins, ``[n_mels, bins]``; above the last band zero, or as in it."""
    sizes = features.sample_rate, features.n_fft, features.n_mels
    return _interpolation_of(*sizes, features.f_min, features.f_max, hold)
