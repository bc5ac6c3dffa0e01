import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import read_wav, write_wav
from waveglow_vq.audio.resampling import resample
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation import score
from waveglow_vq.evaluation.score import (
    METRICS,
    format_table,
    score_baselines,
    score_folders,
    score_pair,
)
from waveglow_vq.evaluation.score_table import VOICING

import pytest
import soundfile
import torch

from tests.evaluation.signals import RATE, pulse_train, speech_like


@pytest.fixture(scope="module")
def wav():
    return speech_like(1.0)


@pytest.fixture
def folders(tmp_path, wav):
    """A folder of two recordings, one of them in a subfolder, and a function that makes others."""

    def make(name, change, rate=RATE):
        for number, path in enumerate(["a.wav", "sub/b.wav"]):
            write_wav(tmp_path / name / path, change(speech_like(1.0, seed=number)), rate)
        return tmp_path / name

    return make("recordings", lambda wav: wav), make


def test_copy_scores_exactly_zero_in_everything(wav):
    for align in (False, True):
        for level_match in (False, True):
            scores = score_pair(wav, wav.clone(), RATE, align, level_match)
            assert [scores[name] for name in METRICS] == [0.0] * len(METRICS)
            assert scores["delay_samples"] == 0 and scores["gain"] == 1.0


@pytest.mark.parametrize("delay", [37, -300])
def test_shift_ruins_the_score_only_without_alignment(wav, delay):
    shifted = torch.cat([torch.zeros(delay), wav]) if delay > 0 else wav[-delay:]
    plain = score_pair(wav, shifted, RATE)
    assert plain["log_mel_l1"] > 0.05 and plain["spectral_convergence"] > 0.03
    aligned = score_pair(wav, shifted, RATE, align=True)
    assert [aligned[name] for name in METRICS] == [0.0] * len(METRICS)
    assert aligned["delay_samples"] == delay
    assert aligned["length_difference_samples"] == delay
    assert score_pair(wav, shifted, RATE, align=True, max_shift_samples=20)["log_mel_l1"] > 0


def test_gain_ruins_the_score_only_without_level_matching(wav):
    assert score_pair(wav, 0.25 * wav, RATE)["log_mel_l1"] > 1
    matched = score_pair(wav, 0.25 * wav, RATE, level_match=True)
    assert [matched[name] for name in METRICS] == [0.0] * len(METRICS)
    assert matched["gain"] == 4.0


def test_both_options_together_leave_the_noise(wav):
    noise = torch.randn(len(wav), generator=torch.Generator().manual_seed(0))
    noisy = wav + 0.003 * noise
    here = score_pair(wav, noisy, RATE, level_match=True)
    moved = torch.cat([torch.zeros(500), 0.5 * noisy])
    there = score_pair(wav, moved, RATE, align=True, level_match=True)
    for name in METRICS:
        assert there[name] == pytest.approx(here[name], rel=0.02, abs=1e-3), name


def test_too_short(wav):
    with pytest.raises(UserError, match="the estimate is too short.*2000 samples"):
        score_pair(wav, wav[:2000], RATE)


def test_folder_against_itself(folders):
    recordings, _ = folders
    results = score_folders(recordings, recordings)
    assert sorted(results["files"]) == ["a", "sub/b"]
    assert set(results["mean"]) == {*METRICS, *VOICING}
    assert all(results["mean"][name] == 0.0 for name in METRICS)
    assert results["baselines"]["recordings"]["mean"] == results["mean"]
    assert results["settings"]["sample_rate"] == RATE


def test_mean_is_the_mean_of_the_files_and_skips_what_is_undefined(folders):
    recordings, make = folders
    noisy = make("noisy", lambda wav: wav + 0.01 * torch.randn(len(wav)))
    results = score_folders(recordings, noisy)
    for name in METRICS:
        values = [scores[name] for scores in results["files"].values()]
        assert results["mean"][name] == pytest.approx(sum(values) / 2) and min(values) >= 0
    silent = make("silent", torch.zeros_like)
    results = score_folders(recordings, silent)
    assert math.isnan(results["mean"]["log_f0_rmse"])
    assert "-" in format_table(results).split("mean ")[1].split("\n")[0].split()
    write_wav(silent / "a.wav", speech_like(1.0), RATE)
    assert score_folders(recordings, silent)["mean"]["log_f0_rmse"] == 0.0


