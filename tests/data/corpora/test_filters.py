from waveglow_vq.data.corpora.filters import Filters, Sound, loudest_window_dbfs, reason_to_drop

import numpy as np
import pytest


def test_loudness_is_that_of_the_loudest_window():
    signal = np.zeros(100_000)
    signal[40_000:56_384] = 0.1
    assert loudest_window_dbfs(signal) == pytest.approx(-20.0)
    assert loudest_window_dbfs(signal[40_000:41_000]) == pytest.approx(-20.0)
    assert loudest_window_dbfs(signal[:30_000]) == -np.inf


@pytest.mark.parametrize(
    ("sound", "filters", "reason"),
    [
        (Sound(16383, 0.5, -20.0), Filters(), "too_short"),
        (Sound(16384, 0.5, -20.0), Filters(), None),
        (Sound(1, 0.5, -20.0), Filters(min_samples=None), None),
        (Sound(50_001, 0.5, -20.0), Filters(max_samples=50_000), "too_long"),
        (Sound(50_000, 0.5, -20.0), Filters(max_samples=50_000), None),
        (Sound(50_000, 1 / 32768, -90.3), Filters(), "silent"),
        (Sound(50_000, 0.1, -37.5), Filters(), "too_quiet"),
        (Sound(50_000, 0.1, -37.3), Filters(), None),
        (Sound(50_000, 0.1, -60.0), Filters(min_loudness_dbfs=None), None),
        (Sound(50_000, 0.0, -np.inf), Filters(min_loudness_dbfs=None, skip_silent=False), None),
    ],
)
def test_filters(sound, filters, reason):
    assert reason_to_drop(sound, filters) == reason
