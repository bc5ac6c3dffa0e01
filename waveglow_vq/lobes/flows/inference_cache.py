"""Caches for inference: what can be computed once from weights that no longer change.

A module that is :class:`InferenceCache` has one cache, owns it, and drops it as soon as it may be
wrong: at ``train()`` and ``eval()``, ``load_state_dict()``, ``to()`` and its like, and when one of
its weights has been written to, which tensors count (what is written through ``.data`` they do
not). It serves only where no gradient is asked for: everywhere else, and without
:func:`prepare_inference`, the module computes as it is defined.
"""

import torch
from torch import nn


class InferenceCache(nn.Module):
    """A module with a cache for inference; subclasses say by ``_prepare(dtype)`` what is in it.

    Example
    -------
    >>> import torch
    >>> class Squared(InferenceCache):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(torch.tensor(3.0))
    ...
    ...     def _prepare(self, dtype):
    ...         return self.weight.square()
    >>> module = Squared().eval()
    >>> with torch.no_grad():
    ...     print(module.prepared())
    ...     prepare_inference(module)
    ...     print(module.prepared())
    ...     module.weight.mul_(2)
    ...     print(module.prepared())
    None
    tensor(9.)
    Parameter containing:
    tensor(6., requires_grad=True)
    None
    """

    _cache = None

    def _prepare(self, dtype):
        """What to keep, for the given precision; called without gradients."""
        raise NotImplementedError

    def prepared(self):
        """What was prepared, or None if there is nothing, nothing valid, or gradients are wanted.
        What is exported is the module as it is defined."""
        if self._cache is None or torch.is_grad_enabled() or torch.compiler.is_exporting():
            return None
        value, _, weights, versions = self._cache
        if torch.compiler.is_compiling():
            return value
        if versions != [_version(weight) for weight in weights]:
            self.forget()
            return None
        return value

    def forget(self):
        """Drops the cache."""
        self._cache = None

    def train(self, mode=True):
        """As of any module; see above."""
        self.forget()
        return super().train(mode)

    def _apply(self, fn, recurse=True):
        self.forget()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args, **kwargs):
        self.forget()
        return super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self):
        # Copies make their own, and have no CUDA graphs, by which forward may be replaced.
        state = {**self.__dict__, "_cache": None}
        state.pop("forward", None)
        return state


@torch.no_grad()
def prepare_inference(module, dtype=None):
    """Prepares a module in evaluation mode, and the :class:`InferenceCache` ones in it, for
    inference; where that is done already, nothing happens.

    ``dtype`` is the precision of the coupling networks; None: that of the weights. What the flows
    themselves compute stays at fp32.
    """
    if module.training:
        raise ValueError("prepare_inference: call eval() first")
    for part in module.modules():
        if not isinstance(part, InferenceCache):
            continue
        if part._cache is None or part._cache[1] != dtype or part.prepared() is None:
            # Not of inference mode, whose tensors could not be used outside of it.
            with torch.inference_mode(False), torch.no_grad():
                value = part._prepare(dtype)
            weights = [*part.parameters(), *part.buffers()]
            part._cache = (value, dtype, weights, [_version(weight) for weight in weights])


def _version(weight):
    # Tensors that were made in inference mode cannot be written to outside of it and do not count.
    return 0 if weight.is_inference() else weight._version