def test_silent_recordings_are_left_out_of_the_means(folders, wav):
    recordings, make = folders
    other = make("other", lambda wav: wav)
    write_wav(recordings / "silent.wav", torch.zeros(RATE), RATE)
    write_wav(other / "silent.wav", wav, RATE)
    results = score_folders(recordings, other)
    assert results["files"]["silent"]["spectral_convergence"] > 100
    assert results["silent"] == ["silent"]
    assert {results["mean"][name] for name in METRICS} == {0.0}
    assert "1 silent recording, left out of the means: silent" in format_table(results)
    for name in ("a.wav", "sub/b.wav"):
        (other / name).unlink()
    with pytest.raises(UserError, match="recordings: the recordings are silent"):
        score_folders(recordings, other)


def test_channels_are_mixed(folders, wav):
    recordings, make = folders
    stereo = make("stereo", lambda wav: wav)
    samples = torch.stack([wav, torch.zeros_like(wav)], 1).numpy()
    soundfile.write(stereo / "a.wav", samples, RATE, subtype="FLOAT")
    scores = score_folders(recordings, stereo, level_match=True)["files"]["a"]
    assert scores["spectral_convergence"] < 1e-3
    assert scores["gain"] == pytest.approx(2.0, rel=1e-3)


def test_missing_counterparts_are_reported(folders, wav):
    recordings, make = folders
    other = make("other", lambda wav: wav)
    (other / "sub" / "b.wav").unlink()
    write_wav(other / "c.wav", wav, RATE)
    results = score_folders(recordings, other)
    assert list(results["files"]) == ["a"]
    assert results["missing_estimates"] == ["sub/b"] and results["missing_references"] == ["c"]
    table = format_table(results)
    assert "MR-STFT ↓  MCD [dB] ↓" in table and "\n  => log-mel L1 is that of good" in table
    assert "1 recording without a reconstruction, left out: sub/b" in table
    assert "1 reconstruction without a recording, left out: c" in table


def test_lengths_are_cut_and_reported(folders):
    recordings, make = folders
    longer = make("longer", lambda wav: torch.cat([wav, torch.zeros(200)]))
    results = score_folders(recordings, longer)
    assert results["mean"]["log_mel_l1"] == 0.0
    assert results["files"]["a"]["length_difference_samples"] == 200
    assert "2 of 2 pairs differ in length, by +200 to +200" in format_table(results)


def test_other_rate_is_refused_or_resampled(folders):
    recordings, make = folders
    slow = make("slow", lambda wav: resample(wav, RATE, 16000), 16000)
    with pytest.raises(UserError, match="a.wav.*16000 Hz, but scoring is at 22050 Hz.*--resample"):
        score_folders(recordings, slow)
    results = score_folders(recordings, slow, allow_resampling=True)
    # All but what lies above 8 kHz is back.
    assert 0 < results["mean"]["spectral_convergence"] < 0.1
    results = score_folders(recordings, slow, sample_rate=16000, allow_resampling=True)
    assert results["settings"]["sample_rate"] == 16000


def test_without_a_model_pulses_keep_the_voice_that_noise_loses():
    rows = score_baselines(pulse_train(110, 1.5), LogMel(), no_model=5)
    assert list(rows)[1:] == [
        "no model, 5 iterations", "no model, pulses at the pitch read, 5 iterations",
    ]  # fmt: skip
    recorded, noise, pulses = rows.values()
    assert recorded["voiced_ratio"] == 1 and recorded["voiced_share"] > 0.95
    assert noise["voiced_ratio"] < 0.7 and pulses["voiced_ratio"] > 0.9
    assert pulses["f0_error_cents"] < 20


def test_pitch_is_not_read_off_other_log_mels(folders):
    recordings, make = folders
    wide = make("wide", lambda wav: wav, 16000)
    results = score_folders(wide, wide, no_model=1)
    assert list(results["baselines"]) == ["recordings", "no model, 1 iteration"]
    assert "\nNo row from pulses: pitch is read off" in format_table(results)
    assert "No row" not in format_table(score_folders(recordings, recordings, no_model=1))


