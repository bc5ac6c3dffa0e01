"""Models, and the modules that they are made of."""

from waveglow_vq.lobes.model import ModelOutput, WaveGlowVQ

__all__ = ["ModelOutput", "WaveGlowVQ"]
