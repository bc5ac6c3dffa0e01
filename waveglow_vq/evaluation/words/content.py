"""What is said, compared without a text: frames of Whisper's encoder.

Whisper's encoder was trained to tell a decoder which words were spoken, by anybody and over any
noise. So frames of the same sound are near to each other for it, whoever speaks, and words that
become unclear move away before a recognizer mistakes them: the measure is finer than word error,
and needs no text.

On VCTK, 31 clips of 8 sentences by 4 speakers, every pair of one sentence by two speakers (48; 0.19
on the mean, 0.33 at most) is nearer than every pair of two sentences by one speaker (105; 0.52,
0.46 at least). So it is after the second, third and fourth block of the encoder (the means are 6.7,
10.2 and 11.5 standard deviations apart, at the output 6.3), not before (after the first 1.2); MCD
takes 5 % of such pairs the wrong way round (2.2). Of those that suffice, the output is what
CTranslate2 gives away.
"""

import functools

from waveglow_vq.evaluation.judges import JUDGE_RATE
from waveglow_vq.evaluation.metrics import dtw_mean_distance
from waveglow_vq.evaluation.words.recognizers import whisper_model

import numpy as np

# The encoder has positions for 30 seconds.
_MOST_SAMPLES = 29 * JUDGE_RATE


def content_distance(reference, estimate):
    """Mean cosine distance of the encoder's frames along the best time alignment.

        D = mean_path ( 1 - cos(h_i, h^_j) )

    h are the outputs of the encoder of Whisper tiny.en every 20 ms. 0 for a copy; where other words
    are said it is about 0.5. Both are arrays [N] at 16 kHz, fp32. Returns ``[D]``, as judges of
    :mod:`~waveglow_vq.evaluation.sound_quality` do.
    """
    return [dtw_mean_distance(*map(content_frames, (reference, estimate)), cosine_distances)]


def content_frames(wav):
    """Frames ``[T, 384]`` of unit length of an array [N] at 16 kHz; long ones are heard in equal
    parts."""
    parts = np.array_split(wav, -(-len(wav) // _MOST_SAMPLES))
    frames = np.concatenate([_encode(part) for part in parts])
    return frames / np.linalg.norm(frames, axis=1, keepdims=True).clip(1e-6)


def cosine_distances(first, second):
    """1 - cos of the angles between the rows of two arrays of unit vectors.

    Example
    -------
    >>> cosine_distances(np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]])).tolist()
    [0.0, 1.0]
    """
    return np.maximum(1 - (first * second).sum(axis=1), 0.0)


def _encode(wav):
    model = _model()
    features = model.feature_extractor(wav)
    return np.array(model.encode(np.ascontiguousarray(features)))[0].astype(np.float64)


@functools.lru_cache(maxsize=1)
def _model():
    return whisper_model()
