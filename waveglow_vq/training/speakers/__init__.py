"""Training of what hears who speaks."""
