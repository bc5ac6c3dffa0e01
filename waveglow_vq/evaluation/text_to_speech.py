"""Does it say what is written? Speech from text, judged beside recordings of the same sentences.

Authors
 * The waveglow-vq developers, 2026
"""

from waveglow_vq.evaluation.attention import alignment_figures

__all__ = ["alignment_figures"]
