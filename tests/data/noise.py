"""Noise to cut segments out of."""

import functools

from waveglow_vq.data.segments import SegmentReader

import numpy as np

RATE, HOP = 22050, 256


def speech_like(samples, seed=0):
    """Noise that changes from hop to hop, so that no two places look alike."""
    generator = np.random.default_rng(seed)
    loudness = generator.uniform(0.02, 0.3, samples // HOP + 1).repeat(HOP)[:samples]
    return (loudness * generator.standard_normal(samples)).clip(-1, 1)


unshifted = functools.partial(SegmentReader, random_shift=False)
