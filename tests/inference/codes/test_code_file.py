import hashlib
import os
import re
import struct
import zlib
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.inference.codes.code_file import (
    CodeFile,
    bits_per_value,
    pack_values,
    read_code_file,
    unpack_values,
    write_code_file,
)
from waveglow_vq.utils.files import model_checksum

import pytest
import torch

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "code_file.md"
CHECKSUM = hashlib.sha256(b"demo").hexdigest()
# That of the document.
EXAMPLE = CodeFile(
    torch.tensor([3, 0, 4, 1]),
    samples=1000,
    sample_rate=22050,
    codebook_size=5,
    samples_per_code=256,
    model="demo",
    checksum=CHECKSUM,
    pitch=torch.tensor([2]),
    pitch_levels=3,
    samples_per_pitch=1024,
    f0_statistics=torch.tensor([5.0, 0.25]),
)


def codes_of(count, length, seed=0):
    """Codes among which are the first and the last of the codebook."""
    codes = torch.randint(count, (length,), generator=torch.Generator().manual_seed(seed))
    codes[0], codes[-1] = 0, count - 1
    return codes


def assert_same(a, b):
    for name, x, y in zip(CodeFile._fields, a, b, strict=True):
        if torch.is_tensor(x):
            assert torch.is_tensor(y) and x.dtype == y.dtype and torch.equal(x, y), name
        else:
            assert x == y and type(x) is type(y), name


def document_bytes():
    lines = re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?)+)$", DOCUMENT.read_text(), re.M)
    return bytes.fromhex("".join(lines))


def signed(data):
    """With the CRC that belongs to it."""
    return data + struct.pack("<I", zlib.crc32(data))


def changed(position, value):
    """The example with other bytes at a position, and a CRC that fits them."""
    data = bytearray(document_bytes()[:-4])
    data[position : position + len(value)] = value
    return signed(bytes(data))


# ---- what is written


def test_the_example_of_the_document_is_what_is_written(tmp_path):
    path = tmp_path / "demo.wvq"
    write_code_file(path, EXAMPLE)
    assert path.read_bytes() == document_bytes()
    path.write_bytes(document_bytes())
    assert_same(read_code_file(path), EXAMPLE)


@pytest.mark.parametrize("count", [1, 2, 500, 2**32])
@pytest.mark.parametrize("length", [1, 8, 1001])
def test_values_are_packed_without_gaps_and_come_back(count, length):
    values = codes_of(count, length) if length > 1 else torch.tensor([count - 1])
    data = pack_values(values, count)
    bits = bits_per_value(count)
    assert len(data) == (length * bits + 7) // 8
    written = "".join(f"{value:0{bits}b}" for value in values.tolist())
    assert "".join(f"{byte:08b}" for byte in data) == written.ljust(8 * len(data), "0")
    again = unpack_values(data, length, count)
    assert again.dtype == torch.int64 and torch.equal(again, values)


def test_bits():
    assert [bits_per_value(n) for n in (1, 2, 3, 4, 5, 256, 257, 500, 65537)] == [
        *(1, 1, 2, 2, 3, 8, 9, 9, 17)
    ]


