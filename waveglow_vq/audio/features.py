"""The feature contract: what every recipe, model and export means by "log-mel"."""

import librosa
import torch
from torch import nn


class LogMel(nn.Module):
    """Natural logarithm of slaney-mel magnitudes, the features of SpeechBrain's Tacotron 2 and
    HiFi-GAN and of NVIDIA's WaveGlow, so that their outputs and ours can be exchanged.

    Frame ``t`` is centred on sample ``t * hop_length`` (reflect padding at both ends), hence a
    waveform of N samples has ``1 + N // hop_length`` frames.

    Arguments
    ---------
    sample_rate : int
        Rate of the waveforms in Hz.
    n_fft : int
        Length of the Fourier transform in samples.
    win_length : int
        Length of the periodic Hann window in samples.
    hop_length : int
        Distance between frames in samples.
    n_mels : int
        Number of mel bands.
    f_min : float
        Lower edge of the first band in Hz.
    f_max : float
        Upper edge of the last band in Hz.
    floor : float
        Magnitudes are clamped to this value before the logarithm.

    Example
    -------
    >>> import torch
    >>> LogMel()(torch.randn(2, 22050)).shape
    torch.Size([2, 80, 87])
    """

    def __init__(
        self,
        sample_rate=22050,
        n_fft=1024,
        win_length=1024,
        hop_length=256,
        n_mels=80,
        f_min=0.0,
        f_max=8000.0,
        floor=1e-5,
    ):
        super().__init__()
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.win_length = win_length
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.f_min = f_min
        self.f_max = f_max
        self.floor = floor
        bank = librosa.filters.mel(
            sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max
        )
        # Both follow from the arguments: not part of a checkpoint.
        self.register_buffer("filter_bank", torch.from_numpy(bank), persistent=False)
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)

    @property
    def contract(self):
        """What two instances that give the same log-mels have in common."""
        sizes = self.sample_rate, self.n_fft, self.win_length, self.hop_length
        return *sizes, self.n_mels, self.f_min, self.f_max, self.floor

    @property
    def margin(self):
        """Samples that a frame reaches to either side of its centre."""
        return self.n_fft // 2

    def forward(self, wav):
        """Computes the log-mel of whole utterances.

        Arguments
        ---------
        wav : torch.Tensor
            Waveforms in [-1, 1], ``[batch, samples]``, longer than ``n_fft // 2`` samples.

        Returns
        -------
        torch.Tensor
            ``[batch, n_mels, 1 + samples // hop_length]``, fp32.
        """
        wav = wav.float()
        padded = nn.functional.pad(wav[:, None], (self.margin, self.margin), mode="reflect")
        return self.frames(padded[:, 0])

    def frames(self, padded):
        """Log-mel of waveforms that already carry ``margin`` samples of context on both sides,
        as slices of longer utterances do.

        Arguments
        ---------
        padded : torch.Tensor
            ``[batch, 2 * margin + (frames - 1) * hop_length (+ rest)]``.

        Returns
        -------
        torch.Tensor
            ``[batch, n_mels, frames]``, fp32.
        """
        with torch.autocast(padded.device.type, enabled=False):
            spectrum = torch.stft(
                padded.float(),
                self.n_fft,
                self.hop_length,
                self.win_length,
                self.window,
                center=False,
                return_complex=True,
            )
            mel = self.filter_bank @ spectrum.abs()
            return mel.clamp_min(self.floor).log()
