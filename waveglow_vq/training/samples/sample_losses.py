"""How far samples are from recordings, for the ear."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.evaluation.metrics import STFT_RESOLUTIONS

import torch
from torch import nn

# Window and bands of the log-mels.
MELS = ((512, 40), (1024, 80), (2048, 160))
FLOOR = 1e-5
# The longest window: shorter waveforms cannot be compared.
LEAST_SAMPLES = max(n for n, _ in MELS)


class SampleLosses(nn.Module):
    """Distances of waveforms in several resolutions, after Parallel WaveGAN (Yamamoto, Song and Kim
    2020) and HiFi-GAN (Kong, Kim and Bae 2020).

    SpeechBrain's ``STFTLoss`` calls ``torch.stft`` in a way that torch no longer takes, and its
    losses reflect waveforms at their ends, which those of segments are not. Here are frames within
    the waveforms only, and means of items, so that processes share a batch.

    Arguments
    ---------
    sample_rate : int
        Of the waveforms. The bands reach to its half, also where those of the features do not.

    Example
    -------
    >>> losses = SampleLosses(22050)
    >>> wav = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
    >>> {name: float(loss) for name, loss in losses(wav, wav).items()}
    {'sample_mel': 0.0, 'sample_stft': 0.0}
    >>> all(loss > 0 for loss in losses(wav.flip(0), wav).values())
    True
    """

    def __init__(self, sample_rate):
        super().__init__()
        self.mels = nn.ModuleList(
            LogMel(sample_rate, n, n, n // 4, bands, 0.0, sample_rate / 2, FLOOR)
            for n, bands in MELS
        )
        for n_fft, _, length in STFT_RESOLUTIONS:
            self.register_buffer(f"window_{n_fft}", torch.hann_window(length), persistent=False)

    def forward(self, sample, recording):
        """Compares waveforms ``[batch, samples]``, at least 2048 samples each.

        Returns a dict: ``sample_mel``, the L1 of log-mels, and ``sample_stft``, the L1 of log
        magnitudes and the spectral convergence; means of the resolutions.
        """
        with torch.autocast(sample.device.type, enabled=False):
            sample, recording = sample.float(), recording.float()
            mel = [(m.frames(sample) - m.frames(recording)).abs().mean() for m in self.mels]
            stft = [self._distance(sample, recording, *sizes) for sizes in STFT_RESOLUTIONS]
        return {"sample_mel": sum(mel) / len(mel), "sample_stft": sum(stft) / len(stft)}

    def _distance(self, sample, recording, n_fft, hop, length):
        window = getattr(self, f"window_{n_fft}")

        def magnitudes(wav):
            options = {"center": False, "return_complex": True}
            return torch.stft(wav, n_fft, hop, length, window, **options).abs()

        ours, theirs = magnitudes(sample), magnitudes(recording)
        logs = (ours.clamp_min(FLOOR).log() - theirs.clamp_min(FLOOR).log()).abs().mean()
        sizes = (torch.linalg.vector_norm(x, dim=(1, 2)) for x in (ours - theirs, theirs))
        error, size = sizes
        return logs + (error / size.clamp_min(FLOOR)).mean()
