"""The commands of ``waveglow-vq``, a module each. They import torch when they run and not before,
so that help and wrong usage are answered at once."""
