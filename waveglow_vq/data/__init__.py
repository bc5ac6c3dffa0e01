"""Features, segments and corpora."""
