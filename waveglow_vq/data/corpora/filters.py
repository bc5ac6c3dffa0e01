"""Which recordings of a corpus are left out, by their length and level."""

import math
from typing import NamedTuple

from waveglow_vq.audio.io import read_wav

import numpy as np

WINDOW_SAMPLES = 16384  # a training segment: what the loudness filter looks at
# An energy of 3.0 in such a window, the limit of earlier WaveGlow corpora: -37.4 dBFS.
MIN_LOUDNESS_DBFS = round(10 * math.log10(3.0 / WINDOW_SAMPLES), 1)
REASONS = ("too_short", "too_long", "silent", "too_quiet")
_SILENT_PEAK = 2.0 / 32768.0  # what dither leaves of digital silence


class Filters(NamedTuple):
    """Which recordings are left out.

    Arguments
    ---------
    min_samples : int or None
        Recordings shorter than this are dropped; None for no limit.
    max_samples : int or None
        Recordings longer than this are dropped; None for no limit.
    min_loudness_dbfs : float or None
        Recordings whose loudest window of 16384 samples has an RMS level below this are dropped;
        None for no limit.
    skip_silent : bool
        Whether to drop recordings of digital silence, for which a likelihood has no upper bound.
    """

    min_samples: int | None = WINDOW_SAMPLES
    max_samples: int | None = None
    min_loudness_dbfs: float | None = MIN_LOUDNESS_DBFS
    skip_silent: bool = True

    def normalized(self):
        """The same filters, as reports and fingerprints state them: min_samples is a number."""
        return self._replace(min_samples=self.min_samples or 1)


class Sound(NamedTuple):
    """What the filters need to know: length, peak (full scale 1), level of the loudest window."""

    num_samples: int
    peak: float
    loudness_dbfs: float


def loudest_window_dbfs(signal, window_samples=WINDOW_SAMPLES):
    """RMS level of the loudest window of a signal [N], in dB relative to an RMS of 1; -inf for
    digital silence. A signal shorter than the window is one window.

    Example
    -------
    >>> signal = np.zeros(50_000)
    >>> signal[30_000] = np.sqrt(3.0)
    >>> round(loudest_window_dbfs(signal), 2)
    -37.37
    """
    window = min(window_samples, len(signal))
    energy = np.concatenate([[0.0], np.cumsum(np.square(signal, dtype=np.float64))])
    loudest = (energy[window:] - energy[:-window]).max() / window
    return 10.0 * math.log10(loudest) if loudest > 0 else -math.inf


def measure_sound(path, sample_rate):
    """Reads a mono file and measures it; a UserError if it is missing, empty, cut off, at another
    rate, or holds NaN.
    """
    signal = read_wav(path, sample_rate=sample_rate).numpy()
    return Sound(len(signal), float(np.abs(signal).max()), loudest_window_dbfs(signal))


def reason_to_drop(sound, filters):
    """Which filter rejects a recording: one of `REASONS`, or None.

    Example
    -------
    >>> reason_to_drop(Sound(100, 0.5, -20.0), Filters(min_samples=200))
    'too_short'
    """
    if sound.num_samples < (filters.min_samples or 1):
        return "too_short"
    if filters.max_samples is not None and sound.num_samples > filters.max_samples:
        return "too_long"
    if filters.skip_silent and sound.peak <= _SILENT_PEAK:
        return "silent"
    if filters.min_loudness_dbfs is not None and sound.loudness_dbfs < filters.min_loudness_dbfs:
        return "too_quiet"
    return None
