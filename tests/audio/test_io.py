import math
import struct

from waveglow_vq.audio.blocks import read_blocks
from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import read_for_model, read_wav, write_wav
from waveglow_vq.audio.sound_files import SoundBytes, audio_info
from waveglow_vq.data.segments import read_utterance
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch

RATE = 22050


@pytest.fixture
def tone():
    return 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(4000) / RATE)


def test_sixteen_bit_file_survives_reading_and_writing_exactly(tmp_path):
    pcm = np.arange(-32768, 32768, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, RATE, subtype="PCM_16")
    wav = read_wav(tmp_path / "a.wav", RATE)
    assert wav.dtype == torch.float32 and wav.shape == (65536,)
    assert write_wav(tmp_path / "b.wav", wav, RATE) == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_overload_is_limited_and_reported(tmp_path, caplog):
    wav = torch.tensor([0.0, 1.7, -3.0, 0.25])
    assert write_wav(tmp_path / "loud.wav", wav, RATE) == 2
    assert "2 of 4 samples" in caplog.text and "3.00" in caplog.text
    written = read_wav(tmp_path / "loud.wav")
    # Without a limit 16-bit integers wrap around and change sign.
    assert written.tolist() == [0.0, 32767 / 32768, -1.0, 0.25]


def test_write_makes_folders_and_takes_a_leading_one(tmp_path, tone):
    write_wav(tmp_path / "new" / "folder" / "a.wav", tone[None], RATE)
    assert audio_info(tmp_path / "new" / "folder" / "a.wav") == (RATE, 4000, 1)
    with pytest.raises(ValueError, match=r"\(2, 4000\)"):
        write_wav(tmp_path / "batch.wav", tone.expand(2, -1), RATE)


def test_write_refuses_nan(tmp_path):
    with pytest.raises(UserError, match="a.wav was not written.*NaN"):
        write_wav(tmp_path / "a.wav", torch.tensor([0.0, math.nan]), RATE)
    assert not (tmp_path / "a.wav").exists()


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no_such.wav does not exist"):
        read_wav(tmp_path / "no_such.wav")


def test_empty_file(tmp_path):
    (tmp_path / "empty.wav").touch()
    with pytest.raises(UserError, match="empty.wav is an empty file"):
        read_wav(tmp_path / "empty.wav")


def test_file_without_samples(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0, dtype=np.int16), RATE)
    with pytest.raises(UserError, match="none.wav holds no samples"):
        read_wav(tmp_path / "none.wav")


def test_file_of_another_kind(tmp_path):
    (tmp_path / "text.wav").write_text("this is not sound" * 20)
    with pytest.raises(UserError, match="text.wav cannot be read as an audio file"):
        read_wav(tmp_path / "text.wav")


@pytest.mark.parametrize("kept", [0.5, 0.99])
@pytest.mark.parametrize("ext", ["wav", "flac"])
def test_truncated_file(tmp_path, ext, kept):
    path = tmp_path / f"cut.{ext}"
    noise = torch.randn(20000, generator=torch.Generator().manual_seed(0)) / 10
    soundfile.write(path, noise.numpy(), RATE, subtype="PCM_16")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=f"cut.{ext}"):
        read_wav(path)
    with pytest.raises(UserError, match=f"cut.{ext}"):
        read_for_model(path, RATE)


def test_wav_written_to_a_pipe_is_not_truncated(tmp_path, tone):
    path = tmp_path / "pipe.wav"
    write_wav(path, tone, RATE)
    content = bytearray(path.read_bytes())
    start = content.index(b"data") + 4
    content[start : start + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert len(read_wav(path)) == 4000


def test_wav_with_an_odd_chunk_before_the_samples(tmp_path, tone):
    path = tmp_path / "chunk.wav"
    write_wav(path, tone, RATE)
    content = path.read_bytes()
    start = content.index(b"data")
    extra = b"note" + struct.pack("<I", 3) + b"abc\0"
    content = content[:start] + extra + content[start:]
    path.write_bytes(content)
    assert len(read_wav(path)) == 4000
    path.write_bytes(content[:-130])
    with pytest.raises(UserError, match="130 bytes more"):
        read_wav(path)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(tmp_path, bad):
    samples = np.zeros(100, dtype=np.float32)
    samples[40:42] = bad
    soundfile.write(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match="bad.wav holds 2 samples that are NaN or infinite"):
        read_wav(tmp_path / "bad.wav")


@pytest.mark.parametrize(("scale", "bits"), [(30000.0, 16), (32769.0, 24), (2.0**31, 32)])
def test_integers_stored_as_floats(tmp_path, tone, scale, bits):
    path = tmp_path / "loud.wav"
    samples = tone / tone.abs().max()
    soundfile.write(path, (scale * samples).numpy(), RATE, subtype="FLOAT")
    message = rf"loud.wav has samples up to [\d.e+]+, where.* {bits} bits.* by {2 ** (bits - 1)}\."
    with pytest.raises(UserError, match=message):
        read_wav(path)
    with pytest.raises(UserError, match=message):
        read_for_model(path, 16000)
    with pytest.raises(UserError, match=message):
        read_utterance(path, LogMel())
    for peak, is_read in ((4.0, True), (4.001, False)):
        soundfile.write(path, (peak * samples).numpy(), RATE, subtype="FLOAT")
        if is_read:
            assert float(read_wav(path).abs().max()) == peak
        else:
            with pytest.raises(UserError, match="up to 4.001"):
                read_wav(path)


@pytest.mark.parametrize(
    ("right", "message"),
    [(-1.0, "120 dB quieter"), (-0.7, "15 dB quieter"), (-0.3, ""), (1, "")],
)
def test_channels_in_opposite_phase_are_named_once(tmp_path, caplog, tone, right, message):
    path = tmp_path / "two.wav"
    stereo = torch.stack([tone, right * tone], 1).numpy()
    soundfile.write(path, stereo, 16000, subtype="FLOAT")
    read_for_model(path, RATE)
    list(read_blocks(path, RATE, block_seconds=0.01))
    read_wav(path, mono="mix")
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == bool(message)
    assert not message or "two.wav: its channels" in warnings[0] and message in warnings[0]


@pytest.mark.parametrize("rate", [0, 1, 999, 1000, 768000, 768001, 2**31])
def test_rates_that_a_header_may_state(tmp_path, rate):
    path = tmp_path / "a.wav"
    write_wav(path, torch.zeros(1800), RATE)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 24, rate)
    source = SoundBytes("a.wav", bytes(content))
    if 1 <= rate <= 768000:
        assert len(read_for_model(source, 100)) == math.ceil(1800 * 100 / rate)
    else:
        with pytest.raises(UserError, match="a.wav"):
            read_wav(source)


