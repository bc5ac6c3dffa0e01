"""Judges that were not trained with the model: a speaker encoder and a speech recognizer.

Both packages (resemblyzer, pocketsphinx) carry their own weights, so they work offline. ``make
judges`` installs them; nothing else in this package needs them. The recognizer is weak: compare its
word error with that on the recordings themselves, or take another of
:mod:`~waveglow_vq.evaluation.words.recognizers`.
"""

import importlib.util
import re
import warnings
from typing import NamedTuple

from waveglow_vq.audio.resampling import resample
from waveglow_vq.errors import UserError

import numpy as np
import torch

JUDGE_RATE = 16000
_WHERE_FROM = "install it with make judges, or skip it"


def left_out(what, judge, installed=True):
    """A note for a report on what is not judged, and by whom; ``installed`` is False where the
    judge is missing.

    Example
    -------
    >>> left_out("words", "speech recognizer")
    'Skipped as requested: words (speech recognizer).'
    >>> left_out("words", "speech recognizer", False)
    "Skipped: words, since the speech recognizer is not installed; 'make judges' in the project's
    folder installs it."
    """
    if installed:
        return f"Skipped as requested: {what} ({judge})."
    return (
        f"Skipped: {what}, since the {judge} is not installed; 'make judges' in the project's"
        " folder installs it."
    )


class SpeakerScorer:
    """Embeds voices with resemblyzer's speaker encoder (LSTM, trained with the GE2E loss).

    Example
    -------
    >>> if SpeakerScorer.available():
    ...     judge = SpeakerScorer()
    ...     judge.embed(torch.randn(22050).mul(0.1), 22050).shape
    ... else:
    ...     torch.Size([256])
    torch.Size([256])
    """

    modules = ("resemblyzer", "webrtcvad")

    @classmethod
    def available(cls):
        """Whether its packages are installed."""
        return modules_found(cls.modules)

    def __init__(self):
        _require(self.modules, "the speaker encoder", "resemblyzer and webrtcvad")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of scipy, about its namespaces
            from resemblyzer import audio
            from resemblyzer.voice_encoder import VoiceEncoder

        self._audio = audio
        # The encoder is initialized at random before its weights are read: a training run that
        # asks for a judgement must not find its random numbers advanced.
        with torch.random.fork_rng(devices=[]):
            self._encoder = VoiceEncoder("cpu", verbose=False)

    @torch.no_grad()
    def embed(self, wav, sample_rate):
        """The voice of one waveform, samples [N] or [1, N] of full scale 1: [256] of unit length;
        zeros for silence, which is like nobody.

        Resampled to 16 kHz, raised to -30 dBFS if it is quieter, and freed of long pauses, as
        resemblyzer does with files; a waveform in which nothing is found to be speech keeps its
        pauses.
        """
        samples = at_judge_rate(wav, sample_rate).numpy()
        if not samples.any():
            return torch.zeros(256)
        samples = self._audio.normalize_volume(
            samples, self._audio.audio_norm_target_dBFS, increase_only=True
        )
        # 16-bit words for the voice activity detection: beyond full scale they would wrap.
        samples = np.clip(samples, -1.0, 1.0)
        speech = self._audio.trim_long_silences(samples)
        embedding = self._encoder.embed_utterance(speech if len(speech) else samples)
        return torch.from_numpy(np.asarray(embedding, dtype=np.float32))


def centroid(embeddings):
    """Mean of embeddings [dimensions], at unit length: a speaker in place of a recording.

    Example
    -------
    >>> centroid([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
    tensor([0.7071, 0.7071])
    """
    return torch.nn.functional.normalize(torch.stack(list(embeddings)).mean(0), dim=0)


def cosine(first, second):
    """Cosine of the angle between two embeddings, 0 if one is zero.

    Example
    -------
    >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]))
    1.0
    """
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


class ErrorCounts(NamedTuple):
    """Insertions, deletions and substitutions, and how many tokens there should have been, by words
    and by characters, spaces included."""

    word_edits: int
    words: int
    character_edits: int
    characters: int


