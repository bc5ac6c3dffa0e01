"""A run with --debug shows that everything works, and leaves what is there as it is."""

import atexit
import hashlib
import logging
from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.training.run.debugging import _replace_folders

import pytest

from tests.recipes.ljspeech_runs import SMALL_VQ, run


def contents(folder):
    """Path: checksum and time of all that a folder holds."""
    return {
        path: (path.stat().st_mtime_ns, path.is_file() and hashlib.md5(path.read_bytes()).digest())
        for path in folder.rglob("*")
    }


def test_a_finished_run_stays_what_it_is(command, monkeypatch, tmp_path, manifests, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = command("vq", "--number_of_epochs", 1, "--test_samples", 1, preset=SMALL_VQ)
    finished = run(arguments)
    for handler in [h for h in logging.getLogger().handlers if type(h) is logging.FileHandler]:
        logging.getLogger().removeHandler(handler)  # the next run is one of another process
    before = contents(tmp_path) | contents(manifests)
    capsys.readouterr()
    brain = run([*arguments, "--debug"])
    assert contents(tmp_path) | contents(manifests) == before
    folder = Path(brain.hparams.output_folder)
    assert folder != Path(finished.hparams.output_folder)
    printed = capsys.readouterr().out
    assert f"--debug: this run writes only to {folder}" in printed
    assert printed.splitlines()[-1].startswith("--debug: the whole run works")
    # Two batches, as a run from the start, and all of its end.
    assert brain.hparams.schedule.steps == 2
    for name in ("export/model.ckpt", "test_results.json", "train_log.txt", "log.txt", "save"):
        assert (folder / name).exists(), name
    assert len(list((folder / "samples").glob("*.wav"))) == 2
    # Another model is refused before anything is replaced.
    other = command("vq", "--number_of_epochs", 1, preset=SMALL_VQ.replace("16", "17"))
    with pytest.raises(SystemExit):
        run(other)
    said = capsys.readouterr().err
    assert f"error: {finished.hparams.output_folder} holds a run of another model: " in said
    with pytest.raises(SystemExit):
        run([str(Path(finished.hparams.output_folder) / "export" / "hyperparams.yaml")])
    assert "belongs to an export" in capsys.readouterr().err
    assert contents(tmp_path) | contents(manifests) == before
    # What the run has saved names its folders.
    saved = Path(finished.hparams.output_folder) / "hyperparams.yaml"
    with pytest.raises(SystemExit):
        run([str(saved), "--debug"])
    assert "--debug: " in (said := capsys.readouterr().err) and "the recipe's YAML" in said
    assert contents(tmp_path) | contents(manifests) == before


@pytest.fixture
def replacements(monkeypatch, tmp_path):
    """Those of a run, and what is done in the end of the program."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def replace(keep=False, test_only=False, **hparams):
        hparams = {"manifest_folder": tmp_path / "manifests", **hparams}
        options = {**hparams, "debug_persistently": keep, "test_only": test_only}
        ends = []
        with monkeypatch.context() as patch:
            patch.setattr(atexit, "register", lambda *call, **more: ends.append((call, more)))
            replaced = _replace_folders(hparams, options)
        (folder,) = tmp_path.glob("waveglow-vq-debug-*")
        assert replaced["output_folder"] == str(folder)
        for (function, *arguments), more in ends:
            function(*arguments, **more)
        return replaced, folder

    return replace


@pytest.mark.parametrize("keep", [False, True])
def test_its_folder_is_removed_unless_it_is_to_be_kept(replacements, keep):
    _, folder = replacements(keep=keep)
    assert folder.exists() == keep


def test_what_is_prepared_is_read_where_it_lies(replacements, tmp_path):
    (tmp_path / "manifests").mkdir()
    for name in ("train", "valid", "test"):
        (tmp_path / "manifests" / f"{name}.json").touch()
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes" / "a.wvq").write_text("codes")
    (tmp_path / "pieces.model").write_text("tokens")
    replaced, folder = replacements(
        keep=True,
        audio_folder="audio",
        codes_folder=str(tmp_path / "codes"),
        tokenizer_file=str(tmp_path / "pieces.model"),
    )
    assert replaced["skip_prep"] is True
    assert replaced["manifest_folder"] == str(tmp_path / "manifests")
    assert "audio_folder" not in replaced
    # What may must be completed, in a copy.
    assert replaced["codes_folder"] == str(folder / "codes")
    assert (folder / "codes" / "a.wvq").read_text() == "codes"
    assert (folder / Path(replaced["tokenizer_file"]).name).read_text() == "tokens"


def test_what_is_not_prepared_is_prepared_elsewhere(replacements, tmp_path):
    replaced, folder = replacements(
        audio_folder="audio", shards_folder=str(tmp_path / "shards"), codes_folder="codes"
    )
    assert "skip_prep" not in replaced
    for name in ("manifest_folder", "audio_folder", "shards_folder", "codes_folder", "save_folder"):
        assert Path(replaced[name]).parent == folder, name


def test_the_test_alone_is_of_the_run_that_is_there(replacements):
    replaced, _ = replacements(test_only=True)
    assert "save_folder" not in replaced
