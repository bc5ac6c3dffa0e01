"""A small corpus that is generated, and the demos that learn from it."""
