"""Modules of torch only: no files, no YAML, no training loop."""
