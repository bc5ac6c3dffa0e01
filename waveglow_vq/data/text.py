"""Written English as it is spoken.

Authors
 * The waveglow-vq developers, 2026
"""

import re
import unicodedata

from waveglow_vq.data.numbers_in_words import cardinal


def normalize_text(text):
    """Lower case, letters, apostrophes and the marks that shape prosody.

    Example
    -------
    >>> normalize_text("  Fiancé,\\u2019 she SAID…")
    "fiance,' she said."
    """
    text = unicodedata.normalize("NFKD", text).lower().replace("\u2019", "'")
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"[0-9]+", lambda found: f" {cardinal(int(found[0][:18]))} ", text)
    text = re.sub(r"[^\w\s',.?!;:-]|_", " ", text)
    text = re.sub(r"([.?!,;:])[.?!,;:]+", r"\1", text)
    return " ".join(text.split()).lstrip(" ,.?!;:-")
