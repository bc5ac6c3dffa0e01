"""The second stage of training: on samples that are drawn with gradients."""
