"""Weight normalization of modules that can be pickled."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize


def weight_norm(module):
    """Torch's weight normalization of ``module.weight`` (Salimans and Kingma 2016), for a
    convolution or a linear layer, which is returned. Torch refuses to pickle what it gives, a class
    of its own for every module; this one can be.

    Example
    -------
    >>> import pickle
    >>> layer = weight_norm(nn.Linear(3, 2))
    >>> torch.equal(pickle.loads(pickle.dumps(layer)).weight, layer.weight)
    True
    """
    module = parametrizations.weight_norm(module)
    type(module).__reduce_ex__ = _reduce
    return module


def _reduce(module, protocol):
    state = {**module.__dict__, "_modules": {}}
    del state["_load_state_dict_pre_hooks"]  # torch's own, for the names of older versions
    parameters = dict(module.parametrizations.weight.named_parameters())
    return _restore, (parametrize.type_before_parametrizations(module), state, parameters)


def _restore(kind, state, parameters):
    module = kind.__new__(kind)
    module.__setstate__(state)
    module.weight = nn.Parameter(torch.ones(parameters["original1"].shape))
    weight_norm(module).train(module.training)
    for name, value in parameters.items():
        setattr(module.parametrizations.weight, name, value)
    return module
