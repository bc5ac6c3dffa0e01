"""From log-mels to waveforms.

Authors
 * The waveglow-vq developers, 2026
"""

import math

from waveglow_vq.errors import UserError
from waveglow_vq.inference.interface import (
    ExportedModel,
    fill_padding,
    item_counts,
    relative_lengths,
)

import torch


class WaveGlowVocoder(ExportedModel):
    """A trained WaveGlow, with the calls of SpeechBrain's HIFIGAN: the log-mels of its Tacotron2
    and FastSpeech2 models go in as they are.

    Noise comes from ``generator``: a seed, a ``torch.Generator``, or None for torch's global
    source. A seed gives every item of a batch the waveform it would have alone. A waveform is
    processed as a whole, in memory in proportion to its length: some 10 MB per second of speech
    for size tiny, more for wider models.

    Arguments
    ---------
    *args, **kwargs
        As for ``speechbrain.inference.interfaces.Pretrained``; ``from_hparams`` gives them.

    Example
    -------
    >>> from waveglow_vq.data.features import LogMel
    >>> from waveglow_vq.lobes.conditioners import MelConditioner
    >>> from waveglow_vq.lobes.model import WaveGlowVQ
    >>> from waveglow_vq.lobes.waveglow import WaveGlow
    >>> features = LogMel()
    >>> flows = WaveGlow(features, 16, flows=2, layers=2, channels=8, envelope={"order": 16})
    >>> model = WaveGlowVQ(MelConditioner(features, channels=16), flows)
    >>> vocoder = WaveGlowVocoder(modules={"model": model, "features": features}, hparams={})
    >>> mel = torch.randn(2, 80, 10) - 5
    >>> vocoder.decode_batch(mel, mel_lens=torch.tensor([10, 7]), generator=0).shape
    torch.Size([2, 1, 2560])
    >>> vocoder.decode_spectrogram(mel[0], sigma=0.8).shape
    torch.Size([1, 2560])
    """

    def check_model(self):
        """A vocoder is conditioned on log-mels, without codes."""
        conditioner = self.mods.model.conditioner
        if conditioner.input != "mel" or self.mods.model.quantizer is not None:
            raise UserError(
                "the model has codes: load it with waveglow_vq.inference.SpeechCodec, "
                "not with WaveGlowVocoder."
            )

    @property
    def hop_length(self):
        """Samples per frame."""
        return self.mods.features.hop_length

    @torch.no_grad()
    def decode_batch(self, spectrogram, mel_lens=None, hop_len=None, sigma=None, generator=None):
        """Log-mels to waveforms.

        Arguments
        ---------
        spectrogram : torch.Tensor
            Log-mels ``[B, 80, T]``: natural logarithm of slaney-mel magnitudes.
        mel_lens : torch.Tensor
            Frames of each item, ``[B]``, as Tacotron2 returns them, or relative lengths in (0, 1];
            None where nothing is padded.
        hop_len : int
            Samples per frame. It follows from the model; a value that contradicts it is an error.
        sigma : float
            Standard deviation of the noise, the sampling temperature; None: the export's.
        generator : int or torch.Generator
            A seed or a source of noise.

        Returns
        -------
        torch.Tensor
            ``[B, 1, T * hop]``, zero where padded.

        Raises
        ------
        UserError
            If the log-mels are of another shape, empty, or hold NaN.
        """
        if hop_len is not None and hop_len != self.hop_length:
            raise UserError(f"hop_len: {hop_len}, but the model's hop is {self.hop_length} samples")
        n_mels = self.mods.features.n_mels
        mel = torch.as_tensor(spectrogram).to(self.device, torch.float32)
        if mel.dim() != 3 or mel.shape[1] != n_mels or 0 in mel.shape:
            hint = ""
            if mel.dim() == 3 and mel.shape[2] == n_mels:
                hint = "; it seems to be transposed"
            raise UserError(
                f"spectrogram: expected log-mels [batch, {n_mels}, frames], "
                f"got {list(mel.shape)}{hint}"
            )
        counts = item_counts("mel_lens", mel_lens, len(mel), mel.shape[-1]).to(self.device)
        mel = fill_padding(mel, counts, math.log(self.mods.features.floor))
        if not bool(torch.isfinite(mel).all()):
            raise UserError("spectrogram: the log-mels hold NaN or infinity")
        with self.inference_ctx:
            condition = self.mods.model.conditioner(mel, relative_lengths(counts, mel.shape[-1]))
            return self._sample(condition, counts, sigma, generator)

    def decode_spectrogram(self, spectrogram, sigma=None, generator=None):
        """One log-mel ``[80, T]`` to a waveform ``[1, T * hop]``; see :meth:`decode_batch`."""
        spectrogram = torch.as_tensor(spectrogram)
        if spectrogram.dim() != 2:
            raise UserError(
                f"spectrogram: expected one log-mel [{self.mods.features.n_mels}, frames], "
                f"got {list(spectrogram.shape)}"
            )
        return self.decode_batch(spectrogram[None], sigma=sigma, generator=generator)[0]

    @torch.no_grad()
    def encode_batch(self, wavs, wav_lens=None):
        """Waveforms to the log-mels that this model decodes.

        Arguments
        ---------
        wavs : torch.Tensor
            ``[B, N]`` at the model's rate.
        wav_lens : torch.Tensor
            Relative lengths in (0, 1], or samples of each item, ``[B]``; None: nothing is padded.

        Returns
        -------
        mel : torch.Tensor
            ``[B, 80, 1 + N // hop]``.
        mel_lens : torch.Tensor
            Frames of each item, ``[B]``.
        """
        return self._log_mels(*self._checked_wavs(wavs, wav_lens))

    def encode_file(self, path):
        """The log-mel ``[80, T]`` of a sound file at any rate."""
        return self.encode_batch(self.load_audio(path)[None])[0][0]

    def _reconstruct(self, wav, sigma, generator):
        spectrogram, _ = self.encode_batch(wav[None])
        return self.forward(spectrogram, sigma=sigma, generator=generator)[0, :, : len(wav)]

    def forward(self, spectrogram, mel_lens=None, sigma=None, generator=None):
        """The same as :meth:`decode_batch`."""
        return self.decode_batch(spectrogram, mel_lens, sigma=sigma, generator=generator)
