"""Audio files, resampling, log-mels and pitch."""
