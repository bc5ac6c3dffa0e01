"""Reads and analyzes audio files block by block, in constant memory."""

from waveglow_vq.audio.io import audio_info_for_model, decoded_blocks
from waveglow_vq.audio.resampling import resample_blocks
from waveglow_vq.utils.windows import Buffer

import torch

# Seconds that are read, resampled and analyzed at once.
BLOCK_SECONDS = 5.0


def read_blocks(source, sample_rate, min_samples=1, block_seconds=BLOCK_SECONDS):
    """:func:`~waveglow_vq.audio.io.read_for_model` block by block: float32 [n] of about
    ``block_seconds`` each; together, what it returns. The header is checked at once, the content
    when it is read.

    Example
    -------
    >>> import os, tempfile
    >>> from waveglow_vq.audio.io import read_for_model, write_wav
    >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
    >>> _ = write_wav(path, 0.1 * torch.randn(9600), 48000)
    >>> wav = torch.cat(list(read_blocks(path, 22050, block_seconds=0.05)))
    >>> len(wav), torch.allclose(wav, read_for_model(path, 22050), atol=1e-6)
    (4410, True)
    """
    info, _ = audio_info_for_model(source, sample_rate, min_samples)
    rate = info.sample_rate
    blocks = decoded_blocks(source, info, max(1, round(block_seconds * rate)))
    return blocks if rate == sample_rate else resample_blocks(blocks, rate, sample_rate)


def log_mel_blocks(features, wavs):
    """Log-mels ``[n_mels, t]`` of a waveform that comes in blocks ``[n]`` of any length, with at
    least ``margin + 1`` samples together: what ``features`` gives for the whole.

    Example
    -------
    >>> from waveglow_vq.audio.features import LogMel
    >>> features, wav = LogMel(), torch.randn(5000)
    >>> mel = torch.cat(list(log_mel_blocks(features, wav.split(1000))), dim=1)
    >>> torch.allclose(mel, features(wav[None])[0], atol=1e-4)
    True
    """
    margin, hop = features.margin, features.hop_length
    buffer, begin = Buffer(), 0
    for wav in _pad(wavs, margin):
        buffer.append(wav)
        frames = (buffer.end - begin - 2 * margin) // hop + 1
        if frames > 0:
            part = buffer.take(begin, begin + 2 * margin + (frames - 1) * hop)
            yield features.frames(part[None])[0]
            begin += frames * hop
            buffer.drop(begin)


def _pad(wavs, margin):
    """The waveform, padded by ``margin`` reflected samples at both ends."""
    buffer, begun = Buffer(), False
    for wav in wavs:
        buffer.append(wav)
        if not begun and buffer.end > margin:
            begun = True
            wav = torch.cat([buffer.take(1, margin + 1).flip(0), buffer.take(0, buffer.end)])
        if begun:
            yield wav
            buffer.drop(buffer.end - margin - 1)
    if not begun:
        raise ValueError(f"a waveform of {buffer.end} samples where {margin + 1} are needed")
    yield buffer.take(buffer.end - margin - 1, buffer.end - 1).flip(0)
