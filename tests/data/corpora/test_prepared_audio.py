import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from waveglow_vq.audio.io import read_wav
from waveglow_vq.data.corpora import prepared_audio
from waveglow_vq.data.corpora.prepared_audio import (
    Preprocessing,
    prepare_audio,
    prepared_files,
    speech_bounds,
)
from waveglow_vq.data.corpora.speaker_folders import Recording
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch

from tests.data.corpora.vctk_tree import voice

RATE = 22050


def write(folder, signal, rate, name="a_1", suffix=".wav"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}{suffix}"
    soundfile.write(path, signal, rate, subtype="PCM_16")
    return Recording(name, name.split("_")[0], str(path), path.name)


def prepare(utterance, folder, **options):
    """One utterance: its prepared samples, its pitch and what is known of it."""
    known, _ = prepare_audio([utterance], folder, Preprocessing(**options), num_workers=1)
    wav_file, pitch_file = prepared_files(folder, utterance)
    samples, rate = soundfile.read(wav_file)
    assert rate == options.get("sample_rate", RATE)
    assert soundfile.info(wav_file).subtype == "PCM_16"
    return samples, np.load(pitch_file), known[utterance.id]


def tone(hz, rate, seconds=1.0, level=0.3):
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000, 96000])
def test_any_rate_becomes_the_models(tmp_path, rate):
    hz = 3000.0
    samples, _, _ = prepare(
        write(tmp_path / "in", tone(hz, rate), rate), tmp_path / "out", trim_silence=False
    )
    assert len(samples) == RATE
    assert np.abs(samples - tone(hz, RATE))[200:-200].max() < 2e-4


@pytest.mark.parametrize("hz", [11_500, 12_000, 14_000, 20_000])
def test_what_the_new_rate_cannot_hold_does_not_come_back(tmp_path, hz):
    """Linear interpolation would leave an alias at about -20 dB."""
    signal = tone(hz, 48000) + 0.1 * tone(500, 48000)
    samples, _, _ = prepare(
        write(tmp_path / "in", signal, 48000), tmp_path / "out", trim_silence=False
    )
    alias = (samples - 0.1 * tone(500, RATE))[500:-500]
    assert 20 * np.log10(np.abs(alias).max() / 0.3) < -75  # 16 bits of 0.3 end at -80


def test_channels_are_averaged_and_the_offset_is_removed(tmp_path):
    left, right = tone(200, RATE, level=0.4), tone(1000, RATE, level=0.2)
    utterance = write(tmp_path / "in", np.stack([left, right], 1) + 0.25, RATE)
    samples, _, _ = prepare(utterance, tmp_path / "out", trim_silence=False)
    assert np.allclose(samples, (left + right) / 2, atol=1e-3)
    assert abs(samples.mean()) < 1e-4


def test_what_exceeds_full_scale_is_scaled_and_not_clipped(tmp_path):
    rate = 48000
    square = 0.99 * np.sign(tone(800, rate))  # overshoots when band-limited
    samples, _, known = prepare(write(tmp_path / "in", square, rate), tmp_path / "out")
    assert np.abs(samples).max() == pytest.approx(32767 / 32768)
    assert (np.abs(samples) > 0.9999).sum() < 50
    assert known.sound.peak <= 1.0


def with_silence(before, after, noise=1e-4, rumble=0.0, rate=48000):
    signal = voice(1.0, rate)
    signal = np.concatenate([np.zeros(int(before * rate)), signal, np.zeros(int(after * rate))])
    signal += noise * np.random.default_rng(0).standard_normal(len(signal))
    return signal + rumble * tone(45, rate, len(signal) / rate, level=1.0)


