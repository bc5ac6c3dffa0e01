"""Vector quantizers."""

from waveglow_vq.lobes.quantizers.groups import GroupedQuantizer
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer, build_quantizer

__all__ = ["EMAQuantizer", "GroupedQuantizer", "SoftEMQuantizer", "build_quantizer"]
