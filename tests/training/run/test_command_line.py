"""Options as they were typed, through SpeechBrain's YAML and back."""

import os

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.errors import UserError
from waveglow_vq.training.run.command_line import typed_overrides

import pytest
from hyperpyyaml import load_hyperpyyaml, resolve_references

RECIPE = """\
seed: 7
size: small
rate: 0.1
average: True
limit: null # a number
mark: null # a text
data_folder: null
codec: null
additional_folders: []
use_speakers: null
unseen_speakers: 0
output_folder: !ref results/<size>/<seed>
save_folder: !ref <output_folder>/save
checkpoints: !new:builtins.dict
    folder: !ref <save_folder>
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def read(recipe, **given):
    """What a recipe makes of its options, and what it makes of the YAML that its run saves."""
    overrides = typed_overrides(recipe, given)
    with open(recipe) as file:
        flat = resolve_references(file, overrides).read()
    with open(recipe) as file:
        hparams = load_hyperpyyaml(file, overrides)
    saved = recipe.with_name("hyperparams.yaml")
    saved.write_text(flat, "utf-8")
    with open(saved) as file:
        assert load_hyperpyyaml(file, typed_overrides(saved, {})) == hparams
    return hparams


# Numbers of several kinds, dates, times, truth, nothing, and what YAML gives a meaning.
ODD = "19990101 007 2e5 1_000 0x1F 0o17 12:30:00 2020-02-30 2020-02-28 yes Off null .5 +3 - ? | > "
ODD += ".inf .nan << = [a,b] {c} *d &e !f %g @h `i` 'j' k=l=m n:o #p (4,5) C:\\new\\x... ... é"


@pytest.mark.parametrize("name", [*ODD.split(), "a #2", "b: c", " d ", "- e", 'the "f"', "g's"])
def test_a_folder_is_what_was_typed(recipe, name):
    hparams = read(recipe, output_folder=name, data_folder=f"/{name}")
    assert hparams["output_folder"] == name and hparams["data_folder"] == f"/{name}"
    assert hparams["save_folder"] == hparams["checkpoints"]["folder"] == f"{name}/save"


def test_long_names_are_not_broken(recipe):
    name = "word " * 70 + "end"
    assert read(recipe, output_folder=name)["save_folder"] == f"{name}/save"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "--output_folder is empty"),
        ("runs/<seed>", "angle brackets"),
        ("two  spaces", "two spaces"),
        ("a\nb", "control characters"),
        (os.fsdecode(b"r\xe9sultats"), "is not UTF-8"),
    ],
)
def test_what_cannot_be_written_down_is_refused(recipe, name, sentence):
    with pytest.raises(UserError, match=sentence):
        typed_overrides(recipe, {"output_folder": name})


def test_other_values_are_of_the_kind_that_they_have_in_the_yaml(recipe):
    given = {"seed": "0012", "rate": "1e-3", "average": "false", "limit": "30", "size": "1e3"}
    hparams = read(recipe, **given)
    assert (hparams["seed"], hparams["rate"], hparams["average"]) == (12, 0.001, False)
    assert (hparams["limit"], hparams["size"]) == (30, "1e3")
    assert hparams["output_folder"] == "results/1e3/12"
    # What may be left open takes null, and a text of any signs.
    assert read(recipe, limit="null", data_folder="null", codec="null")["codec"] is None
    for mark in ("?", "!", ".", "", "- ", "#", "{"):
        assert read(recipe, mark=mark)["mark"] == mark


def test_lists_of_names(recipe):
    hparams = read(recipe, use_speakers="[0010, no, p225]", additional_folders="[~/1e3, b c]")
    assert hparams["use_speakers"] == ["0010", "no", "p225"]
    assert hparams["additional_folders"] == [os.path.expanduser("~/1e3"), "b c"]
    assert read(recipe, use_speakers="0x7")["use_speakers"] == ["0x7"]
    assert read(recipe, unseen_speakers="3")["unseen_speakers"] == 3
    assert read(recipe, unseen_speakers="[12]")["unseen_speakers"] == ["12"]
    with pytest.raises(UserError, match="--use_speakers .* a list of names"):
        typed_overrides(recipe, {"use_speakers": "[a, {b: c}]"})


def test_the_home_folder(recipe, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    hparams = read(recipe, output_folder="~", codec="~/codec", data_folder="~nobody-at-all/x")
    assert hparams["save_folder"] == "/home/someone/save"
    assert hparams["codec"] == "/home/someone/codec"
    assert hparams["data_folder"] == "~nobody-at-all/x"
    text = RECIPE.replace("data_folder: null", "data_folder: ~/corpus").replace("results", "~/runs")
    recipe.write_text(text)
    hparams = read(recipe)
    assert hparams["data_folder"] == "/home/someone/corpus"
    assert hparams["save_folder"] == "/home/someone/runs/small/7/save"


def test_a_yaml_of_ones_own_may_hold_paths_that_look_like_something_else(recipe):
    recipe.write_text("output_folder: 0010\ndata_folder: 2020-01-01\nsave_folder: no\n")
    hparams = load_hyperpyyaml(recipe.read_text(), typed_overrides(recipe, {}))
    assert hparams == {"output_folder": "0010", "data_folder": "2020-01-01", "save_folder": "no"}


def test_what_a_run_has_saved_is_repeated_as_it_was(recipe):
    """Its values stand wherever they are used: another --output_folder would not move the
    checkpoints."""
    saved = recipe.with_name("hyperparams.yaml")
    saved.write_text("# Generated 2020-01-01 from:\n# recipe.yaml\n" + recipe.read_text())
    assert typed_overrides(saved, {"data_folder": "moved"}) == 'data_folder: "moved"'
    with pytest.raises(UserError, match="--output_folder: .*hyperparams.yaml was saved by a run"):
        typed_overrides(saved, {"data_folder": "moved", "output_folder": "other"})