@pytest.mark.parametrize("rumble", [0.0, 0.05])
def test_silence_at_the_ends_is_cut_off(tmp_path, rumble):
    """Rumble, at -12 dB of the voice here, is no speech; 0.1 s of the surroundings stay."""
    utterance = write(tmp_path / "in", with_silence(0.7, 0.5, rumble=rumble), 48000)
    samples, _, _ = prepare(utterance, tmp_path / "out")
    assert len(samples) / RATE == pytest.approx(1.2, abs=0.05)
    whole, _, _ = prepare(utterance, tmp_path / "whole", trim_silence=False)
    windows = np.lib.stride_tricks.sliding_window_view(whole, 200)
    start = int((windows == samples[:200]).all(1).argmax())
    assert np.array_equal(whole[start : start + len(samples)], samples)
    assert start / RATE == pytest.approx(0.6, abs=0.03)


def test_the_threshold_counts(tmp_path):
    signal = with_silence(0.5, 0.5, noise=0)
    signal[4800:9600] += 0.01 * voice(0.1)  # a weak sound, 0.3 s before
    utterance = write(tmp_path / "in", signal, 48000)
    for threshold, seconds in ((-25, 1.2), (-50, 1.6)):
        samples, _, _ = prepare(utterance, tmp_path / "out", trim_threshold_db=threshold)
        assert len(samples) / RATE == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize("length", [1, 5, 441, 20_000])
def test_silence_and_short_signals_stay_whole(length):
    assert speech_bounds(torch.zeros(length), RATE) == (0, length)
    start, end = speech_bounds(torch.randn(length), RATE)
    assert start == 0 and end == length


def test_pauses_inside_stay(tmp_path):
    signal = np.concatenate([voice(0.5, RATE), np.zeros(RATE), voice(0.5, RATE)])
    samples, _, _ = prepare(write(tmp_path / "in", signal, RATE), tmp_path / "out")
    assert len(samples) == len(signal)


