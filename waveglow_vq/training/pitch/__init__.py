"""Training of what reads pitch off log-mels."""