def test_a_wrong_rate_does_not_make_days_of_seconds(tmp_path):
    for rate, samples, is_read in [(2, 7200, True), (2, 7201, False), (1000, 3600001, True)]:
        write_wav(tmp_path / "a.wav", torch.zeros(samples), rate)
        if is_read:
            assert audio_info(tmp_path / "a.wav").num_samples == samples
        else:
            with pytest.raises(UserError, match="a.wav has a sample rate of 2 Hz.* 1 hours"):
                audio_info(tmp_path / "a.wav")


def test_too_short_names_both_lengths(tmp_path, tone):
    write_wav(tmp_path / "short.wav", tone, RATE)
    assert len(read_wav(tmp_path / "short.wav", min_samples=4000)) == 4000
    with pytest.raises(UserError, match="short.wav is too short: 4000 samples.* 4001"):
        read_wav(tmp_path / "short.wav", min_samples=4001)
    with pytest.raises(UserError, match="short.wav is too short: 2000 samples at 11025 Hz"):
        read_for_model(tmp_path / "short.wav", 11025, min_samples=2001)


def test_strict_reading_refuses_other_rate_and_stereo(tmp_path):
    stereo = np.stack([np.full(300, 0.25), np.full(300, -0.75)], axis=1)
    soundfile.write(tmp_path / "two.wav", stereo, 16000, subtype="PCM_16")
    with pytest.raises(UserError, match="two.wav.*16000 Hz where 22050 Hz"):
        read_wav(tmp_path / "two.wav", RATE, mono="mix")
    with pytest.raises(UserError, match="two.wav has 2 channels"):
        read_wav(tmp_path / "two.wav", 16000)
    assert torch.equal(read_wav(tmp_path / "two.wav", mono="mix"), torch.full((300,), -0.25))


def test_read_for_model_mixes_and_resamples(tmp_path):
    time = torch.arange(48000) / 48000
    left, right = torch.sin(2 * math.pi * 1000 * time), torch.zeros(48000)
    stereo = torch.stack([left, right], dim=1).numpy()
    soundfile.write(tmp_path / "two.wav", stereo, 48000, subtype="FLOAT")
    wav = read_for_model(tmp_path / "two.wav", RATE)
    expected = 0.5 * torch.sin(2 * math.pi * 1000 * torch.arange(RATE) / RATE)
    assert len(wav) == RATE
    assert (wav - expected)[200:-200].abs().max() < 1e-3


# ---- sound from memory


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24")]
)
def test_bytes_read_as_their_file_does(tmp_path, tone, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, torch.stack([tone, -tone * 0.3], 1).numpy(), 16000, subtype=subtype)
    source = SoundBytes("shard.tar: a", path.read_bytes())
    assert audio_info(source) == audio_info(path) == (16000, 4000, 2)
    expected = read_wav(path, 16000, mono="mix")
    assert torch.equal(read_wav(source, 16000, mono="mix"), expected)
    assert torch.equal(read_for_model(source, RATE), read_for_model(path, RATE))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "is an empty file"),
        (lambda data: data[:5000], "is truncated: its header promises 3044 bytes more"),
        (lambda data: b"no sound" * 50, "cannot be read as an audio file"),
        (lambda data: data[:44], "is truncated"),
    ],
)
def test_damaged_bytes_are_named(tmp_path, tone, damage, message):
    write_wav(tmp_path / "a.wav", tone, RATE)
    data = damage((tmp_path / "a.wav").read_bytes())
    with pytest.raises(UserError, match=f"^shard.tar: a {message}"):
        read_wav(SoundBytes("shard.tar: a", data))
    with pytest.raises(UserError, match="shard.tar: a has a sample rate of 22050 Hz"):
        read_wav(SoundBytes("shard.tar: a", (tmp_path / "a.wav").read_bytes()), 16000)


def test_a_folder_that_may_not_be_read_is_no_crash(tmp_path, monkeypatch):
    """As network disks fail."""
    write_wav(tmp_path / "a.wav", torch.zeros(100), RATE)

    def fail(*arguments, **options):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(UserError, match="a.wav cannot be read.*Stale file handle"):
        audio_info(tmp_path / "a.wav")
