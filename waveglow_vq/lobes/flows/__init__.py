"""Invertible transforms, and WaveGlow, which is a chain of them."""

from waveglow_vq.lobes.flows.envelope import EnvelopeFlow
from waveglow_vq.lobes.flows.transforms import (
    AffineCoupling,
    FiLM,
    FlowContext,
    FlowStep,
    InvertibleConv1x1,
)
from waveglow_vq.lobes.flows.waveglow import WaveGlow, negative_log_likelihood
from waveglow_vq.lobes.flows.wavenet import WaveNet

__all__ = [
    "AffineCoupling",
    "EnvelopeFlow",
    "FiLM",
    "FlowContext",
    "FlowStep",
    "InvertibleConv1x1",
    "WaveGlow",
    "WaveNet",
    "negative_log_likelihood",
]
