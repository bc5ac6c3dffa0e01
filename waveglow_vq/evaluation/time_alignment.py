"""Delay and loudness of a reconstruction relative to its recording.

A constant delay or gain is inaudible, or a matter of taste, but ruins every distance between
spectrograms; published comparisons remove both first.
"""

import math

from waveglow_vq.evaluation.metrics import MIN_SAMPLES, stft_magnitude

import torch

MAX_SHIFT_SAMPLES = 2048
# Frame distance of the spectrograms that are correlated when the waveforms do not.
_COARSE_HOP = 64


def align(reference, estimate, max_shift_samples=MAX_SHIFT_SAMPLES):
    """Removes a constant delay: cuts samples [N] and [M] to the part that they share.

    Candidates are no delay, the peak of the cross-correlation of the waveforms, and that of the log
    spectrograms, refined to 8 samples; the one under which the log spectrograms are nearest is
    taken. The detour is for vocoders: they keep the spectrogram but not the phase, and then the
    waveforms correlate best at some chance delay.

    At most ``max_shift_samples`` are looked for, either way. Returns reference and estimate, both
    [K], and the samples by which the estimate came late; negative if it came early.

    Example
    -------
    >>> wav = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    >>> first, second, delay = align(wav, torch.cat([torch.zeros(37), wav]))
    >>> torch.equal(first, second), delay
    (True, 37)
    """
    shortest = min(len(reference), len(estimate))
    # What is left after cutting must be long enough to be scored.
    max_shift = max(0, min(max_shift_samples, shortest - MIN_SAMPLES))
    if max_shift == 0:
        return reference[:shortest], estimate[:shortest], 0

    def mismatch(delay):
        return _mismatch(*_cut(reference, estimate, delay))

    exact = _waveform_delay(reference, estimate, max_shift)
    coarse = _spectrogram_delay(reference, estimate, max_shift)
    delay = min(0, exact, key=mismatch)
    refined = _refine(coarse, mismatch, max_shift)
    # The waveform's delay is exact to the sample where it holds: it wins near ties.
    if mismatch(refined) < 0.99 * mismatch(delay):
        delay = refined
    return *_cut(reference, estimate, delay), delay


def _waveform_delay(reference, estimate, max_shift):
    """Delay at the greatest absolute cross-correlation of the waveforms: an inverted waveform
    sounds the same."""
    return _delay_of_peak(reference[None], estimate[None], max_shift, absolute=True)


def _spectrogram_delay(reference, estimate, max_shift):
    """Delay at the greatest cross-correlation of log-magnitude spectrograms: blind to phase, and a
    multiple of 64 samples."""
    spectra = []
    for wav in (reference, estimate):
        magnitude = stft_magnitude(wav, 512, _COARSE_HOP, 512)
        # Relative to the signal's own level, so that loudness and the floor do not matter.
        floor = 1e-3 * magnitude.square().mean().sqrt().clamp_min(1e-8)
        log_magnitude = magnitude.clamp_min(floor).log()
        spectra.append(log_magnitude - log_magnitude.mean())
    frames = max_shift // _COARSE_HOP
    return _COARSE_HOP * _delay_of_peak(*spectra, frames, absolute=False)


def match_level(reference, estimate):
    """Scales the estimate to the root mean square of the reference, both aligned, [N]. Returns it
    and the factor; 1 if either signal is silent.

    Example
    -------
    >>> wav = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    >>> scaled, gain = match_level(wav, 0.25 * wav)
    >>> torch.equal(scaled, wav), gain
    (True, 4.0)
    """
    common = min(len(reference), len(estimate))
    # float64 sums: a copy has to get a gain of exactly one.
    target, output = (wav[:common].double().square().sum().item() for wav in (reference, estimate))
    gain = math.sqrt(target / output) if target > 0 and output > 0 else 1.0
    return estimate * gain, gain


def _delay_of_peak(reference, estimate, max_shift, absolute):
    """Delay of ``estimate`` [C, M] against ``reference`` [C, N] by one FFT correlation."""
    length = reference.shape[1] + estimate.shape[1]
    n_fft = 1 << (length - 1).bit_length()
    cross = torch.fft.rfft(reference, n_fft).conj() * torch.fft.rfft(estimate, n_fft)
    correlation = torch.fft.irfft(cross.sum(0), n_fft)
    lags = torch.arange(-max_shift, max_shift + 1)
    values = correlation[lags]
    return int(lags[(values.abs() if absolute else values).argmax()])


def _refine(delay, mismatch, max_shift):
    """Walks downhill from ``delay``, in steps of 64 samples down to 8."""
    best = mismatch(delay)
    for step in (64, 32, 16, 8):
        for direction in (-step, step):
            while abs(delay + direction) <= max_shift:
                value = mismatch(delay + direction)
                if value >= best:
                    break
                delay, best = delay + direction, value
    return delay


def _cut(reference, estimate, delay):
    reference = reference[max(0, -delay) :]
    estimate = estimate[max(0, delay) :]
    common = min(len(reference), len(estimate))
    return reference[:common], estimate[:common]


def _mismatch(reference, estimate):
    """Mean absolute difference of log magnitudes, each relative to its own level."""
    logs = []
    for wav in (reference, estimate):
        magnitude = stft_magnitude(wav, 1024, 256, 1024)
        scale = magnitude.square().mean().sqrt().clamp_min(1e-8)
        logs.append((magnitude / scale).clamp_min(1e-3).log())
    return float((logs[0] - logs[1]).abs().mean())
