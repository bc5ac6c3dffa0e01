from waveglow_vq.data.corpora.levels import gain_to, high_pass, speech_level_dbfs
from waveglow_vq.data.corpora.prepared_audio import Preprocessing, prepare_audio, prepared_files
from waveglow_vq.data.corpora.speaker_folders import Recording
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch

RATE = 22050


def tone(hz, level=0.1, seconds=1.0):
    time = np.arange(round(seconds * RATE)) / RATE
    return level * np.sin(2 * np.pi * hz * time)


def prepare(folder, signal, name="a_1", **options):
    """The prepared samples, and what is known of them."""
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / f"{name}.wav", signal, RATE, subtype="PCM_16")
    recording = Recording(name, "a", str(folder / f"{name}.wav"), f"{name}.wav")
    options = Preprocessing(trim_silence=False, **options)
    known, _ = prepare_audio([recording], folder / "out", options, num_workers=1)
    return soundfile.read(prepared_files(folder / "out", recording)[0])[0], known[name]


@pytest.mark.parametrize(("hz", "gain"), [(20, 0.0), (35, 0.0), (70, 1.0), (140, 1.0), (3000, 1.0)])
def test_high_pass_keeps_phase_and_level_above(hz, gain):
    wav = torch.from_numpy(tone(hz, seconds=3.0))
    out = high_pass(wav, RATE, 70.0)
    # Zero phase: what is left is the signal itself, not moved.
    assert float((out - gain * wav)[RATE:-RATE].abs().max()) < 0.002


def test_high_pass_and_loudness_in_preparation(tmp_path):
    voice, rumble = tone(200, 0.02), tone(25, 0.2)
    out, known = prepare(tmp_path, voice + rumble, highpass_hz=70, loudness_dbfs=-26.0)
    assert 10 * np.log10(np.mean(out**2)) == pytest.approx(-26, abs=0.2)
    gain = 10 ** (-26 / 20) / (0.02 / np.sqrt(2))
    assert np.abs(out - gain * voice)[4000:-4000].max() < 0.01
    # The filters judge the recording as it was, without the rumble.
    assert known.sound.peak == pytest.approx(0.02, rel=0.1)
    assert known.sound.loudness_dbfs == pytest.approx(-37, abs=0.3)


def test_at_full_scale_it_is_quieter_and_does_not_clip(tmp_path):
    signal = tone(300, 0.02)
    signal[5000] = 0.5
    out, _ = prepare(tmp_path, signal, loudness_dbfs=-10.0)
    assert np.abs(out).max() == pytest.approx(32767 / 32768, abs=1e-4)
    assert np.allclose(out / out[5000], signal / 0.5, atol=2e-4)


def test_levels_of_a_range_are_drawn_by_id(tmp_path):
    levels = []
    for n in range(8):
        out, _ = prepare(tmp_path, tone(300), f"a_{n}", loudness_dbfs=[-32, -20])
        levels.append(10 * np.log10(np.mean(out**2)))
    assert -32.1 < min(levels) < -28 and -24 < max(levels) < -19.9
    again, _ = prepare(tmp_path / "again", tone(300), "a_0", loudness_dbfs=[-32, -20])
    assert 10 * np.log10(np.mean(again**2)) == pytest.approx(levels[0], abs=0.01)


def test_pauses_do_not_count_and_silence_is_not_raised():
    wav = torch.from_numpy(np.concatenate([tone(300), np.zeros(3 * RATE)]))
    assert speech_level_dbfs(wav, RATE, -35.0) == pytest.approx(-23.01, abs=0.1)
    assert gain_to(-26.0, torch.zeros(1000), RATE, -35.0, 0.0) == 1.0
    assert gain_to(-26.0, wav * 1e-3, RATE, -35.0, 0.0) == pytest.approx(10.0)


@pytest.mark.parametrize(
    "change", [{"highpass_hz": 70}, {"loudness_dbfs": -26.0}, {"fill_band_db": -3.0}]
)
def test_with_another_setting_nothing_is_taken_from_before(tmp_path, change):
    signal = tone(300) + tone(30) + 0.01 * np.random.default_rng(0).standard_normal(RATE)
    low = np.fft.rfft(signal)
    low[7500:] = 0  # as a recording at 16 kHz
    signal = np.fft.irfft(low, RATE)
    plain, _ = prepare(tmp_path, signal)
    changed, _ = prepare(tmp_path, signal, **change)
    assert np.abs(changed - plain).max() > 1e-3
    assert np.array_equal(prepare(tmp_path, signal)[0], plain)


def test_another_option_of_the_same_value_is_another_key(tmp_path):
    loud, _ = prepare(tmp_path, tone(300), loudness_dbfs=-30.0)
    filled, _ = prepare(tmp_path, tone(300), fill_band_db=-30.0)
    assert np.abs(loud).max() < 0.06 < np.abs(filled).max()


def test_those_that_are_off_leave_no_trace():
    """What was prepared before there were any is still up to date."""
    assert list(Preprocessing().stated()) == [
        "sample_rate",
        "trim_silence",
        "trim_threshold_db",
        "hop_length",
    ]
    assert Preprocessing(highpass_hz=70).stated()["highpass_hz"] == 70


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"highpass_hz": 0}, "highpass_hz: 0"),
        ({"loudness_dbfs": 3.0}, "loudness_dbfs: 3.0"),
        ({"loudness_dbfs": [-20, -32]}, "the lower first"),
        ({"fill_band_db": 3.0}, "fill_band_db: 3.0"),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(UserError, match=named):
        Preprocessing(**options).checked()
