"""The same words in another voice."""
