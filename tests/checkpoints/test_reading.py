"""Damaged and malicious files: one sentence each, nothing is run, nothing is left behind."""

import gzip
import io
import os
import pickle
import pickletools
import random
import tarfile
import zipfile

from waveglow_vq.checkpoints import describe_checkpoint, import_checkpoint
from waveglow_vq.checkpoints.pickles import read_pickle
from waveglow_vq.checkpoints.records import Storage, stored_object, stored_tensor
from waveglow_vq.errors import UserError

import pytest
import torch

from tests.checkpoints import published as pub


def refused(path):
    """Checks that a file is refused in one sentence that names it, and gives the sentence."""
    folder = path.parent / "export"
    with pytest.raises(UserError) as caught:
        import_checkpoint(path, folder)
    message = str(caught.value)
    assert message.startswith(f"{path}") and message.endswith(".") and "\n" not in message
    assert ". " not in message.removeprefix(f"{path}")
    assert sorted(os.listdir(path.parent)) == [path.name]
    return message


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bytes of a good checkpoint of every kind of file."""
    folder, tensors = tmp_path_factory.mktemp("files"), pub.random_tensors()
    saved = {
        "legacy": pub.save_nvidia(folder / "legacy.pt", tensors),
        "zip": pub.save_nvidia(folder / "zip.pt", tensors, legacy=False),
        "examples": pub.save_examples(folder / "examples.pt", tensors),
        "nemo": pub.save_nemo(folder / "nemo.nemo", tensors),
        "tar": pub.save_nemo(folder / "tar.nemo", tensors, compressed=False),
        "safetensors": pub.save_safetensors(folder / "c.safetensors", tensors),
    }
    return {kind: path.read_bytes() for kind, path in saved.items()}


KINDS = ["legacy", "zip", "examples", "nemo", "tar", "safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_refused(kind, files, tmp_path):
    data, path = files[kind], tmp_path / "checkpoint.pt"
    # A tar archive ends with zeros that nobody misses.
    end = len(data.rstrip(b"\0")) if kind == "tar" else len(data)
    positions = {0, 1, 2, 7, 8, 100, 511, 512, 513, end - 1}
    positions |= {end * i // 30 for i in range(30)}
    for position in sorted(positions):
        path.write_bytes(data[:position])
        refused(path)


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_are_refused_or_harmless(kind, files, tmp_path):
    data, path, draw = files[kind], tmp_path / "checkpoint.pt", random.Random(kind)
    path.write_bytes(data)
    good = describe_checkpoint(path)["architecture"]
    # Where the structure is: the pickle of a legacy file is at its beginning, a zip file has one
    # there and a directory at its end.
    regions = [range(len(data)), range(min(len(data), 30_000)), range(len(data) - 8000, len(data))]
    damaged = 0
    for i in range(60):
        changed = bytearray(data)
        for _ in range(draw.choice([1, 1, 3])):
            changed[draw.choice(regions[i % 3])] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            assert describe_checkpoint(path)["architecture"] == good
        except UserError:
            damaged += 1
            refused(path)
    assert damaged > 5


# ---- malice


class Payload:
    """Runs something where it is unpickled."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def payloads(marker):
    """Ways to run a command that makes a file."""
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    lookup = Payload(getattr, Payload(__import__, "os"), "system")
    return {
        "system": Payload(os.system, command),
        "exec": Payload(exec, code),
        "eval": Payload(eval, code),
        "nested": Payload(lookup.__reduce__()[0], Payload(exec, code), "__doc__"),
        "within a tensor": Payload(
            torch._utils._rebuild_tensor_v2, Payload(exec, code), 0, (1,), (1,), False, {}
        ),
        "within a dictionary": {"state": [{"step": (1, Payload(os.system, command))}]},
        "open": Payload(open, str(marker), "w"),
        "torch": Payload(torch.hub.get_dir),
    }


