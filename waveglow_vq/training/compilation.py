"""What --compile compiles of a model: its coupling networks, one for each shape."""

from waveglow_vq.lobes.flows.coupling import AffineCoupling

from torch.nn.utils import parametrize


def compile_coupling_networks(model, **options):
    """Compiles the networks of the affine couplings, which take nearly all of the time. The whole
    model would take minutes, since its flow steps are written out one after the other; networks of
    the same shape share what is compiled. Parameters keep their names.

    Arguments
    ---------
    model : torch.nn.Module
        Its couplings are searched for.
    options
        Of torch.compile. There may be more shapes than torch compiles by default, 8.

    Returns
    -------
    int
        How many networks there are.

    Example
    -------
    >>> import torch
    >>> compile_coupling_networks(AffineCoupling(torch.nn.Identity(), kept=1))
    1
    """
    networks = [part.network for part in model.modules() if isinstance(part, AffineCoupling)]
    _share_classes(networks)
    for network in networks:
        network.compile(**options)
    return len(networks)


def _share_classes(networks):
    """Torch gives each parametrized layer a class of its own, and compiled code belongs to classes.
    Those of the same kind do not differ."""
    known = {}
    for network in networks:
        for layer in network.modules():
            if parametrize.is_parametrized(layer):
                kind = parametrize.type_before_parametrizations(layer), *layer.parametrizations
                layer.__class__ = known.setdefault(kind, type(layer))