def test_pitch(tmp_path):
    signal = np.concatenate([voice(0.5, f0=200.0), np.zeros(24_000), voice(0.5, f0=200.0)])
    samples, log_f0, known = prepare(write(tmp_path / "in", signal, 48000), tmp_path / "out")
    assert log_f0.dtype == np.float32 and log_f0.shape == (1 + len(samples) // 256,)
    voiced = log_f0 > 0
    assert not voiced[50:80].any() and voiced[5:35].mean() > 0.9
    assert np.allclose(log_f0[5:35][voiced[5:35]], np.log(200), atol=0.04)
    assert known.voiced_frames == voiced.sum()
    assert known.log_f0_mean == pytest.approx(log_f0[voiced].mean(), abs=1e-5)
    assert known.log_f0_std == pytest.approx(log_f0[voiced].std(), abs=1e-5)


@pytest.mark.parametrize("length", [1, 2, 100, 1000])
def test_short_and_silent_recordings_are_prepared(tmp_path, length):
    """Whether they are of use is for the filters to say."""
    utterance = write(tmp_path / "in", np.zeros(length), 16000)
    samples, log_f0, known = prepare(utterance, tmp_path / "out")
    assert not samples.any() and not log_f0.any() and len(log_f0) == 1 + len(samples) // 256
    assert known.sound == (len(samples), 0.0, -np.inf) and known.voiced_frames == 0
    again, _ = prepare_audio([utterance], tmp_path / "out")
    assert again["a_1"] == known  # minus infinity survives the journal


def test_what_is_known_is_that_of_the_prepared_file(tmp_path):
    utterance = write(tmp_path / "in", with_silence(1.0, 0.0), 48000, suffix=".flac")
    samples, _, known = prepare(utterance, tmp_path / "out")
    assert known.sound.num_samples == len(samples)
    assert known.sound.peak == pytest.approx(np.abs(samples).max(), abs=1e-4)


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Six recordings, and a function that prepares them and says which ones were read."""
    utterances = [
        write(tmp_path / "in", voice(0.3, 16000, seed=n), 16000, f"{'ab'[n % 2]}_{n}")
        for n in range(6)
    ]
    done = []
    original = prepared_audio.prepare_utterance

    def counting(utterance, *rest):
        done.append(utterance.id)
        return original(utterance, *rest)

    monkeypatch.setattr(prepared_audio, "prepare_utterance", counting)

    def again(utterances=utterances, **options):
        done.clear()
        prepare_audio(utterances, tmp_path / "out", Preprocessing(**options), num_workers=1)
        return list(done)

    assert len(again()) == 6
    return tmp_path, utterances, again


def test_nothing_is_done_twice(corpus):
    folder, utterances, again = corpus
    stamps = {f: f.stat().st_mtime_ns for f in (folder / "out").rglob("*")}
    assert again() == []
    assert again(utterances[2:4]) == []
    assert {f: f.stat().st_mtime_ns for f in (folder / "out").rglob("*")} == stamps


def test_a_corpus_that_moved_is_not_done_again(corpus):
    folder, utterances, again = corpus
    (folder / "in").rename(folder / "moved")
    assert again([u._replace(path=u.path.replace("/in/", "/moved/")) for u in utterances]) == []


@pytest.mark.parametrize(
    "options", [{"sample_rate": 16000}, {"trim_silence": False}, {"trim_threshold_db": -50.0}]
)
def test_another_option_does_all_again(corpus, options):
    assert len(corpus[2](**options)) == 6
    assert corpus[2](**options) == []


def test_another_file_is_done_again_alone(corpus):
    folder, utterances, again = corpus
    write(folder / "in", voice(0.4, 16000), 16000, "a_2")
    assert again() == ["a_2"] and again() == []
    other = Path(write(folder / "in", voice(0.3, 16000, f0=180.0), 16000, "a_4").path)
    assert other.stat().st_size == Path(utterances[0].path).stat().st_size
    assert again() == ["a_4"]  # of the same size, but of another time
    assert again([*utterances[:5], utterances[5]._replace(source="other.wav")]) == ["b_5"]


@pytest.mark.parametrize("suffix", [".wav", ".pitch.npy"])
@pytest.mark.parametrize("damage", ["lost", "emptied", "cut off"])
def test_a_damaged_file_is_done_again(corpus, suffix, damage):
    file = corpus[0] / "out" / "b" / f"b_3{suffix}"
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "emptied" else -150])
    assert corpus[2]() == ["b_3"]
    assert corpus[2]() == []


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_line_that_was_cut_off_costs_one_utterance(corpus, cut):
    """A process can be killed while it writes."""
    journal = corpus[0] / "out" / prepared_audio.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert corpus[2]() in ([], ["b_5"])  # a line that lacks its end of line only is whole
    assert corpus[2]() == []
    assert len({json.loads(line)[0] for line in journal.read_text().splitlines()[:5]}) == 5


def test_a_journal_of_nonsense_costs_work_only(corpus):
    journal = corpus[0] / "out" / prepared_audio.JOURNAL
    journal.write_bytes(b'\xff\xfe{}\n[1, 2]\n{"a": 1}\nnull\n[[], 1, 2, 3, 4, 5, 6, 7]\n3\n')
    assert len(corpus[2]()) == 6
    assert corpus[2]() == []


def test_no_temporary_files_stay(corpus, monkeypatch):
    folder, utterances, again = corpus

    def fill_the_disk(file, _):
        file.write(b"half")
        raise OSError("full")

    monkeypatch.setattr(prepared_audio.np, "save", fill_the_disk)
    (folder / "out" / "a" / "a_0.wav").unlink()
    with pytest.raises(OSError, match="full"):
        again()
    monkeypatch.undo()
    names = {f.name for f in (folder / "out" / "a").iterdir()}
    assert names == {f"a_{n}{s}" for n in (0, 2, 4) for s in (".wav", ".pitch.npy")}


def test_the_same_with_any_number_of_processes(tmp_path):
    utterances = [
        write(tmp_path / "in", voice(0.3, 48000, f0=100.0 + 20 * n), 48000, f"a_{n}")
        for n in range(7)
    ]
    torch.randn(300, 300) @ torch.randn(300, 300)  # threads in the parent must not stop children
    results = [prepare_audio(utterances, tmp_path / f"{n}", num_workers=n) for n in (1, 3)]
    assert results[0] == results[1]
    for u in utterances:
        for file, other in zip(*(prepared_files(tmp_path / n, u) for n in "13"), strict=True):
            assert file.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is an empty file"), (b"no sound at all", "cannot be read"), (None, "truncated")],
)
def test_a_damaged_recording_is_named(tmp_path, workers, content, message):
    utterances = [write(tmp_path / "in", voice(0.3, 16000), 16000, f"a_{n}") for n in range(4)]
    file = Path(utterances[2].path)
    file.write_bytes(file.read_bytes()[:-3000] if content is None else content)
    with pytest.raises(UserError, match=rf"a_2\.wav.*{message}") as error:
        prepare_audio(utterances, tmp_path / "out", num_workers=workers)
    assert "\n" not in str(error.value)
    write(tmp_path / "in", voice(0.3, 16000), 16000, "a_2")
    assert len(prepare_audio(utterances, tmp_path / "out", num_workers=workers)[0]) == 4


def test_an_interrupt_leaves_no_processes_at_work(tmp_path, monkeypatch):
    """Wherever it comes: here, between two results."""
    utterances = [write(tmp_path / "in", voice(1.0, 16000), 16000, f"a_{n}") for n in range(30)]
    monkeypatch.setattr(prepared_audio.Journal, "add", lambda *_: (_ for _ in ()).throw(OSError()))
    before = set(multiprocessing.active_children())
    with pytest.raises(OSError) as error:  # keeps everything alive that the traceback refers to
        prepare_audio(utterances, tmp_path / "out", num_workers=2)
    assert error.tb is not None and not set(multiprocessing.active_children()) - before
    assert len(list((tmp_path / "out" / "a").glob("[!.]*.wav"))) < 30


def test_a_recording_that_vanished_is_named(tmp_path):
    with pytest.raises(UserError, match=r"x\.wav cannot be read: No such file"):
        prepare_audio([Recording("a_1", "a", str(tmp_path / "x.wav"), "x.wav")], tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "workers", "message"),
    [
        ({"sample_rate": 0}, 1, "sample_rate: 0"),
        ({"trim_threshold_db": 35.0}, 1, "trim_threshold_db: 35.0; .* below 0"),
        ({}, 0, "num_workers: 0"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, workers, message):
    with pytest.raises(UserError, match=message):
        prepare_audio([], tmp_path, Preprocessing(**options), workers)


def run_apart(utterances, folder, errors):
    """In a process of its own, and in a group of its own: the test is not to be killed."""
    os.setsid()
    sys.stderr = open(errors, "w")
    torch.set_num_threads(1)
    prepare_audio(utterances, folder, num_workers=2)


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_is_gone_and_the_next_goes_on(tmp_path, how, monkeypatch):
    only = write(tmp_path / "in", voice(1.5, 48000), 48000)
    utterances = [only._replace(id=f"a_{n}") for n in range(120)]
    journal = tmp_path / "out" / prepared_audio.JOURNAL
    errors = tmp_path / "stderr"
    run = multiprocessing.get_context("fork").Process(
        target=run_apart, args=(utterances, tmp_path / "out", errors)
    )
    run.start()
    while not journal.exists() or journal.read_text().count("\n") < 6:
        assert run.is_alive(), errors.read_text()
        time.sleep(0.002)
    workers = children(run.pid)
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # as Ctrl-C at a terminal: the workers get it too
    else:
        os.kill(run.pid, how)
    run.join()
    assert workers or journal.read_text().count("\n") == 120
    while any(is_running(pid) for pid in workers):  # for ever, if they are not told to leave
        time.sleep(0.1)
    assert errors.read_text().count("KeyboardInterrupt") <= 1  # the workers say nothing
    for file in (tmp_path / "out" / "a").glob("[!.]*.wav"):
        read_wav(file, sample_rate=RATE)
    finished = journal.read_text().count("\n")
    assert 6 <= finished <= 120  # all of them, where this process was left waiting
    done = []
    original = prepared_audio.prepare_utterance
    monkeypatch.setattr(
        prepared_audio, "prepare_utterance", lambda u, *rest: done.append(u) or original(u, *rest)
    )
    prepared, _ = prepare_audio(utterances, tmp_path / "out", num_workers=1)
    assert len(prepared) == 120 and len(done) == 120 - finished
