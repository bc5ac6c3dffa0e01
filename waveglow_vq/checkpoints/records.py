"""Records of what a pickle holds: names, objects, storages and tensors."""

import math
from typing import NamedTuple

from waveglow_vq.errors import UserError

MAX_DIMENSIONS = 8

# Packages whose classes occur in published checkpoints, and single names.
PACKAGES = (
    "glow",
    "glow_old",
    "waveglow",
    "model",
    "models",
    "torch.nn",
    "torch.optim",
    "apex",
    "omegaconf",
    "nemo",
    "pytorch_lightning",
    "lightning",
)
NAMES = {
    "collections": "OrderedDict defaultdict Counter",
    "builtins": "set frozenset list dict tuple int float bool str bytes bytearray complex slice"
    " range object",
    "copyreg": "_reconstructor",
    "_codecs": "encode",
    "argparse": "Namespace",
    "typing": "Any",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "torch": "Size device Tensor float16 bfloat16 float32 float64 half float double uint8 int8"
    " int16 int32 int64 bool",
    "torch.serialization": "_get_layout",
    "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_parameter"
    " _rebuild_parameter_with_state",
}
ALLOWED = {f"{module}.{name}" for module, names in NAMES.items() for name in names.split()}
# Python 2 had other names for these modules.
RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}

# torch's names of what a storage holds; the values are names of dtypes.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}


class Global(NamedTuple):
    """A name in a module; never looked up."""

    module: str
    name: str

    def __str__(self):
        return f"{self.module}.{self.name}"


class Instance:
    """In place of an object: its class (or the function that makes it), the arguments, and what the
    pickle puts into it."""

    __slots__ = ("args", "entries", "items", "kind", "state")

    def __init__(self, kind, args=()):
        self.kind = kind
        self.args = args
        self.state = {}  # attributes
        self.entries = {}  # of a mapping
        self.items = []  # of a sequence


class Storage(NamedTuple):
    """A run of numbers somewhere in the file: ``numel`` of them from ``start`` on."""

    key: str
    dtype: str
    numel: int
    start: int = 0


class StoredTensor(NamedTuple):
    """A tensor whose numbers have not been read; it lies within its storage."""

    storage: Storage
    offset: int
    shape: tuple
    stride: tuple

    @property
    def numel(self):
        """Number of elements."""
        return math.prod(self.shape)


def global_name(module, name):
    """The checked :class:`Global` of a name in a pickle."""
    module, name = RENAMED.get(module, module), str(name)
    allowed = f"{module}.{name}" in ALLOWED
    if module in ("torch", "torch.cuda", "torch.storage"):
        allowed = allowed or name in STORAGES
    allowed = allowed or any(f"{module}.".startswith(f"{package}.") for package in PACKAGES)
    if not allowed:
        raise UserError(
            f"it names {printable(f'{module}.{name}')}, which is no part of a WaveGlow checkpoint;"
            " nothing of it was run"
        )
    return Global(module, name)


def printable(text, longest=100):
    """Foreign text as part of one line.

    Example
    -------
    >>> printable("a\\nb")
    'a\\\\nb'
    """
    text = ascii(str(text))[1:-1]
    return text if len(text) <= longest else text[:longest] + "..."


def stored_tensor(storage, offset, shape, stride):
    """A tensor that is checked to lie within its storage, without elements that share a place."""
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or len(shape) != len(stride):
        raise ValueError("a tensor without a storage")
    if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("a tensor of impossible shape")
    numel = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if numel else 0
    if numel > storage.numel or last >= max(storage.numel, 1):
        raise ValueError("a tensor beyond its storage")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


def stored_object(identity, sources):
    """The object that a persistent id of torch stands for, which is ``('storage', type, key,
    location, numel[, view])`` or, in old files, ``('module', class, source file, source)``.
    ``sources`` receives the source code of classes, as text.
    """
    kind, *rest = identity
    if kind == "module":
        named, _, source = rest
        if isinstance(source, str):
            sources.append(source)
        if not isinstance(named, Global):
            raise ValueError("a class without a name")
        return named
    if kind != "storage" or not isinstance(rest[0], Global):
        raise ValueError("an unknown persistent id")
    storage_type, key, _, numel = rest[:4]
    view = rest[4] if len(rest) > 4 else None
    if not isinstance(key, str) or type(numel) is not int or numel < 0:
        raise ValueError("a storage of impossible size")
    dtype = STORAGES[storage_type.name]
    if view is None:
        return Storage(key, dtype, numel)
    # Storages of old files may be parts of others, which lie in the file.
    _, start, length = view
    if not all(type(n) is int and n >= 0 for n in (start, length)) or start + length > numel:
        raise ValueError("a part of a storage beyond its end")
    return Storage(key, dtype, length, start)
