import importlib
import pydoc
import subprocess
import sys

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.moved import COMMANDS, MODULES, RECIPES

import pytest


@pytest.mark.parametrize("old, new", MODULES.items())
def test_old_names_give_what_is_in_the_new_modules(old, new):
    module = importlib.import_module(f"waveglow_vq.{new}")
    found = 0
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) == module.__name__:
            assert pydoc.locate(f"waveglow_vq.{old}.{name}") is value
            found += 1
    assert found


def test_other_names_are_as_unknown_as_before():
    with pytest.raises(ModuleNotFoundError, match="waveglow_vq.lobes.nothing"):
        importlib.import_module("waveglow_vq.lobes.nothing")
    with pytest.raises(ImportError, match="nothing"):
        exec("from waveglow_vq.lobes.waveglow import nothing")


@pytest.mark.parametrize("module, command", COMMANDS.items())
def test_what_was_run_as_a_module_names_its_command(module, command):
    run = subprocess.run(
        [sys.executable, "-m", f"waveglow_vq.{module}", "--help"], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr == f"error: python -m waveglow_vq.{module} is now: waveglow-vq {command}\n"
    assert run.stdout == ""


@pytest.mark.parametrize("module", RECIPES)
def test_a_script_of_an_earlier_recipe_says_what_replaced_it(module, tmp_path):
    (tmp_path / "train.py").write_text(f"import waveglow_vq.{module}")
    run = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("error: train.py is a script of an earlier version: copy")
