"""Headers whose length is wrong: what is there is read, what was cut off is refused."""

import io
import struct

from waveglow_vq.audio.blocks import read_blocks
from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.headers.flac_frames import flac_lengths
from waveglow_vq.audio.headers.true_length import FEW_BYTES
from waveglow_vq.audio.io import read_for_model, read_wav
from waveglow_vq.audio.sound_files import SoundBytes, audio_info, open_sound
from waveglow_vq.data.segments import SegmentReader, read_utterance
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch

RATE, SAMPLES = 22050, 7001
BYTES = 2 * SAMPLES
PCM = np.random.default_rng(0).integers(-3000, 3000, SAMPLES).astype(np.int16)
WAV = torch.from_numpy(PCM / np.float32(32768))


def encoded(kind, subtype="PCM_16", wav=PCM, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, wav, rate, format=kind, subtype=subtype)
    return bytearray(file.getvalue())


# Where the length is, how it is written, and what it is beside that of the samples.
PLACES = {
    "WAV": (40, "<I", 0),
    "RF64": (28, "<Q", 0),
    "W64": (96, "<Q", 24),
    "AIFF": (42, ">I", 8),
    "CAF": (4084, ">q", 4),
    "AU": (8, ">I", 0),
}


def with_length(kind, length, subtype="PCM_16"):
    """A file whose header promises so many bytes of samples."""
    content = encoded(kind, subtype)
    place, form, more = PLACES[kind]
    assert struct.unpack_from(form, content, place) == (BYTES + more,)
    struct.pack_into(form, content, place, length + more)
    return bytes(content)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("kind", PLACES)
def test_the_right_length_is_believed_in_silence(tmp_path, caplog, kind):
    path = tmp_path / "a.sound"
    path.write_bytes(with_length(kind, BYTES))
    assert torch.equal(read_wav(path), WAV) and not caplog.records


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("length", [0, 5000, BYTES + 2, BYTES + FEW_BYTES, 0x7FFFFF7F - 44])
def test_all_that_is_there_is_read_with_one_warning(tmp_path, caplog, kind, length):
    path = tmp_path / "a.sound"
    path.write_bytes(with_length(kind, length))
    assert torch.equal(read_wav(path, RATE), WAV)
    assert torch.equal(read_for_model(SoundBytes(str(path), path.read_bytes()), RATE), WAV)
    assert torch.equal(torch.cat(list(read_blocks(path, RATE, block_seconds=0.02))), WAV)
    assert audio_info(path) == (RATE, SAMPLES, 1)
    (warning,) = warnings(caplog)
    assert warning == (
        f"{path}: its header promises {length} bytes of sound where there are {BYTES}; "
        "all of it is read."
    )


@pytest.mark.parametrize("kind", PLACES)
def test_what_was_cut_off_is_refused(tmp_path, kind):
    path = tmp_path / "a.sound"
    for missing in (FEW_BYTES + 1, BYTES, 10**9):
        path.write_bytes(with_length(kind, BYTES + missing))
        with pytest.raises(UserError, match=f"a.sound is truncated.* {missing} bytes more.*ffmpeg"):
            read_wav(path)


@pytest.mark.parametrize(
    ("length", "is_read"),
    [
        (2**31 - 2**16, True),
        (2**31 - 2**16 - 1, False),
        (2**31 + 2**16, True),
        (2**31 + 2**16 + 1, False),
        (2**32 - 2**16, True),
        (2**32 - 2**16 - 1, False),
    ],
)
def test_limits_of_placeholders(tmp_path, length, is_read):
    source = SoundBytes("a.wav", with_length("WAV", length))
    if is_read:
        assert len(read_wav(source)) == SAMPLES
    else:
        with pytest.raises(UserError, match="a.wav is truncated"):
            read_wav(source)


