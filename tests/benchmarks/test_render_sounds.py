import shutil

from waveglow_vq.audio.io import read_wav_and_rate, write_wav
from waveglow_vq.errors import UserError

import pytest
import torch

pytest.importorskip("matplotlib", reason="needs pip install waveglow-vq[metrics]")

from benchmarks import run  # noqa: E402
from benchmarks.sounds import render_sounds  # noqa: E402
from tests.docs.pages import links  # noqa: E402
from tests.inference.exports import export_tiny, voiced_speech_like  # noqa: E402


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """An untrained vocoder of three iterations, and two clips."""
    folder = tmp_path_factory.mktemp("sounds")
    export, _ = export_tiny(folder / "run", "mel")
    header = export / "hyperparams.yaml"
    text = header.read_text("utf-8")
    assert "\nrefine: 0 " in text
    header.write_text(text.replace("\nrefine: 0 ", "\nrefine: 3 "), "utf-8")
    for name, samples in (("b", 12000), ("a", 9000)):
        write_wav(folder / f"clips/{name}.wav", voiced_speech_like(samples), 22050)
    (folder / "clips" / "b.txt").write_text("Somebody: some words.\n")
    return folder


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(render_sounds, "installed", list)
    page = tmp_path / "sounds.md"
    old = "\n\n[old](sounds/old.ogg)\n\n"
    page.write_text("# Sounds\n\n" + old.join(render_sounds.MARKS) + "\n\nThe end.\n")
    (tmp_path / "sounds").mkdir()
    for name in ("old.ogg", "kept.txt"):
        (tmp_path / "sounds" / name).write_text("old")
    return page


def render(material, page):
    options = [str(material / "run" / "export"), str(material / "clips"), "--page", str(page)]
    return run.main(["--only", "sounds", *options])


def test_all_is_rendered_anew(material, page):
    report = render(material, page)
    text = page.read_text("utf-8")
    assert text.startswith("# Sounds\n\n<!--") and text.endswith("-->\n\nThe end.\n")
    assert text.index("\n## a\n") < text.index("\n## Somebody: some words.\n")
    files = [page.parent / link for link in links(page)]
    assert len(files) == 2 * (3 + 1) and len(set(files)) == 8
    assert {*files, page.parent / "sounds" / "kept.txt"} == set((page.parent / "sounds").iterdir())
    for file in files:
        if file.suffix == ".png":
            assert 1000 < file.stat().st_size <= 120_000
            continue
        wav, rate = read_wav_and_rate(file)
        assert rate == 22050 and len(wav) == (12000 if file.name.startswith("b") else 9000)
    assert sum(f.stat().st_size for f in files if f.suffix == ".ogg") == report["bytes"] <= 300_000
    rows = report["scores"]["a"]
    wanted = ["recording", "no model, 3 iterations", "the model without iterations"]
    assert [row for row in rows if row in wanted] == wanted and list(rows)[-1] == (
        "the model, 3 iterations"
    )
    distance = {row: scores["log_mel_l1"] for row, scores in rows.items()}
    assert distance["recording"] == 0 < distance["the model, 3 iterations"]
    assert distance["the model, 3 iterations"] < distance["the model without iterations"]
    assert f"| the model, 3 iterations | {distance['the model, 3 iterations']:.3g} |" in text
    # Once more: the same page.
    render(material, page)
    assert page.read_text("utf-8") == text


def test_what_does_not_fit_is_said_before_anything_is_lost(material, page, capsys):
    text = page.read_text("utf-8")
    page.write_text(text.replace(render_sounds.MARKS[1], ""))
    with pytest.raises(SystemExit):
        render(material, page)
    assert "needs one line" in capsys.readouterr().err
    page.write_text(text)
    shutil.copytree(material / "run" / "export", page.parent / "export")
    (page.parent / "clips").mkdir()
    with pytest.raises(SystemExit):
        run.main(["--only", "sounds", str(page.parent / "export"), str(page.parent / "clips"),
                  "--page", str(page)])  # fmt: skip
    assert "no sound files" in capsys.readouterr().err
    assert (page.parent / "sounds" / "old.ogg").exists() and page.read_text("utf-8") == text


def test_sounds_are_as_good_as_fits(tmp_path, monkeypatch):
    sounds = {name: voiced_speech_like(22050, seed=seed) for seed, name in enumerate("ab")}
    best = render_sounds.write_sounds(tmp_path, sounds, 22050)
    monkeypatch.setattr(render_sounds, "MOST_BYTES", best - 1)
    assert 0 < render_sounds.write_sounds(tmp_path, sounds, 22050) < best
    monkeypatch.setattr(render_sounds, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="give fewer clips"):
        render_sounds.write_sounds(tmp_path, {"noise": torch.randn(22050)}, 22050)
