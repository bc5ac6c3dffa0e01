import io
import struct

from waveglow_vq.audio.blocks import read_blocks
from waveglow_vq.audio.headers.mp3_frames import count_frames
from waveglow_vq.audio.io import read_for_model, read_wav
from waveglow_vq.audio.sound_files import SoundBytes, audio_info, open_sound
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch

SECONDS = 2


def encoded(rate, channels=1):
    """An MP3 file, and where its statement of frames and its second frame begin."""
    time = np.arange(SECONDS * rate) / rate
    wav = 0.2 * np.sin(2 * np.pi * 300 * time) * np.sin(np.pi * time / SECONDS)
    file = io.BytesIO()
    stereo = np.stack([wav] * channels, axis=1)
    soundfile.write(file, stereo, rate, format="MP3", subtype="MPEG_LAYER_III")
    content = file.getvalue()
    statement = content.find(b"Xing", 0, 50)
    return content, statement, content.index(content[:2], 4)


def with_count(content, statement, count):
    return content[: statement + 8] + struct.pack(">I", count) + content[statement + 12 :]


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_that_nobody_counted(caplog, rate, channels):
    content, statement, second = encoded(rate, channels)
    whole = read_wav(SoundBytes("a.mp3", content), mono="mix")
    assert len(whole) == SECONDS * rate
    promised = struct.unpack_from(">I", content, statement + 8)[0]
    stream = content[second:]
    assert count_frames(io.BytesIO(stream), len(stream)).frames == promised
    # A tag before, and one behind.
    tagged = b"ID3\x04\0\0\0\0\1\2" + bytes(130) + stream + b"TAG" + bytes(125)
    for data in (stream, tagged):
        source = SoundBytes("a.mp3", data)
        wav = read_for_model(source, rate)
        samples = 1152 if rate > 24000 else 576
        # The encoder's delay, and what fills up the last frame, are there too.
        assert 0 <= len(wav) - len(whole) <= 3 * samples
        assert torch.equal(torch.cat(list(read_blocks(source, rate, block_seconds=0.1))), wav)
        begin = int(torch.argmax(torch.nn.functional.conv1d(wav[None, None], whole[None, None])))
        assert float((wav[begin:][: len(whole)] - whole).abs().max()) < 1e-3
        with open_sound(source) as file:
            file.seek(len(wav) - 1000)
            assert file.read().shape[0] == 1000
    assert not caplog.records


@pytest.mark.parametrize("before", [bytes(431), b"ID3\x04\0\0\0\0\0\5" + bytes(5 + 217), None])
def test_a_stream_that_begins_within_a_frame_or_behind_zeros(tmp_path, before):
    content, _, second = encoded(22050)
    stream = content[second:]
    # Within a frame, its rest is of no use.
    data = stream[83:] if before is None else before + stream
    expected = len(read_wav(SoundBytes("a.mp3", stream)))
    (tmp_path / "a.mp3").write_bytes(data)
    for source in (SoundBytes("a.mp3", data), tmp_path / "a.mp3"):
        assert len(read_wav(source)) == expected - (576 if before is None else 0)


def test_in_memory_as_in_a_file(tmp_path):
    """Bytes have no name that ends in .mp3, by which libsndfile knows such files."""
    for rate in (8000, 16000, 44100):
        content, _, _ = encoded(rate)
        path = tmp_path / "a.mp3"
        path.write_bytes(content)
        assert len(read_wav(path)) == SECONDS * rate
        assert torch.equal(read_wav(SoundBytes("a", content)), read_wav(path))


@pytest.mark.parametrize("change", [-30, -1, 1, 40, 10**6])
def test_frames_that_were_counted_wrongly(caplog, change):
    content, statement, _ = encoded(22050)
    whole = read_wav(SoundBytes("a.mp3", content))
    promised = struct.unpack_from(">I", content, statement + 8)[0]
    wrong = SoundBytes(f"a{change}.mp3", with_count(content, statement, promised + change))
    wav = read_wav(wrong)
    assert 0 <= len(wav) - len(whole) <= 576 and len(wav) == audio_info(wrong).num_samples
    assert torch.equal(wav[: len(whole)], whole)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"a{change}.mp3: its header promises {promised + change} frames of sound where there are "
        f"{promised}; all of it is read."
    )


def test_two_files_as_one(caplog):
    content, _, second = encoded(22050)
    wav = read_wav(SoundBytes("two.mp3", content + content[second:]))
    assert len(wav) > 2 * SECONDS * 22050 - 576 and "two.mp3" in caplog.text


@pytest.mark.parametrize("states_bytes", [True, False])
def test_mp3_that_was_cut_off(states_bytes):
    content, statement, second = encoded(22050)
    promised = struct.unpack_from(">I", content, statement + 8)[0]
    if not states_bytes:
        assert content[statement + 7] == 15
        flags = b"\0\0\0\1"
        content = content[: statement + 4] + flags + content[statement + 8 :]
    length = len(content) - second
    cut = content[: second + length // 3]
    with pytest.raises(UserError, match="cut.mp3 is truncated.* frames more than"):
        read_wav(SoundBytes("cut.mp3", cut))
    # A few bytes, and with them one frame.
    wav = read_wav(SoundBytes("nearly.mp3", content[:-7]))
    assert abs(SECONDS * 22050 - len(wav)) < 576
    if not states_bytes:
        for more, is_read in ((1, True), (2, False)):
            source = SoundBytes("more.mp3", with_count(content, statement, promised + more))
            if is_read:
                assert len(read_wav(source)) >= SECONDS * 22050
            else:
                with pytest.raises(UserError, match="truncated"):
                    read_wav(source)


def test_what_is_no_mp3():
    noise = np.random.default_rng(0).bytes(5000)
    for content in (
        b"",
        b"\xff",
        encoded(22050)[0][:100],
        b"\xff\xfb",
        noise,
        b"ID3",
        b"\xff\xfb\x00\x00" * 500,
    ):
        assert count_frames(io.BytesIO(content), len(content)) is None
