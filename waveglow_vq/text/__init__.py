"""Written English as it is spoken, and as tokens."""
