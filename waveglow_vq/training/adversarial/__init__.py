"""Training against discriminators, of samples or of log-mels."""
