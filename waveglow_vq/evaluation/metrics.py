"""Distances between a recording and its reconstruction, on waveforms.

All take ``reference`` and ``estimate`` as samples ``[N]`` of one rate, already aligned and
level-matched as far as that is wanted (see ``time_alignment``), and return a float: 0 for a copy,
and more the further the two are apart. The longer signal is cut to the shorter. ``features`` are
the mel features; ``None`` is the feature contract of this package at 22050 Hz.
"""

import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError

import numpy as np
import torch

# (n_fft, hop, window) in samples: the three resolutions of Parallel WaveGAN.
STFT_RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
# The longest transform pads half its length by reflection.
MIN_SAMPLES = 2048
MAGNITUDE_FLOOR = 1e-5


def log_mel_l1(reference, estimate, features=None):
    """Mean absolute difference of natural-log mel magnitudes over bands and frames.

        L1 = mean_{b,t} | M[b,t] - M^[b,t] |,   M = log max(mel magnitudes, floor)

    An L1 of 0.29 means that magnitudes are off by a factor of e^0.29 (2.5 dB) on average.

    Example
    -------
    >>> wav = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    >>> log_mel_l1(wav, wav)
    0.0
    >>> round(log_mel_l1(wav, wav * math.e), 3)
    1.0
    """
    reference, estimate = _pair(reference, estimate)
    features = LogMel() if features is None else features
    mels = features(torch.stack([reference, estimate]))
    return float((mels[0] - mels[1]).abs().mean())


def spectral_convergence(reference, estimate):
    """Relative Frobenius distance of linear-frequency magnitude spectrograms.

        SC = || |S| - |S^| ||_F / || |S| ||_F

    S is the short-time Fourier transform with a Hann window of 1024 samples every 256. After Arik,
    Jun and Diamos, "Fast Spectrogram Inversion using Multi-head Convolutional Neural Networks",
    2018 (arXiv:1808.06719). Loud partials dominate it; what lies between them does not count.

    Example
    -------
    >>> wav = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    >>> spectral_convergence(wav, wav)
    0.0
    >>> round(spectral_convergence(wav, 0.5 * wav), 3)
    0.5
    """
    reference, estimate = _pair(reference, estimate)
    return _convergence(*(stft_magnitude(wav, 1024, 256, 1024) for wav in (reference, estimate)))


def multi_resolution_stft_distance(reference, estimate):
    """Spectral convergence plus log-magnitude L1, averaged over several window lengths.

        D = mean_r ( || |S_r| - |S^_r| ||_F / || |S_r| ||_F + mean | log|S_r| - log|S^_r| | )

    After Yamamoto, Song and Kim, "Parallel WaveGAN", ICASSP 2020 (equations 4 to 6).

    Example
    -------
    >>> wav = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    >>> multi_resolution_stft_distance(wav, wav)
    0.0
    >>> multi_resolution_stft_distance(wav, wav.roll(1000)) > 0.5
    True
    """
    reference, estimate = _pair(reference, estimate)
    terms = []
    for n_fft, hop_length, win_length in STFT_RESOLUTIONS:
        target = stft_magnitude(reference, n_fft, hop_length, win_length)
        output = stft_magnitude(estimate, n_fft, hop_length, win_length)
        log_ratio = target.clamp_min(MAGNITUDE_FLOOR).log()
        log_ratio -= output.clamp_min(MAGNITUDE_FLOOR).log()
        terms.append(_convergence(target, output) + float(log_ratio.abs().mean()))
    return sum(terms) / len(terms)


def mel_cepstral_distortion(reference, estimate, features=None):
    """Mel-cepstral distortion in dB along the best time alignment.

        MCD = 10 sqrt(2) / ln 10 * mean_path sqrt( sum_{k=1..13} (c_k - c^_k)^2 )

    (Kubichek, "Mel-cepstral distance measure for objective speech quality assessment", 1993.)
    c_k is the cosine series of the log-mel spectrum, see ``mel_cepstrum``; c_0, the loudness,
    takes no part. Figures of other tools differ by how they find the cepstrum: compare only
    figures of one tool.

    Example
    -------
    >>> wav = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    >>> mel_cepstral_distortion(wav, wav)
    0.0
    >>> mel_cepstral_distortion(wav, wav.cumsum(0)) > 5
    True
    """
    features = LogMel() if features is None else features
    signals = _check(reference, "reference"), _check(estimate, "estimate")
    target, output = (mel_cepstrum(features(wav[None])[0]).numpy() for wav in signals)
    return cepstral_distortion(target, output)


def cepstral_distortion(reference, estimate):
    """:func:`mel_cepstral_distortion` in dB of two results of :func:`mel_cepstrum`.

    Example
    -------
    >>> round(cepstral_distortion(np.zeros((5, 13)), np.full((7, 13), 0.1)), 3)
    2.214
    """
    return 10 * math.sqrt(2) / math.log(10) * dtw_mean_distance(reference, estimate)


