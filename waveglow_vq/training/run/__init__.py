"""A run from its command line to its last word."""
