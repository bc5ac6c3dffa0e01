import json

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.audio.io import write_wav
from waveglow_vq.evaluation.sound_quality import JUDGES
from waveglow_vq.evaluation.time_alignment import MAX_SHIFT_SAMPLES

import pytest
import soundfile
import torch

from tests.evaluation.signals import RATE, speech_like


@pytest.fixture
def folders(tmp_path):
    """A folder of two recordings, one of them in a subfolder, and a function that makes others."""

    def make(name, change):
        for number, path in enumerate(["a.wav", "sub/b.wav"]):
            write_wav(tmp_path / name / path, change(speech_like(0.3, seed=number)), RATE)
        return tmp_path / name

    return make("recordings", lambda wav: wav), make


def test_prints_a_table_and_writes_json(folders, tmp_path, run, refused):
    recordings, make = folders
    moved = make("moved", lambda wav: 0.5 * torch.cat([torch.zeros(37), wav]))
    figures = tmp_path / "results" / "scores.json"
    command = ["evaluate", recordings, moved, "--align", "--level_match", "--json", figures]
    status, out, error = run(*command)
    assert (status, error) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[0] == "file" and lines[0].split()[-2:] == ["delay", "gain"]
    assert [line.split()[0] for line in lines[1:4]] == ["a", "sub/b", "mean"]
    assert lines[1].split()[-2] == "37"
    results = json.loads(figures.read_text())
    assert results["files"]["a"]["delay_samples"] == 37
    # Rounding to 16 bits at half the level is all that is left.
    assert results["mean"]["spectral_convergence"] < 1e-3
    assert "scores.json exists" in refused(*command)
    assert run(*command, "--force")[0] == 0


def test_one_bad_file_does_not_end_the_folder(tmp_path, run):
    recordings, other, wav = tmp_path / "recordings", tmp_path / "other", speech_like(0.1)
    for path in (recordings / "sub" / "b.wav", other / "a.wav", other / "sub" / "c.wav"):
        write_wav(path, wav, RATE)
    (recordings / "a.wav").write_bytes(b"no sound")
    soundfile.write(other / "sub" / "b.flac", wav.numpy(), RATE)
    (other / "talk.m4a").touch()
    status, out, error = run("evaluate", recordings, other)
    assert status == 1
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["sub/b", "mean"]
    assert "left out: 1 file .m4a; ffmpeg -i talk.m4a talk.wav" in error
    assert f"error: {recordings / 'a.wav'} cannot be read" in error
    assert "1 of 2 files could not be scored" in error


def test_undefined_measures_are_null_in_json(folders, tmp_path, run):
    recordings, make = folders
    figures = tmp_path / "scores.json"
    run("evaluate", recordings, make("silent", torch.zeros_like), "--json", figures)
    assert "NaN" not in figures.read_text()
    assert json.loads(figures.read_text())["mean"]["log_f0_rmse"] is None


def test_judges_and_what_there_is_to_compare_with(folders, tmp_path, run, refused, monkeypatch):
    recordings, make = folders
    for name, judge in JUDGES.items():
        values = [len(name) + index for index in range(len(judge.measures))]
        modules = ("no_such_module",) if name == "pesq" else ("math",)

        def hear(reference, estimate, values=values):
            return [value - abs(reference - estimate).mean() for value in values]

        monkeypatch.setitem(JUDGES, name, judge._replace(modules=modules, hear=hear))
    noisy = make("noisy", lambda wav: (wav + 0.01 * torch.randn(len(wav))).repeat(4))
    make("recordings", lambda wav: wav.repeat(4))
    figures = tmp_path / "scores.json"
    other = make("other", lambda wav: wav.repeat(4))
    status, out, error = run(
        "evaluate", recordings, noisy, "--json", figures, "--no_model", 2, "--beside", other
    )
    assert (status, error) == (0, "")
    assert "Not judged by PESQ, which is not installed; 'make judges'" in out
    first, second = out.split("file ")[1:]
    assert "no model, 2 iterations" in first and "recordings " not in first
    heading, *rows = second.splitlines()
    assert heading.split()[0] == "voiced" and "  ViSQOL ↑" in heading and "V/UV F1 ↑" in heading
    recorded = next(row for row in rows if row.startswith("recordings"))
    assert recorded.split()[2:] == [
        "1.000",
        "0.000",
        "6.000",
        "6.000",
        "10.000",
        "7.000",
        "10.000",
        "11.000",
        "12.000",
    ]
    results = json.loads(figures.read_text())
    assert results["not_judged"] in out and results["settings"]["no_model"] == 2
    assert results["mean"]["visqol"] < 6 == results["baselines"]["recordings"]["mean"]["visqol"]
    assert list(results["baselines"])[0::3] == ["recordings", "other"]
    for row in results["baselines"].values():
        assert set(results["mean"]) <= set(row["files"]["sub/b"]) and row["mean"]["visqol"] <= 6
    # Where somebody chose, nothing is missing.
    out = run("evaluate", recordings, noisy, "--judges", "visqol", "dnsmos")[1]
    assert "F0 err. [cents] ↓  ViSQOL ↑  DNSMOS ↑\n" in out and "Not judged" not in out
    out = run("evaluate", recordings, noisy, "--judges", "none")[1]
    assert "\nrecordings" in out and "ViSQOL" not in out and "Not judged" not in out
    assert "PESQ needs the modules no_such" in refused(
        "evaluate", recordings, noisy, "--judges", "all"
    )


@pytest.mark.parametrize(
    "options,sentence",
    [
        (["--no_model", "-1"], "--no_model must be at least 0, got -1"),
        (["--judges", "ears"], "unknown judge ears; choose among pesq, visqol"),
        (["--max_shift", "-1"], "--max_shift must be at least 0, got -1"),
        (["--recognizer", "whisper"], "--recognizer needs --texts, what the recordings say"),
        (["--texts", "nowhere.csv"], "nowhere.csv cannot be read: No such file"),
        (["--sample_rate", "0"], "--sample_rate must be at least 1, got 0"),
        (["--json", "/dev/null/scores.json"], "--json: /dev/null/scores.json cannot be written"),
    ],
)
def test_bad_options(folders, run, options, sentence):
    status, _, error = run("evaluate", folders[0], folders[0], *options)
    assert status == 2 and f"error: {sentence}" in error


def test_help_says_the_default(run):
    assert f"(default: {MAX_SHIFT_SAMPLES})" in run("evaluate", "--help")[1]
