"""Voice conversion behind its interface."""