def test_placeholder_of_sox_in_aiff():
    assert len(read_wav(SoundBytes("a.aiff", with_length("AIFF", 0x7F000000 - 8)))) == SAMPLES
    with pytest.raises(UserError, match="a.aiff is truncated"):
        read_wav(SoundBytes("a.aiff", with_length("AIFF", 0x7F000000 + 2**16 + 1)))


def test_copyright_behind_the_sound_is_no_sound(tmp_path, caplog):
    with soundfile.SoundFile(tmp_path / "a.aiff", "w", RATE, 1, "PCM_16") as file:
        file.copyright = "a reader"
        file.write(PCM)
    assert torch.equal(read_wav(tmp_path / "a.aiff"), WAV) and not caplog.records


def test_samples_of_8_bits_that_look_like_a_name_are_sound(caplog):
    content = encoded("WAV", "PCM_U8", PCM)
    content[44:] = b"zxcvbnml" * (len(content[44:]) // 8)
    content[40:44] = struct.pack("<I", 1024)
    assert len(read_wav(SoundBytes("a.wav", bytes(content)))) == len(content) - 44
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", ["W64", "CAF"])
def test_chunks_longer_than_any_file(kind):
    content = encoded(kind)
    place = content.index(b"fmt " if kind == "W64" else b"desc") + (16 if kind == "W64" else 4)
    content[place : place + 8] = b"\x7f" + 7 * b"\xff" if kind == "CAF" else 7 * b"\xff" + b"\x7f"
    with pytest.raises(UserError):
        read_wav(SoundBytes("a.sound", bytes(content)))


def test_lengths_that_formats_have_for_unknown_ones(tmp_path, caplog):
    unknown = {"AU": 2**32 - 1, "CAF": -5}
    for kind, length in unknown.items():
        assert torch.equal(read_wav(SoundBytes(kind, with_length(kind, length))), WAV), kind
    assert not caplog.records


def test_a_few_bytes_are_not_all_of_the_sound():
    content = with_length("WAV", 100)[:44]
    with pytest.raises(UserError, match="truncated"):
        read_wav(SoundBytes("a.wav", content))
    with pytest.raises(UserError, match="a.au"):
        read_wav(SoundBytes("a.au", with_length("AU", BYTES)[:20]))
    for length in (0, 2**32 - 1):
        with pytest.raises(UserError, match="a.wav holds no samples"):
            read_wav(SoundBytes("a.wav", with_length("WAV", length)[:44]))


@pytest.mark.parametrize("samples", [2000, 2001])  # in bytes: with padding, or without
@pytest.mark.parametrize("is_padded", [True, False])
def test_what_is_behind_the_sound_is_no_sound(caplog, samples, is_padded):
    content = encoded("WAV", "PCM_U8", PCM[:samples])
    assert len(content) == 44 + samples + samples % 2
    content = bytes(content if is_padded else content[: 44 + samples])
    tags = b"TAG\0\0\0\0\0" + bytes(120), b"ID3\x04\0\0\0\0\0\x01a", b"APETAGEX\0\0\xe0"
    for behind in (b"", b"LIST\x04\0\0\0INFO", b"id3 \xff\xff\0\0", *tags, bytes(700)):
        assert len(read_wav(SoundBytes("a.wav", content + behind))) == samples, behind
    assert not caplog.records
    assert len(read_wav(SoundBytes("a.wav", content + b"\x81\x7f\x82"))) > samples


def test_sound_beyond_four_gigabytes(tmp_path):
    """The length of a WAV file has 32 bits, and streams go on."""
    path, gap = tmp_path / "long.wav", 2**32 + 2**20
    header = with_length("WAV", 2**32 - 1)[:44]
    with open(path, "wb") as file:
        file.write(header)
        file.seek(gap, io.SEEK_CUR)
        file.write(PCM.tobytes())
    assert audio_info(path) == (RATE, gap // 2 + SAMPLES, 1)
    with open_sound(path) as file:
        file.seek(gap // 2)
        assert np.array_equal(file.read(dtype="int16"), PCM)


# ---- FLAC


def flac_that_promises(samples, wav=PCM, subtype="PCM_16"):
    content = encoded("FLAC", subtype, wav)
    content[21] = content[21] & 0xF0 | samples >> 32
    content[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    return bytes(content)


def test_flac_of_unknown_length(tmp_path, caplog):
    path = tmp_path / "a.flac"
    path.write_bytes(flac_that_promises(0))
    for source in (path, SoundBytes("a", flac_that_promises(0))):
        assert audio_info(source) == (RATE, SAMPLES, 1)
        assert torch.equal(read_wav(source), WAV)
        assert torch.equal(torch.cat(list(read_blocks(source, RATE, block_seconds=0.03))), WAV)
        features = LogMel()
        mel = read_utterance(source, features)["mel"]
        torch.testing.assert_close(mel, features(WAV[None])[0].T)
        reader = SegmentReader(features, segment_frames=5, context_frames=10)
        assert reader(source)["wav"].shape == (1280,)
    assert not caplog.records


def test_flac_that_promises_more_than_memory_holds():
    with pytest.raises(UserError, match=f"promises {2**36 - 1} samples, {SAMPLES} could be read"):
        read_wav(SoundBytes("a", flac_that_promises(2**36 - 1)))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2])
def test_flac_that_promises_too_little(caplog, subtype, channels):
    # White noise, and tones, whose frames are shorter.
    for wav in (PCM, np.int16(9000 * np.sin(np.arange(30000) / 9))):
        wav = np.stack([wav] * channels, axis=1)
        whole = read_wav(SoundBytes("a", flac_that_promises(len(wav), wav, subtype)), mono="mix")
        assert len(whole) == len(wav) and not caplog.records
        for promised in (1, len(wav) - 1):
            name = f"{subtype} {channels} {len(wav)} {promised}"
            source = SoundBytes(name, flac_that_promises(promised, wav, subtype))
            assert torch.equal(read_wav(source, mono="mix"), whole)
            with open_sound(source) as file:
                file.seek(len(wav) - 10)
                assert len(file.read()) == 10
            (record,) = caplog.records
            assert f"{name}: its header promises {promised} samples" in record.getMessage()
            assert f"where there are {len(wav)}; all" in record.getMessage()
            caplog.clear()


def test_last_frame_of_a_long_flac_of_small_blocks():
    """The fastest compression has blocks of 1152 samples, and from frame 128 on numbers have two
    bytes, from 2048 on three."""
    for samples in (130 * 1152 + 5, 2050 * 1152):
        file = io.BytesIO()
        wav = np.resize(PCM, samples) // 2000
        soundfile.write(file, wav, RATE, format="FLAC", compression_level=0.0)
        assert flac_lengths(file, len(file.getvalue())) == (samples, samples)


# ---- Ogg


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", RATE), ("OPUS", 48000)])
def test_ogg_that_was_cut_off(caplog, subtype, rate):
    wav = np.random.default_rng(0).standard_normal(3 * rate) / 10
    whole = bytes(encoded("OGG", subtype, wav, rate))
    assert len(read_wav(SoundBytes("a.ogg", whole))) == 3 * rate
    last = whole.rindex(b"OggS")
    for end in (len(whole) - 1, last + 28, last + 26, last // 2):
        with pytest.raises(UserError, match="cut.ogg is truncated"):
            read_wav(SoundBytes("cut.ogg", whole[:end]))
    assert not caplog.records
    # Between two pages, as a stream that is recorded ends.
    assert 0 < len(read_wav(SoundBytes(f"stream.{subtype}", whole[:last]))) < 3 * rate
    assert f"stream.{subtype}: its last page is missing" in caplog.text
    other = bytes(encoded("OGG", subtype, wav, rate))
    read_wav(SoundBytes(f"two.{subtype}", whole + other))
    assert f"two.{subtype}: it holds several streams" in caplog.text
