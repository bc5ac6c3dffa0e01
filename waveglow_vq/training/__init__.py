"""What every recipe shares: the Brain, weight averaging, export of a finished run."""
