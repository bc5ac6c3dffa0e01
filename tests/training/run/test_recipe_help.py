"""--help of a recipe, and what is said of an option that there is not."""

import subprocess
import sys
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.errors import UserError
from waveglow_vq.training.run.hyperparameters import load_hparams, parse_arguments
from waveglow_vq.training.run.recipe_help import RUN_OPTIONS, help_text, read_options

import pytest
from speechbrain.utils.run_opts import HELP_TEXTS

RECIPES = Path(__file__).resolve().parents[3] / "recipes"
FILES = sorted(RECIPES.glob("*/hparams/*.yaml"))

RECIPE = """\
# A file has a head.

# ---- Paths
output_folder: !ref results/<size>/x  # where all goes
__set_seed: !apply:os.getcwd []            # of nobody's concern

# ---- Model
# How large it is.
size: small     # tiny | small
mix: [1, 2]
preset: !include:presets/inner.yaml
    size: !ref <size>
model: !ref <preset[model]>                # passed on
checksum: null  # filled in by the run

# ---- Objects
modules:
    model: !ref <model>
optimizer: !new:builtins.dict
    rate: 3     # not for people
"""
INNER = """\
size: tiny      # tiny | small
# Its network.
width: !apply:waveglow_vq.utils.options.choose
    - size
    - !ref <size>
    - {tiny: 2, small: 4}
count: !apply:waveglow_vq.utils.options.choose
    - size
    - !ref <size>
    - {tiny: 0, small: !ref <width>}
flow:
    depth: 3    # layers
model: !new:builtins.dict
    width: !ref <width>
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "inner.yaml").write_text(INNER)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return str(tmp_path / "recipe.yaml")


def test_the_options_are_those_that_people_set(recipe):
    assert [tuple(option) for option in read_options(recipe)] == [
        (("output_folder",), "results/<size>/x", "where all goes", ["\nPaths"]),
        (("size",), "small", "tiny | small", ["\nModel", "How large it is."]),
        (("mix",), "[1, 2]", "", []),
        (("preset", "width"), "by size", "tiny 2, small 4", ["Its network."]),
        (("preset", "flow", "depth"), "3", "layers", []),
    ]


def test_help(recipe):
    lines = help_text(recipe, "Trains.\n\nAuthors\n * somebody").splitlines()
    assert lines[0].endswith(f"{recipe} [--OPTION VALUE ...]") and lines[2:4] == ["Trains.", ""]
    assert "Paths" in lines and "  (How large it is.)" in lines
    assert "  --size small                      tiny | small" in lines
    assert "  {flow: {depth: 3}}                layers" in lines
    assert '  --preset "{width: by size, flow: {depth: 3}}"' in lines
    assert not [line for line in lines if "--model" in line or "rate: 3" in line]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parts[-3]}-{file.stem}")
def test_every_option_of_the_recipes_is_one(file):
    options = read_options(file)
    names = [option.keys for option in options]
    data = "data_folders" if file.stem == "mel_universal" else "data_folder"
    assert {(data,), ("output_folder",), ("learning_rate",), ("size",)} <= set(names)
    assert len(set(names)) == len(names)
    assert not {"model", "features", "modules", "opt_class", "schedule"} & {n[-1] for n in names}
    assert any(len(keys) > 1 for keys in names)
    text = help_text(file)
    assert all(name in text for *_, name in names)


def test_the_run_options_are_speechbrains():
    assert RUN_OPTIONS.keys() <= HELP_TEXTS.keys()


def test_help_does_not_wait_for_torch():
    """Nor needs it: what is asked for is answered before."""
    script = RECIPES / "VCTK" / "train.py"
    code = (
        f"import runpy, sys; sys.argv = [{str(script)!r}, '-h']; sys.modules['torch'] = None; "
        f"runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "voice converter" in done.stdout and "vq_wav.yaml --help" in done.stdout
    assert "Authors" not in done.stdout


def test_help_from_within(recipe, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse_arguments([recipe, "--size", "tiny", "--help"])
    assert exit_info.value.code == 0 and "{flow: {depth: 3}}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_info:
        parse_arguments(["-h", "missing.yaml"])
    assert exit_info.value.code == 2 and "missing.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            "depth: 5",
            r'depth is not an option of .*recipe.yaml, but .*--preset "{flow: {depth: 5}}"',
        ),
        ("dept: 5", r'did you mean depth: --preset "{flow: {depth: 5}}"\?'),
        ("siz: tiny", r"did you mean --size\?"),
        ("devise: cpu", r"did you mean --device\?"),
        ("preset: {depth: 5}", r'depth is not an option of preset .*--preset "{flow: {depth: 5}}"'),
        ("preset: {flow: {dept: 5}}", r'depth: --preset "{flow: {depth: 5}}"'),
        ("preset: {flow: {with: 5}}", r'did you mean width: --preset "{width: 5}"'),
        ("preset: {mix: [3]}", "mix is not an option of preset .*, but within it: --mix"),
        ("preset: small", r'preset: .small. is no mapping of options; .*--preset "{NAME: VALUE}"'),
        ("preset: {flow: 3}", r'flow: 3 is no mapping of options; give --preset "{flow: {NAME: '),
        ("zebra: 5", "zebra is not an option of .*; --help lists"),
        ("rate: 5", "--help lists"),
    ],
)
def test_an_unknown_option_is_looked_for_in_the_presets(recipe, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        load_hparams(recipe, overrides)
