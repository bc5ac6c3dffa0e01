"""A prepared corpus in a few large files."""
