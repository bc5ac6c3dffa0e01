"""Training of models that write the codes of a codec from text."""
