"""Reads checkpoint files and the tensors in them; nothing in a file is run.

Supported are torch's zip files, its files from before version 1.6, NeMo's archives and safetensors.
"""

import contextlib
import gzip
import io
import json
import struct
import sys
import tarfile
import zipfile
from typing import NamedTuple

from waveglow_vq.checkpoints.pickles import read_pickle
from waveglow_vq.checkpoints.records import (
    Instance,
    Storage,
    StoredTensor,
    stored_object,
    stored_tensor,
)
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path

import torch
import yaml

# What torch's files from before version 1.6 begin with, and the version that follows it.
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# Weights hardly compress: an archive that unpacks to more than so many times its size is none.
MAX_EXPANSION = 20
MAX_MODULES = 100_000
MAX_DEPTH = 20
SAFETENSORS_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Contents(NamedTuple):
    """What a file holds."""

    container: str  # the kind of file
    root: object  # what was saved; see read_pickle
    read_storage: object  # read_storage(storage) gives its bytes
    sources: list  # source code of the classes, as far as the file has it
    config: dict | None = None  # the configuration beside the weights, of NeMo's archives


@contextlib.contextmanager
def open_checkpoint(path):
    """Opens a checkpoint, whose tensors can be read as long as the context lasts. All errors, also
    those that are raised within the context, are UserErrors that name the file.
    """
    path = user_path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; give a WaveGlow checkpoint.")
    try:
        with open(path, "rb") as file, _contents(file) as contents:
            yield contents
    except UserError as error:
        raise UserError(f"{path}: {str(error).rstrip('.')}.") from error
    except Exception as error:  # damaged pickles and archives raise a dozen kinds
        raise UserError(
            f"{path} cannot be read as a checkpoint (damaged, truncated or of another kind); "
            "download or copy it again."
        ) from error


@contextlib.contextmanager
def _contents(file):
    """The contents of a file, by what it begins with."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    beginning = file.read(512)
    file.seek(0)
    if beginning.startswith(b"\x1f\x8b"):
        limit = MAX_EXPANSION * size
        unpacked = gzip.GzipFile(fileobj=file).read(limit + 1)
        if len(unpacked) > limit:
            raise ValueError("too large")
        with _archive_contents(io.BytesIO(unpacked)) as contents:
            yield contents
    elif beginning[257:262] == b"ustar":
        with _archive_contents(file) as contents:
            yield contents
    elif beginning[8:9] == b"{":
        yield _safetensors_contents(file, size)
    else:
        with _torch_contents(file, size) as contents:
            yield contents


# ---- kinds of files


@contextlib.contextmanager
def _torch_contents(file, size):
    """Both formats of torch.save."""
    if file.read(2) == b"PK":
        with zipfile.ZipFile(file) as archive:
            yield _zip_contents(archive, size)
    else:
        file.seek(0)
        yield _legacy_contents(file, size)


def _zip_contents(archive, size):
    """torch's format since version 1.6."""
    names = {name.split("/", 1)[-1]: name for name in archive.namelist()}
    if "constants.pkl" in names:
        raise UserError("it is a TorchScript program; a checkpoint with weights is needed")
    sources = []

    def member(name):
        info = archive.getinfo(names[name])
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
            raise ValueError("a member that torch does not write")
        return archive.read(info)  # which checks its sum

    if "byteorder" in names and member("byteorder") != sys.byteorder.encode():
        raise UserError("it was written on a machine of another byte order, which is not supported")

    def read_storage(storage):
        return member(f"data/{storage.key}")

    root = read_pickle(io.BytesIO(member("data.pkl")), lambda pid: stored_object(pid, sources))
    return Contents("torch", root, read_storage, sources)


def _legacy_contents(file, size):
    """torch's format before version 1.6: pickles, one of them what was saved, then the storages
    one after another."""
    if read_pickle(file) != MAGIC_NUMBER or read_pickle(file) != LEGACY_PROTOCOL:
        raise ValueError("not torch's")
    if read_pickle(file)["little_endian"] != (sys.byteorder == "little"):
        raise UserError("it was written on a machine of another byte order, which is not supported")
    sources, widths = [], {}

    def persistent(identity):
        result = stored_object(identity, sources)
        if isinstance(result, Storage):
            widths[result.key] = _dtype(result).itemsize
        return result

    root = read_pickle(file, persistent)
    places = {}
    for key in read_pickle(file):
        (numel,) = struct.unpack("<q", file.read(8))
        length = numel * widths[key]
        places[key] = (file.tell(), length)
        if numel < 0 or file.tell() + length > size:
            raise ValueError("truncated")
        file.seek(length, io.SEEK_CUR)

    def read_storage(storage):
        place, length = places[storage.key]
        file.seek(place)
        return file.read(length)

    return Contents("torch before 1.6", root, read_storage, sources)


