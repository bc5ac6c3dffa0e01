"""The coupling network: its layers, their weights, and how they are computed on each device."""
