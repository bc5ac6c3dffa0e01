"""What a training step of the whole model returns."""

from typing import NamedTuple

import torch


class PredictedLogMel(NamedTuple):
    """A log-mel that was predicted from codes, and the one that it should be.

    Arguments
    ---------
    predicted, target : torch.Tensor
        ``[batch, n_mels, frames]``.
    lengths : torch.Tensor
        Relative lengths in (0, 1], ``[batch]``, or None where nothing is padded.
    """

    predicted: torch.Tensor
    target: torch.Tensor
    lengths: torch.Tensor | None


class ModelOutput(NamedTuple):
    """Output of a training step.

    Arguments
    ---------
    loss : torch.Tensor
        What is minimized, a scalar.
    terms : dict
        Its terms before weighting, detached scalars: ``nll`` in nats per sample (see
        :func:`~waveglow_vq.lobes.flows.waveglow.negative_log_likelihood`) and, where they apply,
        ``mel_l1``, ``codebook``, ``commitment``, ``adversary`` (nats).
    statistics : dict
        What the quantizer says of its codes; empty without one.
    log_mel : PredictedLogMel
        Where codes predict one, else None; for losses beside those of the model.
    """

    loss: torch.Tensor
    terms: dict
    statistics: dict
    log_mel: PredictedLogMel | None = None
