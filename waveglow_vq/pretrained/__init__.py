"""Weights that come with the package; ``README.md`` beside them says what they were trained on."""
