import json

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.commands.judging import diagnose_conversion
from waveglow_vq.inference import VoiceConverter

import pytest
from speechbrain.dataio.encoder import CategoricalEncoder

from tests.evaluation.tiny_corpus import LABELS, tiny_model, write_corpus

pytest.importorskip("matplotlib", reason="needs pip install waveglow-vq[metrics]")


def test_the_table_and_the_files(tmp_path, monkeypatch, run, refused):
    audio, manifests = write_corpus(tmp_path)
    model, features = tiny_model()
    labels = CategoricalEncoder()
    labels.update_from_iterable(LABELS)
    export = VoiceConverter(
        modules={"model": model, "features": features},
        hparams={"speakers": labels, "sampling_sigma": 0.5},
    )
    monkeypatch.setattr(diagnose_conversion, "load_model", lambda *arguments: export)
    command = [
        "diagnose-conversion", "some_export", "--manifests", manifests, "--data_root", audio,
        "--output", tmp_path / "out", "--min_train_clips", "3", "--max_utterances", "2",
        "--max_likelihoods", "1", "--judges", "none", "--max_wrong", "all", "--seed", "7",
    ]  # fmt: skip
    status, printed, _ = run(*command)
    assert status == 0
    assert (tmp_path / "out" / "diagnostics.txt").read_text("utf-8").strip() in printed
    settings = json.loads((tmp_path / "out" / "diagnostics.json").read_text())["settings"]
    assert settings["sigma"] == 0.5 and settings["seed"] == 7 and settings["max_wrong"] is None
    assert settings["max_utterances"] == 2 and settings["use_judges"] is False
    error = refused(*command, "--mode", "latent_swap", "--min_train_clips", "99")
    assert error.startswith("error: min_train_clips")


def test_a_model_of_another_kind(speech_folders, tmp_path, refused):  # noqa: F811
    options = ["--manifests", tmp_path, "--data_root", tmp_path, "--output", tmp_path / "out"]
    error = refused("diagnose-conversion", speech_folders("plain"), *options)
    assert (
        "is an export for TextToSpeech, which diagnose-conversion cannot use; use waveglow-vq"
        in error
    )
