"""The ranges that recordings are varied by while a PitchReader is trained. Nothing large is
imported, as the command shows them."""

import math
from typing import NamedTuple

from waveglow_vq.errors import UserError


class Variety(NamedTuple):
    """Ranges that are drawn from.

    Arguments
    ---------
    copies : int
        Copies of each recording beside itself, each at a speed of its own.
    speeds : tuple
        Factors; F0 and formants are multiplied by them.
    gains_db : tuple
        Gains in dB of recordings of RMS 0.06.
    noise_db : tuple
        Signal-to-noise ratios in dB, for half of what is drawn. The noise is white, or falls by up
        to 6 dB per octave.
    lowest_cut_hz : float
        Three of ten are cut at a frequency in Hz from this one to the last band.
    """

    copies: int = 2
    speeds: tuple = (0.6, 1.6)
    gains_db: tuple = (-20.0, 10.0)
    noise_db: tuple = (15.0, 50.0)
    lowest_cut_hz: float = 3400.0

    def check(self):
        """Raises a UserError that names what is out of range."""
        if self.copies < 0:
            raise UserError(f"--copies must be at least 0, got {self.copies}")
        for name in ("speeds", "gains_db", "noise_db"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise UserError(f"--{name} must be two numbers in order, got {low} and {high}")
        if not 0.1 <= self.speeds[0] <= self.speeds[1] <= 10:
            raise UserError(f"--speeds must lie between 0.1 and 10, got {self.speeds}")
        if not self.lowest_cut_hz > 0:
            raise UserError(f"--lowest_cut_hz must be positive, got {self.lowest_cut_hz}")
