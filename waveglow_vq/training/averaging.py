"""Averages of weights: during the run (Polyak), and of saved checkpoints."""

from waveglow_vq.errors import UserError

import torch
from speechbrain.utils.checkpoints import PARAMFILE_EXT, ckpt_recency
from torch.optim.swa_utils import AveragedModel


class WeightAverage(AveragedModel):
    """Exponential moving average of a model's weights (after Polyak and Juditsky, 1992).

        average <- d * average + (1 - d) * weights,    d = min(decay, (1 + n) / (10 + n))

    after n updates: early on the memory is short, so that the average is useful from the start.
    Buffers of the checkpoint are copied: they hold counts, and codebooks that are averages already;
    the others are constants. Do not put it into ``modules``: it gets no gradient.

    Arguments
    ---------
    model : torch.nn.Module
        On its device, not wrapped.
    decay : float
        In [0, 1).

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
        super().__init__(model)
        self.decay = decay
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self._pairs = {}

    @torch.no_grad()
    def update_parameters(self, model):
        """Follows the weights of ``model``, always the same one. Nobody waits for the device: the
        count of updates is on the host."""
        if not self._pairs:
            # Found once: to go through a model's parts takes a millisecond.
            kept = self.module.state_dict().keys()
            buffers = [dict(m.named_buffers()) for m in (self.module, model)]
            self._pairs = {
                "weights": [list(m.parameters()) for m in (self.module, model)],
                "buffers": [[own[name] for name in kept & buffers[0].keys()] for own in buffers],
            }
        own, weights = self._pairs["weights"]
        n = int(self.n_averaged)
        if own:
            decay = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
            torch._foreach_lerp_(own, weights, 1 - decay)
        for buffer, theirs in zip(*self._pairs["buffers"], strict=True):
            buffer.copy_(theirs)
        self.n_averaged += 1


def choose_checkpoints(checkpointer, count, best_key=None):
    """The end-of-epoch checkpoints to average, the latest or best one first: ``count`` of them, or
    as many as there are. The best have the lowest value of ``best_key``, such as ``valid_loss``;
    with None, the latest are taken.
    """
    found = checkpointer.find_checkpoints(
        min_key=best_key,
        ckpt_predicate=lambda checkpoint: checkpoint.meta["end-of-epoch"],
        max_num_checkpoints=count,
    )
    if not found:
        which = f" whose {best_key} is known" if best_key else ""
        raise UserError(
            f"{checkpointer.checkpoints_dir} holds no checkpoints to average (ends of epochs"
            f"{which}); train first, or set --average_checkpoints 0"
        )
    return found


def average_checkpoints(checkpoints, name="model"):
    """The mean of the weights of checkpoints.

    Floating point, codebooks and their running sums included, is averaged in fp64 and keeps its
    type. The mean of codebooks makes sense only if code k means the same in all checkpoints: late
    in a run, when codes are no longer restarted. Integers (steps, ages of codes) are those of the
    newest checkpoint.

    ``name`` is the recoverable: a model, or a :class:`WeightAverage` of one. Returns a state_dict
    of the model.
    """
    checkpoints = sorted(checkpoints, key=ckpt_recency, reverse=True)
    paths = [checkpoint.path / f"{name}{PARAMFILE_EXT}" for checkpoint in checkpoints]
    states = [_read_weights(path) for path in paths]
    newest = states[0]
    for path, state in zip(paths, states, strict=True):
        for key in newest.keys() ^ state.keys():
            raise UserError(f"{path} and {paths[0]}: only one of them has the weight {key}")
        for key, value in newest.items():
            if state[key].shape != value.shape or state[key].dtype != value.dtype:
                raise UserError(
                    f"{path}: its weight {key} is {list(state[key].shape)} {state[key].dtype}, "
                    f"but that of {paths[0]} is {list(value.shape)} {value.dtype}; average "
                    "checkpoints of one model"
                )
    average = {}
    for key, value in newest.items():
        if value.is_floating_point():
            total = value.to(torch.float64, copy=True)
            for state in states[1:]:
                total += state[key]
            average[key] = (total / len(states)).to(value.dtype)
        else:
            average[key] = value.clone()
    return average


def _read_weights(path):
    """A model's state_dict; of a WeightAverage, that of the model in it."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: the run has saved no such weights")
    try:
        # Mapped: of many checkpoints, one weight at a time comes into memory.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        whole = all(map(torch.is_tensor, state.values()))
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise UserError(
            f"{path} cannot be read as weights; remove the folder {path.parent} to average without "
            "it"
        ) from error
    if not whole:
        raise UserError(f"{path} holds something other than weights")
    if "n_averaged" in state:
        prefix = "module."
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return state