def mel_cepstrum(log_mel, order=13):
    """Coefficients 1 to ``order`` of the cosine series of a log-mel spectrum [B, T], [T, order].

        c_k = 2/B sum_b M[b] cos(pi k (b + 1/2) / B),   M[b] = c_0 + sum_k c_k cos(...)

    in float64. With this scale MCD is the RMS difference in dB of the smoothed spectra.

    Example
    -------
    >>> mel_cepstrum(torch.zeros(80, 5)).shape
    torch.Size([5, 13])
    """
    bands = log_mel.shape[0]
    index = torch.arange(1, order + 1, dtype=torch.float64)[:, None]
    angle = math.pi * index * (torch.arange(bands, dtype=torch.float64) + 0.5) / bands
    return (2 / bands * angle.cos() @ log_mel.double()).T


def euclidean_distances(first, second):
    """Distances of the rows of two arrays [T, D], [T].

    Example
    -------
    >>> euclidean_distances(np.zeros((1, 2)), np.array([[3.0, 4.0]])).tolist()
    [5.0]
    """
    return np.linalg.norm(first - second, axis=1)


def dtw_mean_distance(first, second, distances=euclidean_distances):
    """Mean distance of [T1, D] and [T2, D], Euclidean unless ``distances`` says otherwise, along
    the cheapest path of dynamic time warping: the cost of the path over its length in steps.

    Steps are one frame in either sequence or in both, all of weight one, and the path joins the two
    beginnings and the two ends. Works through the anti-diagonals of the distance matrix, each at
    once, and keeps only two of them: memory is linear in the number of frames.

    Example
    -------
    >>> ramp = np.arange(4.0)[:, None]
    >>> dtw_mean_distance(ramp, np.repeat(ramp, 3, axis=0))
    0.0
    >>> dtw_mean_distance(ramp, ramp + 1.0)  # 1 + 0 + 0 + 0 + 1, over 5 steps
    0.4
    """
    rows, columns = len(first), len(second)
    # Index i + 1 holds row i of a diagonal; the border is infinitely expensive.
    cost_1, cost_2 = np.full(rows + 1, np.inf), np.full(rows + 1, np.inf)
    steps_1, steps_2 = np.zeros(rows + 1), np.zeros(rows + 1)
    for diagonal in range(rows + columns - 1):
        low, high = max(0, diagonal - columns + 1), min(rows, diagonal + 1)
        row = np.arange(low, high)
        distance = distances(first[row], second[diagonal - row])
        # The diagonal step comes first: it wins ties.
        before = np.stack([cost_2[row], cost_1[row], cost_1[row + 1]])
        choice = before.argmin(axis=0)
        lengths = np.stack([steps_2[row], steps_1[row], steps_1[row + 1]])
        take = np.arange(len(row))
        cost, steps = np.full(rows + 1, np.inf), np.zeros(rows + 1)
        if diagonal == 0:
            cost[1], steps[1] = distance[0], 1
        else:
            cost[row + 1] = before[choice, take] + distance
            steps[row + 1] = lengths[choice, take] + 1
        cost_2, cost_1, steps_2, steps_1 = cost_1, cost, steps_1, steps
    return float(cost_1[rows] / steps_1[rows])


def stft_magnitude(wav, n_fft, hop_length, win_length):
    """Magnitudes [n_fft // 2 + 1, 1 + N // hop_length] of the short-time Fourier transform of
    samples [N] with a periodic Hann window.

    Example
    -------
    >>> stft_magnitude(torch.zeros(1024), 512, 128, 512).shape
    torch.Size([257, 9])
    """
    window = torch.hann_window(win_length, dtype=wav.dtype)
    return torch.stft(wav, n_fft, hop_length, win_length, window, return_complex=True).abs()


def check_length(wav, name):
    """Raises a UserError if a waveform is too short to be scored."""
    if len(wav) < MIN_SAMPLES:
        raise UserError(
            f"{name} is too short to be scored: {len(wav)} samples where at least "
            f"{MIN_SAMPLES} are needed"
        )


def _convergence(target, output):
    # A silent reference has no scale to relate the error to: the floor stands in for it.
    scale = target.norm().clamp_min(MAGNITUDE_FLOOR)
    return float((target - output).norm() / scale)


def _check(wav, name):
    wav = torch.as_tensor(wav).detach().cpu().float()
    if wav.ndim != 1:
        raise ValueError(f"{name} must be samples [N], got {tuple(wav.shape)}")
    check_length(wav, name)
    return wav


def _pair(reference, estimate):
    reference = _check(reference, "reference")
    estimate = _check(estimate, "estimate")
    common = min(len(reference), len(estimate))
    return reference[:common], estimate[:common]
