"""From text tokens to the codes of a codec."""

from waveglow_vq.lobes.text_to_codes.model import TextToCodes, TextToCodesOutput
from waveglow_vq.lobes.text_to_codes.search import SearchOptions

__all__ = ["SearchOptions", "TextToCodes", "TextToCodesOutput"]