@pytest.mark.parametrize(("count", "length"), [(1, 1), (500, 1), (2, 65537), (65537, 65537)])
def test_files_of_any_codebook_and_length(tmp_path, count, length):
    codes = codes_of(count, length) if length > 1 else torch.tensor([count - 1])
    code_file = CodeFile(codes, 256 * length - 3, 22050, count, 256, "modèle/1", CHECKSUM)
    path = tmp_path / "new folder" / "codes.wvq"
    write_code_file(path, code_file)
    assert_same(read_code_file(path), code_file)
    header = 74 + len("modèle/1".encode())
    assert path.stat().st_size == header + (length * bits_per_value(count) + 7) // 8 + 4
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("pitches", [1, 2])
def test_a_recording_may_be_as_long_as_its_values_and_no_longer(tmp_path, pitches):
    """A whole number of codes and of values of pitch; neither is a sample too short."""
    path, samples = tmp_path / "codes.wvq", 4 * 256
    parts = {"samples": samples, "pitch": torch.full((pitches,), 3)}
    whole = EXAMPLE._replace(**parts, samples_per_pitch=samples // pitches)
    write_code_file(path, whole)
    assert_same(read_code_file(path), whole)
    for change in ({"samples_per_pitch": samples // pitches - 1}, {"samples": samples + 1}):
        with pytest.raises(UserError, match=f"too few for {change.get('samples', samples)} "):
            write_code_file(path, whole._replace(**change))


def test_every_part_is_there_or_not(tmp_path):
    path = tmp_path / "codes.wvq"
    voice = torch.tensor([0.1, -3e30, 1e-30])
    for pitch in (True, False):
        for part in ({}, {"voice": voice}):
            code_file = EXAMPLE._replace(**part)
            if not pitch:
                nothing = {"pitch": None, "pitch_levels": 0, "samples_per_pitch": 0}
                code_file = code_file._replace(**nothing, f0_statistics=None)
            write_code_file(path, code_file)
            assert_same(read_code_file(path), code_file)


def test_rates(tmp_path):
    assert EXAMPLE.seconds == 1000 / 22050
    assert EXAMPLE.bits_per_second == pytest.approx((4 * 3 + 1 * 2) / (1000 / 22050))
    assert EXAMPLE._replace(pitch=None).bits_per_second == pytest.approx(12 * 22.05)


# ---- what is refused


def assert_refused(path, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        read_code_file(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_cut_off_anywhere(tmp_path):
    data = document_bytes()
    path = tmp_path / "cut.wvq"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert_refused(path, "damaged or cut off" if length else "empty file")
    path.write_bytes(data + b"\0")
    assert_refused(path, "damaged")


def test_any_bit_that_is_wrong(tmp_path):
    data = document_bytes()
    path = tmp_path / "damaged.wvq"
    for position in range(len(data)):
        for bit in (1, 128):
            damaged = bytearray(data)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            assert_refused(path, "not a code file" if position < 8 else "damaged")


def test_other_files(tmp_path):
    path = tmp_path / "other"
    for data in (b"RIFF....WAVE", b"\x89PNG\r\n\x1a\n" + bytes(100), b"x", bytes(500)):
        path.write_bytes(data)
        assert_refused(path, "is not a code file")
    assert_refused(tmp_path / "missing.wvq", "does not exist")
    assert_refused(tmp_path, "is not a file")


def test_newer_versions(tmp_path):
    path = tmp_path / "new.wvq"
    path.write_bytes(changed(8, b"\x03\x00"))
    assert_refused(path, "version 3, .*reads up to version 2; install a newer one")
    # Whatever comes behind the version then.
    path.write_bytes(signed(document_bytes()[:8] + b"\x00\x01anything"))
    assert_refused(path, "version 256")


@pytest.mark.parametrize(
    ("position", "value", "sentence"),
    [
        (8, b"\0\0", "version 0"),
        (10, b"\x0b\0", "no flags 0xb"),
        (12, bytes(4), "sample_rate is 0"),
        (16, bytes(4), "samples_per_code is 0"),
        (20, bytes(4), "codebook_size is 0|bytes follow"),
        (20, b"\x04", "codes lie between 0 and 4, where 0 to 3 are possible|bytes follow|early"),
        (24, bytes(8), "samples is 0"),
        (24, b"\x01\x04", "4 codes, one for every 256 samples, are too few for 1025 samples"),
        (32, bytes(8), "it has no codes|bytes follow"),
        (32, b"\xff" * 8, "ends too early"),
        (72, b"\xff\xff", "ends too early"),
        (74, b"\xff", "codec can't decode"),
        (78, bytes(4), "pitch has 0 levels"),
        (82, bytes(4), "one for every 0 samples"),
        (86, bytes(8), "no pitch|bytes follow"),
        (94, b"\0\0\xc0\x7f", "statistics of F0 are nan"),
        (98, b"\0\0\0\0", "statistics of F0 are 5 and 0"),
        (102, b"\xff", "codes lie between 1 and 7, where 0 to 4"),
    ],
)
def test_values_that_do_not_fit(tmp_path, position, value, sentence):
    path = tmp_path / "wrong.wvq"
    path.write_bytes(changed(position, value))
    assert_refused(path, f"not a valid code file: .*({sentence})")


def test_bytes_behind_the_end(tmp_path):
    path = tmp_path / "long.wvq"
    path.write_bytes(signed(document_bytes()[:-4] + b"more"))
    assert_refused(path, "4 bytes follow its end")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"codes": torch.tensor([3, 0, 5, 1])}, "codes lie between 0 and 5, where 0 to 4"),
        ({"codes": torch.tensor([3, 0, -1, 1])}, "codes lie between -1 and 3"),
        ({"codes": torch.tensor([], dtype=torch.int64)}, "no codes"),
        ({"codes": torch.tensor([1])}, "too few for 1000"),
        ({"pitch": torch.tensor([4])}, "pitch lie between 4 and 4, where 0 to 3"),
        ({"f0_statistics": None}, "pitch without the statistics"),
        ({"f0_statistics": torch.tensor([float("nan"), 1.0])}, "are nan and 1"),
        ({"voice": torch.tensor([float("inf")])}, "vector is empty, too long, or not finite"),
        ({"samples": 0}, "samples is 0"),
        ({"checksum": "abc"}, "the checksum is 'abc'"),
        ({"model": "é" * 32768}, "name is longer than 65535 bytes"),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, fields, sentence):
    path = tmp_path / "codes.wvq"
    with pytest.raises(UserError, match=f"was not written: .*{sentence}"):
        write_code_file(path, EXAMPLE._replace(**fields))
    assert not os.listdir(tmp_path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "codes.wvq"
    write_code_file(path, EXAMPLE)

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        write_code_file(path, EXAMPLE._replace(samples=999))
    assert os.listdir(tmp_path) == ["codes.wvq"]
    assert_same(read_code_file(path), EXAMPLE)


# ---- checksum


def test_the_checksum_is_what_the_document_says():
    module = torch.nn.Module()
    module.register_buffer("zeta", torch.tensor([[1.0, -2.0]]))
    module.register_buffer("alpha", torch.tensor(3))
    module.register_buffer("middle", torch.tensor([1.0]).bfloat16())
    text = b"alpha\nint64\n[]\n" + struct.pack("<q", 3)
    text += b"middle\nbfloat16\n[1]\n" + bytes.fromhex("803f")
    text += b"zeta\nfloat32\n[1, 2]\n" + struct.pack("<ff", 1, -2)
    assert model_checksum(module) == hashlib.sha256(text).hexdigest()


def test_the_checksum_sees_every_change():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    found = {model_checksum(module)}
    with torch.no_grad():
        module[0].weight[2, 1] += 1e-3
        found.add(model_checksum(module))
        module[0].weight.copy_(module[0].weight.T.clone())
        found.add(model_checksum(module))
        module[1].num_batches_tracked += 1
        found.add(model_checksum(module))
    assert len(found) == 4