def test_folders_beside_are_rows_of_the_same_files(folders, tmp_path):
    recordings, make = folders
    good, bad = (
        make(name, lambda wav, gain=gain: wav + gain * torch.randn(len(wav)))
        for name, gain in (("good", 0.001), ("bad", 0.1))
    )
    alone = score_folders(recordings, bad, level_match=True)
    results = score_folders(recordings, good, level_match=True, beside=[bad])
    assert results["baselines"]["bad"]["files"] == alone["files"]
    assert results["baselines"]["bad"]["mean"] == alone["mean"]
    table = format_table(results)
    assert table.count("\nbad ") == 2 and table.count("\nrecordings ") == 1
    with pytest.raises(UserError, match="bad: the table has a row bad already"):
        score_folders(recordings, good, beside=[bad, bad])
    with pytest.raises(UserError, match="recordings: the table has a row recordings already"):
        score_folders(bad, good, beside=[recordings])
    (bad / "a.wav").unlink()
    with pytest.raises(UserError, match="bad has no audio file a, which the others have"):
        score_folders(recordings, good, beside=[bad])


def test_words_beside_those_of_recordings_and_of_no_model(folders, tmp_path, monkeypatch):
    class Deaf:
        """Mishears one word of what is quiet, and another of what is no copy."""

        def transcribe(self, wav, sample_rate):
            loud = float(wav.abs().max()) > 0.1
            return f"one two {'three' if loud else 'tree'} {'four' if known(wav) else 'for'}"

    recordings, make = folders
    quiet = make("quiet", lambda wav: 0.1 * wav)
    known_wavs = [
        read_wav(path) for folder in (recordings, quiet) for path in folder.rglob("*.wav")
    ]

    def known(wav):
        return any(torch.equal(wav, each) for each in known_wavs)

    (tmp_path / "metadata.csv").write_text("a|1 2 3 4|One, two, three, four.\n")
    monkeypatch.setattr(score, "open_recognizer", lambda name: Deaf())
    texts = tmp_path / "metadata.csv"
    results = score_folders(recordings, quiet, texts=texts, recognizer="deaf", no_model=2)
    rows = results["words"]["rows"]
    no_model = list(rows)[2]
    assert list(rows) == ["recordings", "no model, 2 iterations", no_model, "mean"]
    assert [row["word_error"] for row in rows.values()] == [0.0, 0.25, 0.25, 0.25]
    # The file without a text is not heard.
    assert rows["mean"]["words"] == 4 and list(results["words"]["files"]) == ["a"]
    assert rows["mean"]["word_error_above_recordings"] == 0.25
    assert rows["mean"]["word_error_above_no_model"] == 0.0
    assert results["words"]["files"]["a"]["mean"]["transcript"] == "one two tree four"
    lines = format_table(results).splitlines()
    (heading,) = [line for line in lines if "4 words, 1 file, by deaf" in line]
    assert lines[lines.index(heading) + 1].split()[:3] == ["recordings", "0.000", "0.000"]
    assert score_folders(recordings, quiet)["words"] is None


def test_bad_folders(folders, tmp_path, wav):
    recordings, _ = folders
    with pytest.raises(UserError, match="nowhere is not a folder"):
        score_folders(recordings, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no audio files$"):
        score_folders(recordings, tmp_path / "empty")
    with pytest.raises(UserError, match="holds no .flac files; choose others with --ext"):
        score_folders(recordings, recordings, ext="flac")
    write_wav(tmp_path / "foreign" / "z.wav", wav, RATE)
    with pytest.raises(UserError, match="no audio file of the same name.*has a, the second z"):
        score_folders(recordings, tmp_path / "foreign")
    soundfile.write(tmp_path / "foreign" / "z.aiff", wav.numpy(), RATE)
    with pytest.raises(UserError, match="z.aiff and .*z.wav have the same name; choose one with"):
        score_folders(tmp_path / "foreign", recordings)
    write_wav(tmp_path / "short" / "a.wav", wav[:1000], RATE)
    with pytest.raises(UserError, match="a.wav is too short to be scored: 1000 samples"):
        score_folders(recordings, tmp_path / "short")
