"""What cannot be cut into segments is named."""

import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.sound_files import SoundBytes
from waveglow_vq.data.segments import read_utterance
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch

from tests.data.noise import HOP, RATE, speech_like, unshifted


def write_short(path):
    soundfile.write(path, speech_like(15 * HOP), RATE)


def write_stereo(path):
    soundfile.write(path, np.stack([speech_like(40 * HOP)] * 2, axis=1), RATE)


def write_wrong_rate(path):
    soundfile.write(path, speech_like(40 * HOP), 16000)


def write_truncated(path):
    soundfile.write(path, speech_like(400 * HOP), RATE)
    path.write_bytes(path.read_bytes()[:50000])


def write_truncated_flac(path):
    soundfile.write(path, speech_like(400 * HOP), RATE, format="FLAC")
    path.write_bytes(path.read_bytes()[:20000])


def write_nan(path):
    wav = speech_like(40 * HOP)
    wav[::100] = math.nan
    soundfile.write(path, wav, RATE, subtype="FLOAT")


def write_no_sound(path):
    path.write_text("this is no sound file")


def write_empty(path):
    path.write_bytes(b"")


def write_no_samples(path):
    soundfile.write(path, np.zeros(0), RATE)


def write_nothing(path):
    pass


@pytest.mark.parametrize(
    "write,message",
    [
        (write_short, "3840 samples are fewer than the 4096"),
        (write_stereo, "2 channels"),
        (write_wrong_rate, "16000 Hz"),
        (write_truncated, "truncated"),
        (write_truncated_flac, "truncated"),
        (write_nan, "not finite"),
        (write_no_sound, "cannot be read"),
        (write_empty, "empty"),
        (write_no_samples, "no samples"),
        (write_nothing, "does not exist"),
    ],
)
def test_bad_files_are_named(tmp_path, write, message):
    path = tmp_path / "bad.wav"
    write(path)
    torch.manual_seed(0)
    reader = unshifted(LogMel(), 16, 20, min_loudness_dbfs=-200.0)
    with pytest.raises(UserError, match=rf"bad\.wav.*{message}"):
        for _ in range(20):  # a segment reads only a part of its file
            reader(path)
    if write is not write_short:
        with pytest.raises(UserError, match=rf"bad\.wav.*{message}"):
            read_utterance(path, LogMel())


def test_a_file_too_short_for_a_frame_of_the_mel_is_named(tmp_path):
    soundfile.write(tmp_path / "bad.wav", speech_like(2 * HOP), RATE)
    with pytest.raises(UserError, match="bad.wav.*512 samples are fewer than the 513"):
        unshifted(LogMel(), 1, 2)(tmp_path / "bad.wav")
    with pytest.raises(UserError, match="bad.wav.*512 samples are too short"):
        read_utterance(tmp_path / "bad.wav", LogMel())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_short, "3840 samples are fewer than the 4096"),
        (write_stereo, "has 2 channels"),
        (write_wrong_rate, "is at 16000 Hz"),
        (write_truncated, "is truncated"),
        (write_truncated_flac, "truncated"),
        (write_nan, "holds values that are not finite"),
    ],
)
def test_bad_bytes_are_named(tmp_path, write, message):
    write(tmp_path / "bad.wav")
    source = SoundBytes("shard.tar: a", (tmp_path / "bad.wav").read_bytes())
    torch.manual_seed(0)
    reader = unshifted(LogMel(), 16, 20, min_loudness_dbfs=-200.0)
    with pytest.raises(UserError, match=f"shard.tar: a.*{message}"):
        for _ in range(20):
            reader(source)
