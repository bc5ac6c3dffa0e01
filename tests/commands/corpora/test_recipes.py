import filecmp
import os
from pathlib import Path

from waveglow_vq.commands.corpora import recipes

import pytest

from tests.commands.conftest import tree

ROOT = Path(__file__).resolve().parents[3]


def test_copies_what_training_needs_and_says_what_is_next(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, error = run("recipes", "to train")
    copy = tmp_path / "to train"
    copied = tree(copy)
    assert (status, error) == (0, "") and out.startswith(f"to train: {len(copied)} files in ")
    assert "\n  cd 'to train/recipes/LJSpeech'\n  python train.py hparams/mel.yaml " in out
    assert {name.split("/")[0] for name in copied} == {"recipes", "hparams"}
    assert all(filecmp.cmp(copy / name, ROOT / name, shallow=False) for name in copied)
    # Presets are found from where they are now.
    for yaml in copy.glob("recipes/*/hparams/*.yaml"):
        for line in yaml.read_text("utf-8").splitlines():
            if "!include:" in line:
                assert (yaml.parent / line.split("!include:")[1].split()[0]).is_file(), line


def test_nothing_that_belongs_to_them_is_left_out():
    """Whoever adds another kind of file adds it to the patterns too."""
    there = set()
    for folder in recipes.FILES:
        for file in (ROOT / folder).rglob("*"):
            inside = file.relative_to(ROOT)
            left_by_runs = {"__pycache__", "results", "demo_output", ".ipynb_checkpoints"}
            if file.is_file() and not left_by_runs & set(inside.parts):
                there.add(inside.as_posix())
    packed = [file for name in recipes.FILES for file in recipes.files_of(ROOT, name)]
    assert {file.relative_to(ROOT).as_posix() for file in packed} == there


@pytest.mark.parametrize("taken", ["recipes", "hparams"])
def test_overwrites_nothing(refused, tmp_path, taken):
    (tmp_path / taken).mkdir()
    assert f"{tmp_path / taken} already exists" in refused("recipes", tmp_path)
    assert os.listdir(tmp_path) == [taken]


def test_leaves_nothing_of_what_could_not_be_written(refused, tmp_path, monkeypatch):
    copyfile, copied = recipes.shutil.copyfile, []

    def full(source, target):
        if len(copied) == 3:
            raise OSError(28, "No space left on device")
        copied.append(copyfile(source, target))

    monkeypatch.setattr(recipes.shutil, "copyfile", full)
    assert "cannot be written: No space left on device" in refused("recipes", tmp_path)
    assert len(copied) == 3 and os.listdir(tmp_path) == []


def test_an_installation_has_its_own(monkeypatch, tmp_path):
    """As a wheel has them: within the package, whatever lies beside it."""
    package = tmp_path / "waveglow_vq"
    for place in (package, tmp_path):
        (place / "recipes").mkdir(parents=True)
        (place / "hparams").mkdir()
        (place / "hparams" / "mel.yaml").touch()
    monkeypatch.setattr(recipes.waveglow_vq, "__file__", str(package / "__init__.py"))
    assert recipes.recipes_folder() == package
