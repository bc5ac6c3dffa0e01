"""Invertible transforms, and WaveGlow, which is a chain of them."""

from waveglow_vq.lobes.flows.conv1x1 import InvertibleConv1x1
from waveglow_vq.lobes.flows.coupling import AffineCoupling, FlowStep
from waveglow_vq.lobes.flows.envelope import EnvelopeFlow
from waveglow_vq.lobes.flows.film import FiLM
from waveglow_vq.lobes.flows.network.wavenet import WaveNet
from waveglow_vq.lobes.flows.transforms import Chain, CompositeTransform, FlowContext, Transform
from waveglow_vq.lobes.flows.waveglow import WaveGlow, negative_log_likelihood

__all__ = [
    "AffineCoupling",
    "Chain",
    "CompositeTransform",
    "EnvelopeFlow",
    "FiLM",
    "FlowContext",
    "FlowStep",
    "InvertibleConv1x1",
    "Transform",
    "WaveGlow",
    "WaveNet",
    "negative_log_likelihood",
]
