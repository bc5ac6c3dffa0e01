"""Averages of weights: along the run (Polyak), and offline over saved checkpoints.

Authors
 * The waveglow-vq developers, 2026
"""

from waveglow_vq.errors import UserError

import torch
from speechbrain.utils.checkpoints import average_checkpoints
from torch.optim.swa_utils import AveragedModel


class WeightAverage(AveragedModel):
    """Exponential moving average of a model's weights, beside the model (Polyak and Juditsky,
    1992, with a fading memory).

        average <- d * average + (1 - d) * weights,    d = min(decay, (1 + n) / (10 + n))

    after n updates: early on the memory is short, so that the average is useful from the start.
    Buffers are copied, not averaged: they hold counts, and codebooks that are averages already.
    Not to be put into ``modules``: no gradient ever reaches it.

    Arguments
    ---------
    model : torch.nn.Module
        The model, on its device and not wrapped by anything.
    decay : float
        Share of the past that is kept at each update in the end, in [0, 1).

    Example
    -------
    >>> import torch
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage(model, decay=0.5)
    >>> for weight in (1.0, 2.0, 3.0):
    ...     _ = model.weight.data.fill_(weight)
    ...     average.update_parameters(model)
    >>> round(average.module.weight.item(), 4)  # 1, then decays of 2/11 and 3/12
    2.7045
    """

    def __init__(self, model, decay=0.999):
        if not 0 <= decay < 1:
            raise UserError(f"averaging_decay: {decay}; it has to be at least 0 and below 1")
        super().__init__(model, multi_avg_fn=self._average)
        self.decay = decay
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def _average(self, averages, weights, updates):
        n = float(updates)
        decay = min(self.decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(averages, weights, 1 - decay)


def average_saved_weights(checkpointer, count, name="model"):
    """Averages the weights of the latest end-of-epoch checkpoints.

    Arguments
    ---------
    checkpointer : speechbrain.utils.checkpoints.Checkpointer
        Where the checkpoints are.
    count : int
        How many; fewer if there are fewer.
    name : str
        Which recoverable.

    Returns
    -------
    state : dict
        A state_dict; whole numbers keep their type.
    """
    found = checkpointer.find_checkpoints(
        ckpt_predicate=lambda checkpoint: checkpoint.meta["end-of-epoch"],
        max_num_checkpoints=count,
    )
    if not found:
        raise UserError(
            f"{checkpointer.checkpoints_dir} holds no checkpoints to average; train first, or set "
            "--average_checkpoints 0"
        )

    def load(path, map_location=None):
        return torch.load(path, map_location=map_location, weights_only=True)

    newest = load(found[0].paramfiles[name], map_location="cpu")
    state = average_checkpoints(found, name, parameter_loader=load)
    return {key: value.to(newest[key].dtype) for key, value in state.items()}