class ASRScorer:
    """Recognizes US English with pocketsphinx and its own models.

    Example
    -------
    >>> if ASRScorer.available():
    ...     ASRScorer().transcribe(torch.zeros(16000), 16000)
    ... else:
    ...     ''
    ''
    """

    modules = ("pocketsphinx",)

    @classmethod
    def available(cls):
        """Whether its package is installed."""
        return modules_found(cls.modules)

    @classmethod
    def require(cls):
        """Raises a UserError if its package is not installed."""
        _require(cls.modules, "the speech recognizer", "pocketsphinx")

    def __init__(self):
        self.require()
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=JUDGE_RATE, loglevel="FATAL")

    def transcribe(self, wav, sample_rate):
        """The words of samples [N] or [1, N] of full scale 1, in lower case, without punctuation;
        empty if there are none. An utterance does not depend on those before it."""
        samples = at_judge_rate(wav, sample_rate)
        if not samples.any():
            return ""  # pocketsphinx hears "dog" in digital silence
        pcm = (samples * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
        # The noise tracker of the front end remembers the utterance before.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return normalize_transcript(hypothesis.hypstr) if hypothesis else ""

    def errors(self, text, wav, sample_rate):
        """ErrorCounts of the transcript of a waveform, against its text."""
        return count_errors(text, self.transcribe(wav, sample_rate))


def normalize_transcript(text):
    """Lower case, letters, digits and apostrophes, single spaces: what is compared where words are
    counted, as a recognizer writes no punctuation. It makes no words of what is written in another
    way, such as numbers; :func:`~waveglow_vq.text.normalization.normalize_text` does, for models
    that speak, and goes before where its result was spoken.

    Example
    -------
    >>> normalize_transcript(' "Please, call Stella\u2019s twenty-one  friends."')
    "please call stella's twenty one friends"
    """
    text = text.lower().replace("\u2019", "'")
    # Apostrophes within words belong to them; others are quotation marks.
    text = re.sub(r"(?<!\w)'|'(?!\w)|[^\w']|_", " ", text)
    return " ".join(text.split())


def count_errors(text, transcript):
    """Edit distance of a transcript to its reference, by words and by characters, after
    :func:`normalize_transcript`.

    Example
    -------
    >>> count_errors("The cat sat.", "the bat")
    ErrorCounts(word_edits=2, words=3, character_edits=5, characters=11)
    """
    from speechbrain.utils.edit_distance import wer_details_by_utterance

    text, transcript = normalize_transcript(text), normalize_transcript(transcript)
    words, characters = (
        wer_details_by_utterance({0: reference}, {0: hypothesis})[0]
        for reference, hypothesis in ((text.split(), transcript.split()), (text, transcript))
    )
    return ErrorCounts(
        words["num_edits"],
        words["num_ref_tokens"],
        characters["num_edits"],
        characters["num_ref_tokens"],
    )


def error_rates(counts):
    """Rates over the ErrorCounts of many utterances: all edits divided by all tokens, so that long
    ones count more.

    Returns ``word_error``, ``character_error`` (0 if all is right; insertions can bring them above
    1), ``words`` and ``utterances``; empty if there are no words.

    Example
    -------
    >>> error_rates([count_errors("one two", "one two"), count_errors("six", "sick")])
    {'word_error': 0.333..., 'character_error': 0.2, 'words': 3, 'utterances': 2}
    """
    counts = list(counts)
    words = sum(count.words for count in counts)
    if not words:
        return {}
    return {
        "word_error": sum(count.word_edits for count in counts) / words,
        "character_error": sum(count.character_edits for count in counts)
        / sum(count.characters for count in counts),
        "words": words,
        "utterances": len(counts),
    }


def modules_found(modules):
    """Whether all of these modules are installed; none is imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _require(modules, who, packages):
    if not modules_found(modules):
        raise UserError(f"{who} needs {packages}: {_WHERE_FROM}")


def at_judge_rate(wav, sample_rate):
    """Samples [N] or [1, N] of any kind as [N], fp32, at 16 kHz."""
    wav = torch.as_tensor(wav).detach().cpu().float()
    if wav.ndim == 2 and wav.shape[0] == 1:
        wav = wav[0]
    if wav.ndim != 1:
        raise ValueError(f"expected samples [N] or [1, N], got {tuple(wav.shape)}")
    return resample(wav, sample_rate, JUDGE_RATE)
