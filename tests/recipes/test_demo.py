"""The demo from the generated corpus to its table, with a model too small to learn anything."""

import json
import subprocess
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)

import demo
import pytest

DEMO = Path(demo.__file__)


@pytest.mark.slow
def test_the_demo_leaves_speech_pictures_and_figures(tmp_path):
    pytest.importorskip("espeakng_loader", reason="needs pip install waveglow-vq[demo]")
    small = "{flow: {flows: 2, layers: 2, channels: 8, envelope: {order: 16}}, codebook_size: 16}"
    result = subprocess.run(
        [sys.executable, str(DEMO), "--output", str(tmp_path), "--minutes", "0.05"]
        + ["--utterances", "12", "--train_option", f"preset={small}", "num_workers=0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    clips = json.loads((tmp_path / "run" / "manifests" / "test.json").read_text("utf-8"))
    for name in clips:
        assert (tmp_path / "recordings" / f"{name}.wav").is_file()
        assert (tmp_path / "reconstructions" / f"{name}.wav").is_file()
    assert (tmp_path / "spectrograms.png").stat().st_size > 1000
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))["figures"]
    assert all(isinstance(value, float | int) for value in figures.values())
    assert (tmp_path / "figures.txt").read_text("utf-8").strip() in result.stdout
    assert "codes used of 16" in figures


def test_the_demo_stops_where_a_step_fails(tmp_path, capfd):
    with pytest.raises(SystemExit) as exit_info:
        demo.main(["--output", str(tmp_path), "--utterances", "0"])
    assert exit_info.value.code == 2
    errors = capfd.readouterr().err
    assert "--utterances is 0" in errors and "generating a corpus failed" in errors


def test_the_demo_trains_with_options_that_the_recipe_has(tmp_path):
    from waveglow_vq.training.experiment import load_hparams

    yaml = "\n".join(f"{name}: {value}" for name, value in demo.TRAINING.items())
    file = DEMO.parent / "hparams" / "vq.yaml"
    hparams = load_hparams(str(file), f"{yaml}\noutput_folder: {tmp_path}")
    assert hparams["split_ratio"] == [80, 8, 12]