@contextlib.contextmanager
def _archive_contents(file):
    """NeMo's archives: the weights, a file of torch's, and the configuration."""
    found = {}
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            # Members are read from memory by their names; nothing is unpacked to disk.
            if member.isreg() and not member.issparse():
                if name in ("model_weights.ckpt", "model_config.yaml"):
                    found[name] = archive.extractfile(member).read()
    if "model_weights.ckpt" not in found:
        raise UserError("it is an archive without model_weights.ckpt, so it is not NeMo's")
    weights = found["model_weights.ckpt"]
    config = _plain_yaml(found.get("model_config.yaml", b""))
    with _torch_contents(io.BytesIO(weights), len(weights)) as contents:
        yield contents._replace(container="NeMo archive", config=config)


def _plain_yaml(text):
    """Plain values of a YAML text without aliases, which can be made to fill the memory."""
    aliases = (yaml.AliasToken,)
    if any(isinstance(token, aliases) for token in yaml.scan(text.decode(), yaml.SafeLoader)):
        raise ValueError("a configuration with aliases")
    config = yaml.safe_load(text)
    return config if isinstance(config, dict) else None


def _safetensors_contents(file, size):
    """The length of a header, the header, the numbers."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size:
        raise ValueError("truncated")
    begin, root, places = 8 + length, {}, {}
    for name, entry in json.loads(file.read(length)).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        dtype = SAFETENSORS_DTYPES.get(entry["dtype"], "int64")
        width, shape = getattr(torch, dtype).itemsize, tuple(entry["shape"])
        stride = [1]
        for n in reversed(shape[1:]):
            stride.insert(0, stride[0] * n)
        if not 0 <= first <= last <= size - begin:
            raise ValueError("truncated")
        storage = Storage(name, dtype, (last - first) // width)
        root[name] = stored_tensor(storage, 0, shape, stride[: len(shape)])
        places[name] = (begin + first, last - first)

    def read_storage(storage):
        place, nbytes = places[storage.key]
        file.seek(place)
        return file.read(nbytes)

    return Contents("safetensors", root, read_storage, [])


# ---- what is in them


def state_dict_of(module):
    """Names and tensors (:class:`~waveglow_vq.checkpoints.records.StoredTensor`) of a pickled
    ``torch.nn.Module``, as its ``state_dict`` would have them.
    """
    tensors, waiting, seen = {}, [("", module, 0)], 0
    while waiting:
        prefix, module, depth = waiting.pop()
        seen += 1
        if not isinstance(module, Instance) or depth > MAX_DEPTH or seen > MAX_MODULES:
            raise ValueError("modules that are none")
        for kind in ("_parameters", "_buffers"):
            for name, tensor in module.state[kind].items():
                if tensor is not None:
                    tensors[f"{prefix}{name}"] = tensor
        for name, child in module.state["_modules"].items():
            if child is not None:
                waiting.append((f"{prefix}{name}.", child, depth + 1))
    return tensors


def is_module(value):
    """Whether a record is that of a ``torch.nn.Module``."""
    return isinstance(value, Instance) and "_modules" in value.state


def is_state_dict(value):
    """Whether a value is a dictionary of tensors by their names."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and all(isinstance(tensor, StoredTensor) for tensor in value.values())
    )


def read_tensors(contents, tensors):
    """Reads tensors from the opened file, with the file's dtypes and memory of their own."""
    # Tensors may share storages, and a small file could ask for very many large ones.
    bound = sum({tensor.storage.key: tensor.storage.numel for tensor in tensors.values()}.values())
    if sum(tensor.numel for tensor in tensors.values()) > 2 * bound:
        raise ValueError("tensors that share their numbers")
    return {name: _read(contents, tensor) for name, tensor in tensors.items()}


def _read(contents, tensor):
    dtype, storage = _dtype(tensor.storage), tensor.storage
    if not tensor.numel:
        return torch.empty(tensor.shape, dtype=dtype)
    data = contents.read_storage(storage)
    end = (storage.start + storage.numel) * dtype.itemsize
    if len(data) < end:
        raise ValueError("truncated")
    numbers = torch.frombuffer(bytearray(data[storage.start * dtype.itemsize : end]), dtype=dtype)
    return numbers.as_strided(tensor.shape, tensor.stride, tensor.offset).clone()


def _dtype(storage):
    return getattr(torch, storage.dtype)
