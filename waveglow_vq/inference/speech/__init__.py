"""Text to speech behind its interface."""
