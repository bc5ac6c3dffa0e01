"""Training segments, cut from disk, and whole utterances.

Authors
 * The waveglow-vq developers, 2026
"""

import math

import soundfile
import torch
from torch.nn import functional as F

from waveglow_vq.errors import UserError

# Half the distance between neighbouring values of 16-bit samples.
HALF_STEP = 0.5 / 32768


def dequantise(wav, generator=None):
    """Adds uniform noise of one quantisation step, so that the density of 16-bit samples exists;
    without it a flow can make the likelihood of digital silence infinite.

    Example
    -------
    >>> import torch
    >>> bool(dequantise(torch.zeros(1000)).abs().max() <= 0.5 / 32768)
    True
    """
    noise = torch.rand(wav.shape, generator=generator, device=wav.device)
    return wav + (2 * noise - 1) * HALF_STEP


class SegmentReader:
    """Cuts random training segments out of utterances, reading only what is needed of a file.

    Arguments
    ---------
    features : LogMel
        The feature contract.
    segment_frames : int
        Length of the waveform in frames (hops).
    context_frames : int
        Length of the log-mel in frames, at least ``segment_frames + 1``. It is a crop of the
        utterance's log-mel, not the log-mel of a crop, that contains the segment somewhere.
    history : int
        Samples before the segment that the vocoder wants to see.
    min_loudness_dbfs : float
        A segment less loud than this is drawn again.
    attempts : int
        Draws before the loudest one so far is taken.

    Example
    -------
    >>> import tempfile, os, soundfile, torch
    >>> from waveglow_vq.data.features import LogMel
    >>> path = os.path.join(tempfile.mkdtemp(), "a.wav")
    >>> soundfile.write(path, torch.randn(22050).numpy() * 0.1, 22050)
    >>> item = SegmentReader(LogMel(), segment_frames=16, context_frames=40, history=128)(path)
    >>> item["wav"].shape, item["history"].shape, item["mel"].shape
    (torch.Size([4096]), torch.Size([128]), torch.Size([40, 80]))
    """

    def __init__(
        self,
        features,
        segment_frames=16,
        context_frames=64,
        history=0,
        min_loudness_dbfs=-60.0,
        attempts=10,
    ):
        if context_frames <= segment_frames:
            raise UserError(
                f"context_frames: {context_frames} frames of log-mel have to be more than the "
                f"segment_frames of {segment_frames}"
            )
        self.features = features
        self.segment_frames = segment_frames
        self.context_frames = context_frames
        self.history = history
        self.min_loudness_dbfs = min_loudness_dbfs
        self.attempts = attempts

    def __call__(self, path):
        """Draws a segment.

        Arguments
        ---------
        path : str
            A mono sound file at the features' rate.

        Returns
        -------
        dict
            ``wav`` ``[segment_frames * hop]`` and ``history`` ``[history]``, dequantised;
            ``mel`` ``[context_frames, n_mels]`` (fewer for a shorter utterance), time first for
            SpeechBrain's padding; ``start``, the frame of ``mel`` on which ``wav`` begins.
        """
        hop = self.features.hop_length
        info = sound_info(path, self.features.sample_rate)
        # Frames whose whole hop lies within the file, and the one after them.
        frames = info.frames // hop + 1
        if frames <= self.segment_frames:
            raise UserError(
                f"{path}: {info.frames} samples are fewer than a training segment of "
                f"{self.segment_frames * hop}; filter the corpus by length or lower segment_frames"
            )
        loudest = -math.inf
        for _ in range(self.attempts):
            begin = _random_below(frames - self.segment_frames)
            position = begin * hop
            wav, offset = _read(
                path, position - self.history, position + self.segment_frames * hop, info.frames
            )
            wav = dequantise(wav)
            wav = F.pad(wav, (offset, 0))
            loudness = 10 * math.log10(wav[self.history :].square().mean().item())
            if loudness > loudest:
                loudest, chosen, chosen_begin = loudness, wav, begin
            if loudness >= self.min_loudness_dbfs:
                break
        context = min(self.context_frames, frames)
        lowest = max(0, chosen_begin + self.segment_frames + 1 - context)
        highest = min(chosen_begin, frames - context)
        first = lowest + _random_below(highest - lowest + 1)
        return {
            "wav": chosen[self.history :],
            "history": chosen[: self.history],
            "mel": self._mel_crop(path, first, context, info.frames),
            "start": chosen_begin - first,
        }

    def _mel_crop(self, path, first, count, samples):
        """Frames of the utterance's log-mel ``[count, n_mels]``, from the slice they depend on."""
        margin, hop = self.features.margin, self.features.hop_length
        start = first * hop - margin
        end = (first + count - 1) * hop + margin
        wav, missing = _read(path, start, end, samples)
        wav = F.pad(wav[None, None], (missing, max(0, end - samples)), mode="reflect")[0]
        return self.features.frames(wav)[0].T


def read_utterance(path, features, generator=None):
    """Reads a whole utterance for evaluation.

    Arguments
    ---------
    path : str
        A mono sound file at the features' rate.
    features : LogMel
        The feature contract.
    generator : torch.Generator
        Source of the dequantisation noise.

    Returns
    -------
    dict
        ``wav``, dequantised and cut to whole hops; ``mel`` ``[1 + samples // hop, n_mels]`` of
        the utterance as it is on disk.
    """
    info = sound_info(path, features.sample_rate)
    if info.frames <= features.n_fft:
        raise UserError(f"{path}: {info.frames} samples are too short for a log-mel")
    wav, _ = _read(path, 0, info.frames, info.frames)
    mel = features(wav[None])[0].T
    wav = wav[: info.frames // features.hop_length * features.hop_length]
    return {"wav": dequantise(wav, generator), "mel": mel}


def sound_info(path, sample_rate):
    """Header of a mono sound file at the given rate; a clear error for any other."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{path}: cannot be read as sound ({error})") from None
    if info.channels != 1:
        raise UserError(f"{path}: has {info.channels} channels; training needs mono files")
    if info.samplerate != sample_rate:
        raise UserError(
            f"{path}: is at {info.samplerate} Hz, the model at {sample_rate} Hz; prepare the "
            "corpus anew or set sample_rate"
        )
    return info


def _read(path, start, end, samples):
    """Samples ``[max(start, 0), min(end, samples))`` and how many are missing before them."""
    missing = max(0, -start)
    begin = max(start, 0)
    wav, _ = soundfile.read(path, min(end, samples) - begin, begin, dtype="float32")
    if len(wav) != min(end, samples) - begin:
        raise UserError(f"{path}: is truncated; its header promises {samples} samples")
    wav = torch.from_numpy(wav)
    if not torch.isfinite(wav).all():
        raise UserError(f"{path}: holds values that are not finite; repair or remove the file")
    return wav, missing


def _random_below(limit):
    return int(torch.randint(limit, ()))
