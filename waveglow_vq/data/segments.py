"""Training segments, cut from disk, and whole utterances."""

import contextlib
import math
from typing import NamedTuple

from waveglow_vq.audio.plain_wav import PlainWav, open_plain_wav
from waveglow_vq.audio.sound_files import SoundBytes, audio_info, check_peak, open_sound, sound_name
from waveglow_vq.errors import UserError
from waveglow_vq.utils.read_tracking import note_reading

import torch
from torch.nn import functional as F

# Half the distance between neighbouring values of 16-bit samples.
HALF_STEP = 0.5 / 32768
# Frames of log-mel that a segment is given on either side where there is room.
EDGE_FRAMES = 8


def dequantize(wav, generator=None):
    """Adds uniform noise of one quantization step, so that the density of 16-bit samples exists;
    without it a flow can make the likelihood of digital silence infinite.

    Example
    -------
    >>> import torch
    >>> bool(dequantize(torch.zeros(1000)).abs().max() <= 0.5 / 32768)
    True
    """
    noise = torch.rand(wav.shape, generator=generator, device=wav.device)
    return noise.mul_(2).sub_(1).mul_(HALF_STEP).add_(wav)


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
    random_shift : bool
        Whether an utterance begins at a random sample of its first hop, each time. Frames
        and groups then fall elsewhere on the waveform each time; without it, a small corpus is
        soon known by heart.
    attempts : int
        Draws before the whole file is searched for where there is sound.

    Example
    -------
    >>> import tempfile, os, soundfile, torch
    >>> from waveglow_vq.audio.features import LogMel
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
        random_shift=True,
        attempts=10,
    ):
        if context_frames <= segment_frames:
            raise UserError(
                f"context_frames: {context_frames} frames of log-mel must be more than the "
                f"segment_frames of {segment_frames}"
            )
        self.features = features
        self.segment_frames = segment_frames
        self.context_frames = context_frames
        self.history = history
        self.min_loudness_dbfs = min_loudness_dbfs
        self.random_shift = random_shift
        self.attempts = attempts

    def __call__(self, source, generator=None):
        """Draws a segment.

        Arguments
        ---------
        source : str, Path or SoundBytes
            A mono audio file at the features' rate.
        generator : torch.Generator
            Source of all random numbers; torch's global state where None.

        Returns
        -------
        dict
            ``wav`` ``[segment_frames * hop]`` and ``history`` ``[history]``, dequantized;
            ``mel`` ``[context_frames, n_mels]`` (fewer for a shorter utterance), time first for
            SpeechBrain's padding; ``start``, the frame of ``mel`` on which ``wav`` begins;
            ``first_frame``, the file's own frame that is nearest to the first one of ``mel``.
        """
        item = self.cut(source, generator)
        return {**item, "mel": self.log_mel(item.pop("context"))}

    def cut(self, source, generator=None):
        """Like a call, with ``context``, the samples that :meth:`log_mel` takes, in place of
        ``mel``."""
        hop = self.features.hop_length
        with _opened(source, self.features.sample_rate) as clip:
            least = max(self.segment_frames * hop, self.features.margin + 1)
            if clip.samples < least:
                raise UserError(
                    f"{sound_name(source)}: {clip.samples} samples are fewer than the {least} of a "
                    "training segment; filter the corpus by length or lower segment_frames"
                )
            shift = 0
            if self.random_shift:
                shift = _random_below(min(hop, clip.samples - least + 1), generator)
            clip = clip._replace(shift=shift, samples=clip.samples - shift)
            # Frames whose whole hop lies within the clip, and the one after them.
            frames = clip.samples // hop + 1
            for _ in range(self.attempts):
                begin = _random_below(frames - self.segment_frames, generator)
                chosen, loudness = self._segment(clip, begin, generator)
                if loudness >= self.min_loudness_dbfs:
                    break
            else:
                begin = self._audible_begin(clip, generator)
                chosen, _ = self._segment(clip, begin, generator)
            first, count = self._context(begin, frames, generator)
            return {
                "wav": chosen[self.history :],
                "history": chosen[: self.history],
                "context": self._around(clip, first, count),
                "start": begin - first,
                "first_frame": first + round(shift / hop),
            }

    def reference(self, source, generator=None):
        """Draws a piece of a file's log-mel, ``[context_frames, n_mels]`` or all of a shorter one,
        that shows the speaker.
        """
        return self.log_mel(self.cut_reference(source, generator))

    def cut_reference(self, source, generator=None):
        """The samples that :meth:`log_mel` takes for a :meth:`reference`."""
        with _opened(source, self.features.sample_rate) as clip:
            if clip.samples <= self.features.margin:
                raise UserError(
                    f"{sound_name(source)}: {clip.samples} samples are too short for a log-mel"
                )
            frames = clip.samples // self.features.hop_length + 1
            count = min(self.context_frames, frames)
            return self._around(clip, _random_below(frames - count + 1, generator), count)

    def frames_of(self, context):
        """How many frames of log-mel samples give."""
        return (len(context) - 2 * self.features.margin) // self.features.hop_length + 1

    def log_mel(self, context):
        """Log-mel ``[frames, n_mels]`` of samples with the margin of a frame on either side."""
        return self.features.frames(context[None])[0].T

    def _context(self, begin, frames, generator=None):
        """First frame and number of frames of the log-mel around a segment that begins on
        ``begin``: anywhere, but off its edges, where the conditioner would see zeros.
        """
        context = min(self.context_frames, frames)
        needed = self.segment_frames + 1
        margin = min(EDGE_FRAMES, (context - needed) // 2)
        lowest = max(0, begin + needed + margin - context)
        highest = min(begin - margin, frames - context)
        lowest, highest = min(lowest, frames - context), max(highest, 0)
        return lowest + _random_below(highest - lowest + 1, generator), context

    def _segment(self, clip, begin, generator):
        """History and segment that begin on frame ``begin``, dequantized, and the loudness of the
        segment in dBFS. Before the clip there are zeros, as the envelope flow has it."""
        position, hop = begin * self.features.hop_length, self.features.hop_length
        end = position + self.segment_frames * hop
        wav, missing = clip.read(position - self.history, end)
        wav = F.pad(dequantize(wav, generator), (missing, 0))
        return wav, _dbfs(float(wav[self.history :].square().mean()))

    def _audible_begin(self, clip, generator):
        """Searches a clip that is mostly silent: one of the frames on which a segment that is loud
        enough begins, or the loudest.
        """
        hop = self.features.hop_length
        wav, _ = clip.read(0, clip.samples // hop * hop)
        energy = wav.double().square().view(-1, hop).mean(dim=1)
        levels = energy.unfold(0, self.segment_frames, 1).mean(dim=1)
        audible = (levels >= 10 ** (self.min_loudness_dbfs / 10)).nonzero().flatten()
        if len(audible):
            return int(audible[_random_below(len(audible), generator)])
        return int(levels.argmax())

    def _around(self, clip, first, count):
        """The samples of the clip on which so many frames of its log-mel depend, ``first`` being
        the first of them."""
        margin, hop = self.features.margin, self.features.hop_length
        end = (first + count - 1) * hop + margin
        wav, missing = clip.read(first * hop - margin, end)
        behind = max(0, end - clip.samples)
        if missing or behind:
            wav = F.pad(wav[None], (missing, behind), mode="reflect")[0]
        return wav


def read_utterance(source, features, generator=None):
    """Reads a whole utterance for evaluation, from a mono audio file at the features' rate.

    ``wav`` is dequantized with noise of the generator and cut to whole hops; ``mel``, of shape
    ``[1 + samples // hop, n_mels]``, is that of the utterance as it is on disk.
    """
    samples = check_sound(source, features.sample_rate)
    if samples <= features.n_fft:
        raise UserError(f"{sound_name(source)}: {samples} samples are too short for a log-mel")
    wav, _ = _Clip(source, None, 0, samples).read(0, samples)
    mel = features(wav[None])[0].T
    wav = wav[: samples // features.hop_length * features.hop_length]
    return {"wav": dequantize(wav, generator), "mel": mel}


def check_sound(source, sample_rate):
    """Number of samples of a complete mono file at the given rate; a UserError for any other."""
    info, name = audio_info(source), sound_name(source)
    if info.num_channels != 1:
        raise UserError(f"{name}: has {info.num_channels} channels; training needs mono files")
    if info.sample_rate != sample_rate:
        raise UserError(
            f"{name}: is at {info.sample_rate} Hz, the model at {sample_rate} Hz; prepare the "
            "corpus again or set sample_rate"
        )
    return info.num_samples


@contextlib.contextmanager
def _opened(source, sample_rate):
    """An audio file as a _Clip, checked; it is read by the fast way if there is one."""
    note_reading(sound_name(source))
    plain = open_plain_wav(source)
    if plain is None or plain.sample_rate != sample_rate:
        yield _Clip(source, None, 0, check_sound(source, sample_rate))
        return
    with plain:
        yield _Clip(source, plain, 0, plain.num_samples)


class _Clip(NamedTuple):
    """An audio file, from its sample ``shift`` on."""

    source: str | SoundBytes
    plain: PlainWav | None  # if that can read it
    shift: int
    samples: int

    def read(self, start, end):
        """Samples ``[max(start, 0), min(end, samples))`` and how many are missing before them."""
        missing, begin = max(0, -start), max(start, 0)
        count = min(end, self.samples) - begin
        if self.plain is not None:
            return torch.from_numpy(self.plain.read(self.shift + begin, count)), missing
        name = sound_name(self.source)
        with open_sound(self.source) as file:
            file.seek(self.shift + begin)
            samples = file.read(count, dtype="float32")
        if len(samples) != count:
            raise UserError(f"{name}: is truncated; its header promises more samples")
        wav = torch.from_numpy(samples)
        if not torch.isfinite(wav).all():
            raise UserError(f"{name}: holds values that are not finite; repair or remove the file")
        check_peak(name, float(abs(samples).max(initial=0.0)))
        return wav, missing


def _dbfs(mean_square):
    """Level of a mean square of samples in dB relative to full scale; finite for silence."""
    return 10 * math.log10(max(mean_square, 1e-30))


def _random_below(limit, generator):
    return int(torch.randint(limit, (), generator=generator))
