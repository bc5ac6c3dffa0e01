"""The architecture of a published checkpoint, from the shapes of its tensors, and the checks that
account for every tensor.
"""

from typing import NamedTuple

from waveglow_vq.checkpoints.names import KINDS, numbered
from waveglow_vq.checkpoints.records import Instance, printable
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.flows.upsampling import HOPS

import torch

# Names in a sentence; the rest is counted.
NAMED = 3
FLOATS = ("float16", "bfloat16", "float32", "float64")


class Architecture(NamedTuple):
    """What the shapes say; the arguments of :class:`~waveglow_vq.lobes.flows.waveglow.WaveGlow`,
    but for the first two.
    """

    n_mels: int
    hop_length: int  # the stride of the learned upsampling, a quarter of its kernel
    group_size: int
    flows: int
    early_every: int  # 0 where no channels leave early
    early_size: int
    layers: int
    channels: int
    kernel_size: int
    use_weight_norm: bool


def recognize(tensors):
    """The architecture that the shapes of tensors, by NVIDIA's current names, show. It is a
    UserError if they are no WaveGlow's, or those of one that has no equivalent here.
    """
    if not any(name.startswith("convinv.") for name in tensors):
        raise UserError("it holds no WaveGlow: it lacks the tensors convinv.*")
    n_mels, _, taps = _shape(tensors, "upsample.weight")
    flows = max(numbered(tensors, "convinv."), numbered(tensors, "WN."))
    sizes = [_shape(tensors, f"convinv.{k}.conv.weight")[0] for k in range(flows)]
    early_every = next((k for k in range(flows) if sizes[k] != sizes[0]), 0)
    early_size = sizes[0] - sizes[early_every] if early_every else 2
    for k, size in enumerate(sizes):
        expected = sizes[0] - early_size * (k // early_every if early_every else 0)
        if size != expected or size < 2 or size % 2:
            raise UserError(
                f"the tensor convinv.{k}.conv.weight is of size {size}, which does not fit the "
                "flows before it"
            )
    layers = numbered(tensors, "WN.0.in_layers.")
    normalized = "WN.0.in_layers.0.weight_v" in tensors
    first = "WN.0.in_layers.0." + ("weight_v" if normalized else "weight")
    channels, kernel_size = _shape(tensors, first)[1:]
    if kernel_size % 2 == 0:
        raise UserError(f"the tensor {first} has a kernel of {kernel_size} taps, an even number")
    hop = taps // HOPS
    if taps % HOPS or hop % sizes[0]:
        raise UserError(
            f"the tensor upsample.weight has {taps} taps, which are not four hops of whole groups"
        )
    return Architecture(
        n_mels,
        hop,
        sizes[0],
        flows,
        early_every,
        early_size,
        layers,
        channels,
        kernel_size,
        normalized,
    )


def expected_shapes(architecture):
    """Names, in NVIDIA's current layout, and shapes of every tensor that a model of this
    architecture has.

    Example
    -------
    >>> published = Architecture(80, 256, 8, 12, 4, 2, 8, 256, 3, False)
    >>> sum(torch.Size(shape).numel() for shape in expected_shapes(published).values())
    87731816
    """
    a = architecture
    shapes = {
        "upsample.weight": (a.n_mels, a.n_mels, HOPS * a.hop_length),
        "upsample.bias": (a.n_mels,),
    }

    def layer(name, outputs, inputs, taps=1, normalized=a.use_weight_norm):
        weight = (outputs, inputs, taps)
        if normalized:
            shapes[f"{name}.weight_g"] = (outputs, 1, 1)
            shapes[f"{name}.weight_v"] = weight
        else:
            shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = (outputs,)

    size = a.group_size
    for k in range(a.flows):
        if a.early_every and k and k % a.early_every == 0:
            size -= a.early_size
        shapes[f"convinv.{k}.conv.weight"] = (size, size, 1)
        layer(f"WN.{k}.start", a.channels, size // 2)
        for i in range(a.layers):
            layer(f"WN.{k}.in_layers.{i}", 2 * a.channels, a.channels, a.kernel_size)
            outputs = 2 * a.channels if i < a.layers - 1 else a.channels
            layer(f"WN.{k}.res_skip_layers.{i}", outputs, a.channels)
        layer(f"WN.{k}.cond_layer", 2 * a.channels * a.layers, a.n_mels * a.group_size)
        layer(f"WN.{k}.end", size, a.channels, normalized=False)
    return shapes


def _shape(tensors, name):
    if name not in tensors:
        raise UserError(f"it lacks the tensor {name}")
    shape = tuple(tensors[name].shape)
    if len(shape) != 3 or 0 in shape:
        raise UserError(f"the tensor {name} is of shape {list(shape)}, not of three dimensions")
    return shape


# ---- checks


def check_dtypes(tensors):
    """Raises a UserError for a tensor, read or not, that does not hold real numbers."""
    for name, tensor in tensors.items():
        if tensor.storage.dtype not in FLOATS:
            raise UserError(
                f"the tensor {printable(name)} holds {tensor.storage.dtype}, not real numbers"
            )


def check_shapes(tensors, architecture):
    """Raises a UserError unless the tensors are those of the architecture, none more, none less."""
    expected = expected_shapes(architecture)
    missing = [name for name in expected if name not in tensors]
    unknown = [printable(name) for name in tensors if name not in expected]
    misshaped = [
        f"{name} {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    for names, problem in (
        (missing, "lacks"),
        (unknown, "has unknown"),
        (misshaped, "has misshaped"),
    ):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            tensor = "the tensors" if len(names) > 1 else "the tensor"
            if problem != "lacks":
                tensor = tensor.removeprefix("the ")
            raise UserError(f"it {problem} {tensor} {', '.join(names[:NAMED])}{more}")


def check_values(tensors):
    """Raises a UserError for a tensor whose numbers make no model."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"the tensor {name} holds NaN or infinity")
        if name.endswith("weight_v") and bool((tensor.flatten(1).norm(dim=1) == 0).any()):
            raise UserError(f"the tensor {name} has rows of zeros, which cannot be normalized")
        if name.startswith("convinv."):
            matrix = tensor[..., 0].double()
            # Rank in the precision of fp32, in which the model runs.
            tolerance = len(matrix) * torch.finfo(torch.float32).eps
            if int(torch.linalg.matrix_rank(matrix, rtol=tolerance)) < len(matrix):
                raise UserError(f"the tensor {name} is a singular matrix: the flow has no inverse")


def check_stated(stated, architecture):
    """Raises a UserError where what the checkpoint states contradicts its shapes."""
    shown = {
        "n_mel_channels": architecture.n_mels,
        "n_flows": architecture.flows,
        "n_group": architecture.group_size,
        "n_layers": architecture.layers,
        "n_channels": architecture.channels,
        "kernel_size": architecture.kernel_size,
        "stride": architecture.hop_length,
    }
    if architecture.early_every:
        shown["n_early_every"] = architecture.early_every
        shown["n_early_size"] = architecture.early_size
    for name, value in shown.items():
        if name in stated and stated[name] != value:
            raise UserError(
                f"it states {name} {printable(stated[name])}, but its tensors show {value}"
            )


def stated_by_config(config):
    """What a configuration of DeepLearningExamples states of the architecture."""
    stated = {name: value for name, value in config.items() if isinstance(value, int)}
    network = config.get("WN_config")
    return stated | (network if isinstance(network, dict) else {})


def stated_by_module(module):
    """What the attributes of a pickled module say that shapes do not always show."""
    names = ("n_flows", "n_group", "n_early_every", "n_early_size")
    stated = {name: module.state[name] for name in names if name in module.state}
    upsample = module.state["_modules"].get("upsample")
    if isinstance(upsample, Instance) and isinstance(upsample.state.get("stride"), tuple):
        (stated["stride"],) = upsample.state["stride"]
    return stated


def without_mixed_norms(tensors):
    """Takes weight normalization away, exactly, if it is in some layers and not in others. The dict
    of tensors is changed.
    """
    layers = {name.rsplit(".", 1)[0] for name in tensors if name.startswith("WN.")}
    layers = {name for name in layers if not name.endswith(".end")}
    if all(f"{name}.weight_g" in tensors or f"{name}.weight_v" in tensors for name in layers):
        return
    for name in layers:
        kinds = [f"{name}.{kind}" for kind in KINDS[:2]]
        if all(kind in tensors for kind in kinds):
            g, v = (tensors.pop(kind) for kind in kinds)
            tensors[f"{name}.weight"] = torch._weight_norm(v, g, 0)
