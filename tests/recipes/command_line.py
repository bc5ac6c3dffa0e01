"""Scripts of the recipes and their command lines for tests."""

import importlib.util
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def load_script(recipe, name):
    """Its module under a name of its own: scripts of different recipes have the same names."""
    file = RECIPES / recipe / f"{name}.py"
    specification = importlib.util.spec_from_file_location(f"{recipe}_{name}", file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def command_line(recipe, yaml, defaults, options):
    """What starts ``recipe/hparams/yaml`` on the CPU, with the options and those of the defaults
    that they do not name."""
    options = [str(option) for option in options]
    arguments = [str(recipe / "hparams" / f"{yaml}.yaml"), "--device", "cpu", "--noprogressbar"]
    for name, value in defaults.items():
        if f"--{name}" not in options:
            arguments += [f"--{name}", str(value)]
    return arguments + options


def folder_of(brain):
    return Path(brain.hparams.output_folder)


def log_lines(brain):
    return Path(brain.hparams.train_log).read_text("utf-8").splitlines()


def error_of(capsys, run, arguments):
    """The last line of a run that ends with an error."""
    with pytest.raises(SystemExit) as exit_info:
        run(arguments)
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]
