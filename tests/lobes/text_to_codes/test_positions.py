"""Tests of positions as vectors."""

import math

from waveglow_vq.lobes.text_to_codes.positions import sinusoids

import pytest
import torch


def test_positions_need_not_be_whole():
    table = sinusoids(torch.tensor([0.0, 2.5]), 6)
    for place, position in enumerate((0.0, 2.5)):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert float(table[place, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table[place, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)
