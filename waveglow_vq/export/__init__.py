"""Exports of trained models: folders for from_hparams, and ONNX files."""
