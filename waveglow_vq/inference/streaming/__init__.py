"""Waveforms of any length in constant memory."""
