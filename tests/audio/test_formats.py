from waveglow_vq.audio.formats import how_to_convert, is_sound, sound_suffixes
from waveglow_vq.audio.sound_files import audio_info
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile


def test_all_that_is_listed_is_read_and_nothing_else(tmp_path):
    wav = 0.1 * np.random.default_rng(0).standard_normal((4000, 1))
    for name in soundfile.available_formats():
        kind = soundfile.default_subtype(name)
        if kind is None or name in ("RAW", "SD2", "XI", "WVE"):  # not written, or in two files
            continue
        path = tmp_path / f"a.{name.lower()}"
        soundfile.write(str(path), wav, 8000, format=name, subtype=kind)
        assert is_sound(path) and audio_info(path).sample_rate == 8000, name
    assert len(set(sound_suffixes())) == len(sound_suffixes())
    for name in ("a.OPUS", "a.snd", "a.oga", "a.aiff"):
        assert is_sound(name), name
    for name in ("a.raw", "a.m4a", "a.wma", "a.txt", "wav", "a.wvq"):
        assert not is_sound(name), name


def test_how_other_sound_is_converted(tmp_path):
    assert how_to_convert(["x.flac"]) == ""
    (tmp_path / "talk.webm").write_bytes(b"\x1aE\xdf\xa3 and so on")
    with pytest.raises(UserError, match="talk.webm cannot be read .*; ffmpeg -i talk.webm talk.wa"):
        audio_info(tmp_path / "talk.webm")
