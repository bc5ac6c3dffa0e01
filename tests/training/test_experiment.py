from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.training.experiment import load_hparams, parse_arguments, worker_errors

import pytest
import torch
from speechbrain.utils.run_opts import RunOptions

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*/hparams/*.yaml"))


def test_passes_on_what_speechbrain_understands():
    file, run_opts, overrides = parse_arguments(
        ["vq.yaml", "--device", "cpu", "--size=tiny", "--preset", "{flow: {flows: 8}}"]
    )
    assert (file, run_opts["device"]) == ("vq.yaml", "cpu")
    assert overrides.split("\n") == ["size: tiny", "preset: {flow: {flows: 8}}"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--prec", "fp16"], "--precision"),
        (["--prec=fp16"], "--precision"),
        (["--data_folder=/x/run=1"], "/x/run=1"),
        (["--data_folder", "/x/run=1"], "/x/run=1"),
    ],
)
def test_refuses_what_speechbrain_would_get_wrong(arguments, named):
    with pytest.raises(UserError, match=named):
        parse_arguments(["vq.yaml", *arguments])


@pytest.fixture
def hparams_file(tmp_path):
    (tmp_path / "preset.yaml").write_text("flow:\n    flows: 6\nsize: tiny\n", "utf-8")
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "batch_size: 8\nsize: tiny\npreset: !include:preset.yaml\n    size: !ref <size>\n", "utf-8"
    )
    return str(file)


def test_overrides_reach_into_the_preset(hparams_file):
    hparams = load_hparams(hparams_file, "size: base\npreset: {flow: {flows: 2}}")
    assert hparams["preset"] == {"flow": {"flows": 2}, "size": "base"}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ("batchsize: 3", "batchsize is not an option.*batch_size"),
        ("preset: {flow: {flowz: 2}}", "flowz is not an option.*flows"),
        ("preset: {xyz: 2}", "xyz is not an option"),
        ("preset: {flow: 2", "cannot be read"),
    ],
)
def test_refuses_options_that_nothing_would_read(hparams_file, overrides, named):
    with pytest.raises(UserError, match=named):
        load_hparams(hparams_file, overrides)


def test_says_that_there_is_no_such_file(tmp_path):
    with pytest.raises(UserError, match="nothing.yaml"):
        load_hparams(str(tmp_path / "nothing.yaml"), "")


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parts[-3]}-{file.stem}")
def test_no_key_is_taken_for_a_run_option(file):
    # SpeechBrain's parser would read --prec as --precision and exit or ignore it.
    keys = [line.split(":")[0] for line in file.read_text("utf-8").splitlines()]
    keys = [key for key in keys if key[:1].isalpha() and " " not in key]
    assert "batch_size" in keys
    for option in RunOptions().as_dict():
        assert not [key for key in keys if option.startswith(key) and option != key]


class BrokenDataset(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UserError("a.wav: is truncated")


def test_errors_of_data_loader_processes_become_sentences_again():
    loader = torch.utils.data.DataLoader(BrokenDataset(), num_workers=1)
    with pytest.raises(UserError) as caught, worker_errors():
        list(loader)
    assert str(caught.value) == "a.wav: is truncated"