NAMES = list(payloads("x"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("legacy", [True, False])
def test_payloads_are_named_and_not_run(name, legacy, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    payload = payloads(tmp_path / "marker")[name]
    good = pub.random_tensors()
    path = folder / "checkpoint.pt"
    for saved in (
        payload,
        {"model": payload},
        {"state_dict": good, "config": payload},
        {"state_dict": good | {"WN.0.start.bias": payload}, "config": {}},
    ):
        torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
        assert "which is no part of a WaveGlow checkpoint" in refused(path)
    assert not (tmp_path / "marker").exists()


def test_payloads_work_elsewhere(tmp_path):
    """Without which the test above would show nothing."""
    for name in ("system", "exec", "eval"):
        pickle.loads(pickle.dumps(payloads(tmp_path / name)[name]))
        assert (tmp_path / name).exists()


@pytest.mark.parametrize("opcodes", ["reduce", "newobj", "obj", "inst", "stack_global", "build"])
def test_payloads_in_every_instruction(opcodes, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    argument = f"touch {tmp_path / 'marker'}".encode()
    text = b"X" + len(argument).to_bytes(4, "little") + argument
    pickled = {
        "reduce": b"\x80\x02cposix\nsystem\n" + text + b"\x85R.",
        "newobj": b"\x80\x02cposix\nsystem\n" + text + b"\x85\x81.",
        "obj": b"(cposix\nsystem\n" + text + b"o.",
        "inst": b"(" + text + b"iposix\nsystem\n.",
        "stack_global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text + b"\x85R.",
        # A class that may occur, whose state would replace what it is.
        "build": b"\x80\x02cglow\nWaveGlow\n)\x81}X\x09\x00\x00\x00__class__cposix\nsystem\nsb.",
    }[opcodes]
    path = folder / "checkpoint.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    assert "posix.system" in refused(path)
    header = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, SYSTEM))
    path.write_bytes(header + pickled)
    assert "posix.system" in refused(path)
    path.write_bytes(pickled)
    assert "posix.system" in refused(path)
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("model_weights.ckpt")
        info.size = len(header + pickled)
        tar.addfile(info, io.BytesIO(header + pickled))
    assert "posix.system" in refused(path)
    assert not (tmp_path / "marker").exists()


SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


def test_names_cannot_break_the_sentence(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with zipfile.ZipFile(path, "w") as archive:
        name = b"X\x0a\x00\x00\x00evil\nnews:X\x05\x00\x00\x00a\x1b[2J\x93"
        archive.writestr("archive/data.pkl", b"\x80\x04" + name + b")R.")
    assert "evil\\nnews:.a\\x1b[2J" in refused(path)


# ---- bombs


def test_instructions_that_would_fill_the_memory():
    put_far = b"\x80\x02Nr\xff\xff\xff\xff."
    assert read_pickle(io.BytesIO(put_far)) is None
    for damaged in (
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"abc.",  # bytes that are not there
        b"\x80\x020.",
        b"\x80\x02e.",
        b"\x82\x01.",
        b"",
    ):
        with pytest.raises(Exception) as caught:
            read_pickle(io.BytesIO(damaged))
        assert isinstance(caught.value, ValueError | IndexError | AttributeError)
    # A tuple of two of a tuple of two of ...: quick to write, slow to hash.
    nested = b"\x80\x02})" + b"2\x86" * 200 + b"Ns."
    with pytest.raises(ValueError, match="not plain"):
        read_pickle(io.BytesIO(nested))


@pytest.mark.parametrize(
    "offset, shape, stride",
    [
        (0, (5, 2), (2, 1)),  # too large
        (5, (4,), (1,)),  # beyond the end
        (0, (2, 4), (8, 1)),  # the last element is
        (0, (10**9,), (0,)),  # an element repeated
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (2.0,), (1,)),
        (0, (1,) * 9, (1,) * 9),
    ],
)
def test_tensors_lie_within_their_storages(offset, shape, stride):
    storage = Storage("0", "float32", 8)
    stored_tensor(storage, 0, (2, 4), (4, 1))
    with pytest.raises(ValueError):
        stored_tensor(storage, offset, shape, stride)


def test_storages_of_old_files_may_be_parts_of_others():
    from waveglow_vq.checkpoints.records import Global

    kind = Global("torch", "FloatStorage")
    assert stored_object(("storage", kind, "7", "cpu", 8, ("8", 2, 5)), []) == Storage(
        "7", "float32", 5, start=2
    )
    with pytest.raises(ValueError):
        stored_object(("storage", kind, "7", "cpu", 8, ("8", 4, 5)), [])


def test_storages_larger_than_the_file_are_refused(tmp_path):
    """The number of elements is changed where the pickle states it, and where the data does."""
    path = pub.save_examples(tmp_path / "c.pt", pub.random_tensors(), legacy=True)
    data = path.read_bytes()
    stream = io.BytesIO(data)
    pickles = [list(pickletools.genops(stream)) for _ in range(5)]
    numel = pub.BANDS * pub.BANDS * 4 * pub.HOP
    (place,) = (at for _, argument, at in pickles[3] if argument == numel)
    assert data[place : place + 1] == b"M"
    path.write_bytes(data[:place] + b"J\xff\xff\xff\x7f" + data[place + 3 :])
    refused(path)
    place = stream.tell()
    path.write_bytes(data[:place] + (2**61).to_bytes(8, "little") + data[place + 8 :])
    refused(path)


def test_many_tensors_of_one_storage_are_refused(tmp_path):
    path, value = tmp_path / "c.pt", torch.ones(1000)
    tensors = pub.random_tensors()
    torch.save(tensors | {f"WN.{k}.end.bias": value for k in range(1000)}, path)
    assert "cannot be read" in refused(path)


def test_compressed_bombs_are_refused(files, tmp_path):
    path = tmp_path / "c.nemo"
    path.write_bytes(gzip.compress(bytes(20_000_000)))
    refused(path)
    # torch compresses nothing, so that nothing unpacks to more than is there.
    with zipfile.ZipFile(io.BytesIO(files["zip"])) as good, zipfile.ZipFile(path, "w") as packed:
        for name in good.namelist():
            packed.writestr(name, good.read(name), zipfile.ZIP_DEFLATED)
    refused(path)


@pytest.mark.parametrize("member", ["../model_weights.ckpt", "/tmp/model_weights.ckpt"])
def test_members_of_archives_are_not_unpacked(member, tmp_path):
    path = pub.save_nemo(tmp_path / "c.nemo", pub.random_tensors(), member=member)
    assert describe_checkpoint(path)["source"] == "NVIDIA/NeMo"
    assert os.listdir(tmp_path) == ["c.nemo"]


def test_archives_with_links_and_without_weights_are_refused(tmp_path):
    path = tmp_path / "c.nemo"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("model_weights.ckpt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    assert "model_weights.ckpt" in refused(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "c.pt"
    for data in (b"RIFF....WAVEfmt ", b"hello world\n" * 100, b"\x89PNG" + bytes(1000)):
        path.write_bytes(data)
        refused(path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), path)
    assert "TorchScript" in refused(path)
    torch.save({"model": {"embedding.weight": torch.ones(3, 4)}}, path)
    assert "no WaveGlow" in refused(path)
    torch.save([1, 2, 3], path)
    assert "neither" in refused(path)
    path.unlink()
    for missing in (path, tmp_path):
        with pytest.raises(UserError, match="does not exist or is not a file"):
            describe_checkpoint(missing)
