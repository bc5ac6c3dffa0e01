"""Names of tensors: those of the published implementations, and ours.

The layout that everything is brought to first is NVIDIA/waveglow's current one:
``upsample.{weight,bias}``, ``convinv.k.conv.weight``,
``WN.k.{start,in_layers.i,res_skip_layers.i,cond_layer,end}.{weight_g,weight_v,bias}``.
"""

import re

from waveglow_vq.checkpoints.records import printable
from waveglow_vq.errors import UserError

import torch

# Parts of a coupling network: theirs, and ours.
LAYERS = {
    "start": "start",
    "in_layers": "dilated",
    "res_skip_layers": "residual_skip",
    "cond_layer": "local",
    "end": "end",
}
OURS = {ours: theirs for theirs, ours in LAYERS.items()}
# The two tensors of weight normalization: theirs, and torch's newer ones, which are ours.
NORMS = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
KINDS = ("weight_g", "weight_v", "weight", "bias")
# What wrappers for several processes put before names.
WRAPPERS = re.compile(r"^(module\.(1\.)?)+")
# What NeMo keeps beside the model: inverses that follow from other tensors, and the features.
LEFT_OUT = re.compile(r"(^convinv\.\d+\.inv_conv\.weight$)|(^audio_to_melspec_precessor\.)")


def published_names(state):
    """Our state dict of a :class:`~waveglow_vq.lobes.flows.waveglow.WaveGlow` under the published
    names. The model has ``prior: white`` and ``condition_geometry: sample``.

    Example
    -------
    >>> import torch
    >>> state = {"steps.0.coupling.network.dilated.1.bias": torch.zeros(8)}
    >>> list(published_names(state))
    ['WN.0.in_layers.1.bias']
    """
    renamed = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "upsample":
            renamed[name] = value
        elif parts[2] == "conv":
            renamed[f"convinv.{parts[1]}.conv.weight"] = value[..., None]
        else:
            rest = ".".join([OURS[parts[4]], *parts[5:]])
            for theirs, ours in NORMS.items():
                rest = rest.replace(ours, theirs)
            renamed[f"WN.{parts[1]}.{rest}"] = value
    return renamed


def our_names(tensors):
    """The inverse of :func:`published_names`.

    Example
    -------
    >>> import torch
    >>> list(our_names({"WN.0.cond_layer.weight_g": torch.ones(8, 1, 1)}))
    ['steps.0.coupling.network.local.parametrizations.weight.original0']
    """
    renamed = {}
    for name, value in tensors.items():
        part, *rest = name.split(".")
        if part == "upsample":
            renamed[name] = value
        elif part == "convinv":
            renamed[f"steps.{rest[0]}.conv.weight"] = value[..., 0]
        else:
            k, layer, *rest = rest
            rest[-1] = NORMS.get(rest[-1], rest[-1])
            renamed[".".join(["steps", k, "coupling", "network", LAYERS[layer], *rest])] = value
    return renamed


def plain_names(tensors):
    """Takes away from names what differs from publisher to publisher: what belongs to the model, by
    NVIDIA's names, the layers as they were; and the names of tensors that follow from others or do
    not belong to the model.
    """
    kept, left_out = {}, []
    within = any(WRAPPERS.sub("", name).startswith("waveglow.") for name in tensors)
    for original, value in tensors.items():
        name = WRAPPERS.sub("", original)
        if within:
            name = name.removeprefix("waveglow.")
        name = re.sub(r"^wavenet\.", "WN.", name)
        for theirs, newer in NORMS.items():
            name = name.replace(newer, theirs)
        if LEFT_OUT.search(name):
            left_out.append(original)
        elif name in kept:
            raise UserError(f"it has the tensor {printable(name)} twice")
        else:
            kept[name] = value
    # A weight beside its g and v is what they gave at some time, and may be stale.
    for name in list(kept):
        if name.endswith(".weight") and {f"{name}_g", f"{name}_v"} <= kept.keys():
            left_out.append(name)
            del kept[name]
    return kept, left_out


def numbered(names, prefix):
    """How many parts are numbered behind a prefix; they must be numbered without a gap.

    Example
    -------
    >>> numbered(["WN.0.start.bias", "WN.1.start.bias"], "WN.")
    2
    """
    found = set()
    for name in names:
        number = name.removeprefix(prefix).split(".", 1)[0]
        if name.startswith(prefix) and number.isdecimal():
            found.add(number)
    for number in range(len(found)):
        if str(number) not in found:
            raise UserError(f"it lacks the tensors {printable(prefix)}{number}.*")
    return len(found)


def join_layers(tensors):
    """Joins layers that older checkpoints keep apart; along the outputs, to which weight
    normalization belongs too, so that nothing changes.

    ``cond_layers.i`` of all layers become ``cond_layer``; ``res_layers.i`` and ``skip_layers.i``
    become ``res_skip_layers.i``. The dict of tensors, from :func:`plain_names`, is changed.
    """
    for k in range(numbered(tensors, "WN.")):
        network = f"WN.{k}."
        layers = numbered(tensors, f"{network}in_layers.")
        kinds = _kinds(tensors, f"{network}cond_layers.")
        parts = [f"{network}cond_layers.{i}." for i in range(layers)]
        _join(tensors, parts, f"{network}cond_layer.", kinds)
        kinds = _kinds(tensors, f"{network}skip_layers.")
        for i in range(layers):
            parts = [f"{network}res_layers.{i}."] * (i < layers - 1)
            parts.append(f"{network}skip_layers.{i}.")
            _join(tensors, parts, f"{network}res_skip_layers.{i}.", kinds)


def _kinds(tensors, prefix):
    """What the layers behind a prefix consist of."""
    found = {name.rsplit(".", 1)[-1] for name in tensors if name.startswith(prefix)}
    return [kind for kind in KINDS if kind in found]


def _join(tensors, parts, joined, kinds):
    for kind in kinds:
        names = [f"{part}{kind}" for part in parts]
        for name in names:
            if name not in tensors:
                raise UserError(f"it lacks the tensor {name}")
            if tensors[name].shape[1:] != tensors[names[0]].shape[1:] or not tensors[name].dim():
                raise UserError(f"the tensor {name} does not fit {names[0]}")
        if joined + kind in tensors:
            raise UserError(f"it has the tensor {joined}{kind} twice, joined and in parts")
        tensors[joined + kind] = torch.cat([tensors.pop(name) for name in names])
