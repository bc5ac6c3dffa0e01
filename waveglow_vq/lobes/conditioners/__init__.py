"""From features to what the flows are conditioned on."""

from waveglow_vq.lobes.conditioners.base import (
    Condition,
    Conditioner,
    Inputs,
    WaveConditioner,
    normalize_log_mel,
)
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition, build_speakers
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner

__all__ = [
    "Condition",
    "Conditioner",
    "Inputs",
    "MelConditioner",
    "MelVQConditioner",
    "SpeakerCondition",
    "WaveConditioner",
    "WaveVQConditioner",
    "build_speakers",
    "normalize_log_mel",
]
