"""The demos from the generated corpus to their tables, with models too small to learn anything."""

import json
import math
import subprocess
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.audio.features import LogMel
from waveglow_vq.demo.run_demo import call
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.sound_quality import JUDGES

import pytest
import torch

from tests.recipes.command_line import load_script

SMALL = "{flow: {flows: 2, layers: 2, channels: 8, envelope: {order: 16}}, codebook_size: 16}"


@pytest.fixture(params=["LJSpeech", "VCTK"])
def demo(request):
    return load_script(request.param, "demo")


@pytest.fixture(params=[("LJSpeech", "demo"), ("VCTK", "demo"), ("LJSpeech", "demo_speech")])
def any_demo(request):
    return load_script(*request.param)


def run_small(demo, output, utterances, *options):
    """Runs all of it; returns what it printed."""
    pytest.importorskip("espeakng_loader", reason="needs pip install waveglow-vq[demo]")
    result = subprocess.run(
        [sys.executable, demo.__file__, "--output", str(output), "--minutes", "0.05"]
        + ["--utterances", str(utterances), "--train_option", f"preset={SMALL}"]
        + ["num_workers=0", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert (output / "figures.txt").read_text("utf-8").strip() in result.stdout
    assert (output / "spectrograms.png").stat().st_size > 1000
    assert (output / "harmonics.png").stat().st_size > 1000
    return result.stdout


@pytest.mark.slow
def test_the_codec_demo_leaves_speech_pictures_and_figures(tmp_path):
    run_small(load_script("LJSpeech", "demo"), tmp_path, 12, "--vocoder_minutes", "0.05")
    clips = json.loads((tmp_path / "run" / "manifests" / "test.json").read_text("utf-8"))
    for name in clips:
        assert (tmp_path / "recordings" / f"{name}.wav").is_file()
        assert (tmp_path / "reconstructions" / f"{name}.wav").is_file()
        assert (tmp_path / "vocoded" / f"{name}.wav").is_file()
    # What is judged, neither of the two has heard.
    trained = json.loads((tmp_path / "vocoder" / "manifests" / "train.json").read_text("utf-8"))
    assert trained and not clips.keys() & trained.keys()
    report = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    figures, sounds = report["figures"], report["sounds"]
    wanted = ["recordings", "no model, 20 iterations"]
    wanted += ["vocoder without iterations", "vocoder, 20 iterations", "codec's log-mel, no model"]
    wanted += ["codec without iterations", "codec, 20 iterations"]
    assert [row for row in sounds if row in wanted] == wanted
    distance = {row: sounds[row]["log_mel_l1"] for row in wanted}
    assert distance["vocoder, 20 iterations"] < distance["vocoder without iterations"]
    assert all(isinstance(value, float | int) for value in figures.values())
    assert "codes used of 16" in figures


@pytest.mark.slow
def test_the_speech_demo_says_what_it_was_not_trained_on(tmp_path):
    demo = load_script("LJSpeech", "demo_speech")
    printed = run_small(demo, tmp_path, 300, "--text_minutes", "0.05")
    said = printed.split("Spoken, not in the training data: ")[1].splitlines()[0]
    trained = json.loads((tmp_path / "run" / "manifests" / "train.json").read_text("utf-8"))
    assert said and said not in {entry["text"] for entry in trained.values()}
    assert (tmp_path / "speech.wav").stat().st_size > 1000
    assert (tmp_path / "attention.png").stat().st_size > 1000
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    judged, sounds = figures["utterances"], figures["sounds"]
    wanted = {"recordings", "no model, 20 iterations"}
    assert wanted | {"codec without iterations", "codec, 20 iterations"} <= sounds.keys()
    assert judged and set(judged).isdisjoint(trained)


def test_the_speech_demo_trains_with_options_that_its_recipes_have(tmp_path):
    from waveglow_vq.training.run.hyperparameters import load_hparams

    demo = load_script("LJSpeech", "demo_speech")
    for name, options in (("vq", demo.CODEC), ("text_to_codes", demo.TEXT)):
        yaml = "\n".join(f"{option}: {value}" for option, value in options.items())
        file = Path(demo.__file__).parent / "hparams" / f"{name}.yaml"
        hparams = load_hparams(str(file), f"{yaml}\noutput_folder: {tmp_path}")
        assert hparams["split_ratio"] == [98, 1, 1]


@pytest.mark.slow
def test_the_conversion_demo_converts_every_voice_to_every_other(tmp_path):
    run_small(load_script("VCTK", "demo"), tmp_path, 12)
    labels = ["DM001", "DM002", "DM003", "DM004"]
    report = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    pairs = [(row["source"], row["target"]) for row in report["pairs"]]
    assert sorted(pairs) == [(source, target) for source in labels for target in labels]
    recordings = {file.name for file in (tmp_path / "recordings").iterdir()}
    conversions = {file.name for file in (tmp_path / "conversions").iterdir()}
    sentences = {name.split("_")[1].split(".")[0] for name in recordings}
    assert len(recordings) == 4 * len(sentences) > 0
    assert conversions == {
        f"{source}_{sentence}_as_{target}.wav" for source, target in pairs for sentence in sentences
    }
    # Sentences that nobody said in training.
    trained = json.loads((tmp_path / "run" / "manifests" / "train.json").read_text("utf-8"))
    assert trained and not sentences & {name.split("_")[1] for name in trained}
    figures = report["figures"].items()
    assert all(math.isfinite(value) or "of these" in name for name, value in figures)


def tone(hertz, samples=8192):
    time = torch.arange(samples) / 22050
    return 0.1 * sum((2 * torch.pi * hertz * k * time).sin() / k for k in range(1, 12))


def test_the_figures_of_a_conversion_tell_success_from_failure():
    demo = load_script("VCTK", "demo")
    recordings = {("A", "1"): tone(100), ("B", "1"): tone(200)}
    noise = torch.randn(8192, generator=torch.Generator().manual_seed(0))
    conversions = {
        ("A", "B", "1"): tone(200),  # right
        ("B", "A", "1"): tone(200),  # nothing has changed
        ("A", "A", "1"): tone(100),
        ("B", "B", "1"): 0.05 * noise,
    }
    rows = {
        pair: demo.measure(*pair, ["1"], recordings, conversions)
        for pair in (("A", "B"), ("B", "A"), ("A", "A"), ("B", "B"))
    }
    right, unchanged, same, hissed = rows.values()
    assert right["f0_moved"] == pytest.approx(1, abs=0.02) and right["mcd_to_target"] < 0.01
    assert right["mcd_to_source"] == pytest.approx(right["mcd_between"], abs=0.01)
    assert unchanged["f0_moved"] == pytest.approx(0, abs=0.02) and unchanged["mcd_to_source"] < 0.01
    assert unchanged["mcd_to_target"] > 1 and same["mcd_to_target"] < 0.01
    assert same["f0_moved"] is None and hissed["mcd_to_target"] > 1
    figures = demo.summary(list(rows.values()))
    assert figures["pairs nearer to the target than to the source [%]"] == 50
    assert right["voiced"] > 0.9 and hissed["voiced"] < 0.1
    assert figures["pairs at least half as voiced as the recordings [%]"] == 100
    assert figures["pairs voiced within 10 % of the recordings [%]"] == 100
    partly = [right | {"voiced": 0.89}, unchanged | {"voiced": 1.09}, same, hissed]
    assert demo.summary(partly)["pairs voiced within 10 % of the recordings [%]"] == 50
    assert figures["of these, median F0 within 2 semitones of the target's [%]"] == 50
    text = demo.format_report(list(rows.values()), figures, ["1"])
    assert "A      B          100     200" in text and "100 %" in text and "own" in text


def test_the_sound_of_conversions_has_something_to_be_compared_with(monkeypatch):
    demo = load_script("VCTK", "demo")
    hear = {"distillmos": lambda _, wav: [3.0], "pesq": lambda *pair: [4.0]}
    for name, judge in JUDGES.items():
        modules = ("math",) if name in hear else ("no_such_module",)
        monkeypatch.setitem(JUDGES, name, judge._replace(modules=modules, hear=hear.get(name)))
    recordings = {(label, "1"): tone(100, 16384) for label in "AB"}
    conversions = {(a, b, "1"): tone(101, 16384) for a in "AB" for b in "AB"}
    given = recordings, conversions, LogMel(), 2, conversions
    sounds = demo.score_sounds("AB", "1", *given)
    rows = ["recordings"]
    for kind in ("own voice", "conversions"):
        rows += [f"{kind} without iterations", kind]
    assert [row for row in sounds if "no model" not in row] == rows and len(sounds) == 7
    assert sounds["conversions"] == {"voiced_share": 1.0, "distillmos": 3.0}
    heading, *rows = demo.format_sounds(sounds).splitlines()
    assert "MCD [dB] ↓" in heading and "PESQ-WB ↑" in heading
    assert rows[-1].split() == ["conversions"] + 4 * ["-"] + ["1.000"] + 3 * ["-"] + ["3.000"]


def test_a_demo_stops_where_a_step_fails(any_demo, tmp_path, capfd):
    with pytest.raises(SystemExit) as exit_info:
        any_demo.main(["--output", str(tmp_path), "--utterances", "0"])
    assert exit_info.value.code == 2
    errors = capfd.readouterr().err
    assert "--utterances is 0" in errors and "generating a corpus failed" in errors


def test_a_demo_trains_with_options_that_its_recipe_has(demo, tmp_path):
    from waveglow_vq.training.run.hyperparameters import load_hparams

    yaml = "\n".join(f"{name}: {value}" for name, value in demo.TRAINING.items())
    recipe = Path(demo.__file__).parent
    for name in {"LJSpeech": ("vq", "mel"), "VCTK": ("vq",)}[recipe.name]:
        file = recipe / "hparams" / f"{name}.yaml"
        hparams = load_hparams(str(file), f"{yaml}\noutput_folder: {tmp_path}")
        assert hparams["split_ratio"] == [80, 8, 12]


def test_a_step_that_is_killed_says_nothing_and_is_named():
    with pytest.raises(UserError, match="^reading failed: stopped by SIGKILL"):
        call("reading", ["-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(UserError, match="^reading failed; its message is above"):
        call("reading", ["-c", "raise SystemExit(3)"])


def test_too_few_sentences_for_a_test_are_an_error(tmp_path):
    demo = load_script("VCTK", "demo")
    folder = tmp_path / "run" / "manifests"
    folder.mkdir(parents=True)
    entries = {"DM001_001": {"wav": "{data_root}/a.wav"}, "DM002_002": {"wav": "{data_root}/b.wav"}}
    (folder / "test.json").write_text(json.dumps(entries))
    from waveglow_vq.errors import UserError

    with pytest.raises(UserError, match="--utterances: too few"):
        demo.find_clips(tmp_path, ["DM001", "DM002"])
    entries["DM002_001"] = {"wav": "{data_root}/c.wav"}
    (folder / "test.json").write_text(json.dumps(entries))
    clips = demo.find_clips(tmp_path, ["DM001", "DM002"])
    assert clips == {
        ("DM001", "001"): str(tmp_path / "audio" / "a.wav"),
        ("DM002", "001"): str(tmp_path / "audio" / "c.wav"),
    }


def test_the_pitch_of_a_whisper_does_not_count():
    demo = load_script("VCTK", "demo")
    row = {"source": "A", "target": "B", "mcd_to_target": 1.0, "mcd_to_source": 2.0}
    row |= {"source_f0": 200.0, "target_f0": 100.0, "f0_moved": 1.0, "mcd_between": 3.0}
    spoken = row | {"converted_f0": 101.0, "voiced": 0.9}
    whispered = row | {"converted_f0": 100.0, "voiced": 0.02}
    own = row | {"target": "A", "converted_f0": 200.0, "voiced": 1.0}
    figures = demo.summary([own, spoken, whispered, whispered, whispered])
    assert figures["pairs at least half as voiced as the recordings [%]"] == 25
    assert figures["of these, median F0 within 2 semitones of the target's [%]"] == 100
    lines = demo.format_report([own, whispered], figures, ["1"]).splitlines()
    (line,) = (line for line in lines if line.startswith("A      B"))
    assert "whisper " in line and "100 %" not in line
    assert any("whispers" in line for line in lines)
    assert "whispers" not in demo.format_report([own, spoken], figures, ["1"])
