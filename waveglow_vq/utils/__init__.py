"""Files, devices, processes and sequences: what knows nothing of speech."""
