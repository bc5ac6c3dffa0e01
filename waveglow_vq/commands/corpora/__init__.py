"""Commands that prepare what is trained on."""
