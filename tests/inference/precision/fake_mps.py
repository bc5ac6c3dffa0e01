"""A device ``mps`` on machines that have none: the CPU computes; what mps cannot is an error."""

import contextlib
from unittest import mock

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

DEVICE = torch.device("mps", 0)


class OnMps(torch.Tensor):
    """A tensor that says it is on mps. Its numbers are on the CPU, in ``inner``."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def tolist(self):
        return self.inner.tolist()

    def item(self):
        return self.inner.item()

    def __bool__(self):
        return bool(self.inner)

    def __int__(self):
        return int(self.inner)

    def __index__(self):
        return self.inner.__index__()

    def __float__(self):
        return float(self.inner)

    def __invert__(self):
        return OnMps(~self.inner)

    def contiguous(self, **options):
        return OnMps(self.inner.contiguous(**options))

    def __getitem__(self, index):
        return OnMps(self.inner[_inner(index)])

    def __setitem__(self, index, value):
        self.inner[_inner(index)] = _inner(value)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def _inner(tree):
    return tree_map_only(OnMps, lambda x: x.inner, tree)


def _on_mps(x):
    if x.dtype in (torch.float64, torch.complex128):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    return x if isinstance(x, OnMps) else OnMps(x)


def _run(function, args, kwargs):
    given = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if torch.is_tensor(x)]
    here = any(isinstance(x, OnMps) for x in given)
    asked = kwargs.get("device")
    if asked is not None:
        here = torch.device(asked).type == "mps"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    name = function.overloadpacket.__name__
    if here and name not in ("_to_copy", "copy_"):
        for x in given:
            if not isinstance(x, OnMps) and x.dim():
                raise RuntimeError(f"{name}: tensors on mps and cpu")
    if name == "_to_copy" and here and any(x.dtype == torch.float64 for x in given):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    if name == "copy_" and isinstance(args[0], OnMps) is False and asked is None:
        here = False
    inner = _inner((args, kwargs))
    result = function(*inner[0], **inner[1])
    if not here:
        return result
    # What is written in place keeps its wrapper.
    known = {id(x.inner): x for x in given if isinstance(x, OnMps)}

    def wrapped(x):
        return known[id(x)] if id(x) in known else _on_mps(x)

    return tree_map_only(torch.Tensor, wrapped, result)


def _tensor(data, *, device=None, made=torch.tensor, **options):
    """Of all ways to make a tensor, the one that no mode is told of."""
    return made(data, **options) if device is None else made(data, **options).to(device)


def _attention(*args, attend=functional.scaled_dot_product_attention, **options):
    """Looks for a kernel of the device before any mode is told of it."""
    result = attend(*_inner(args), **_inner(options))
    return _on_mps(result) if isinstance(args[0], OnMps) else result


class FakeMps(TorchDispatchMode):
    """While it lasts, tensors can be made on and moved to ``mps:0``."""

    def __enter__(self):
        self.patches = contextlib.ExitStack()
        for place, name, replacement in (
            (torch, "tensor", _tensor),
            (functional, "scaled_dot_product_attention", _attention),
            (torch.backends.mps, "is_available", lambda: True),
        ):
            self.patches.enter_context(mock.patch.object(place, name, replacement))
        torch.__future__.set_swap_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch.__future__.set_swap_module_params_on_conversion(False)
        self.patches.close()
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})
