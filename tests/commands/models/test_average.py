import json
import os
import re
import shutil

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.audio.io import write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.export.folder import export_model
from waveglow_vq.inference import load_export
from waveglow_vq.training.average_run import average_run
from waveglow_vq.training.averaging import WeightAverage
from waveglow_vq.training.checkpointing import KillSafeCheckpointer

import pytest
import torch

from tests.inference.exports import flattened_recipe, speech_like, trained_model

LOSSES = {1: -1.0, 2: -4.0, 3: -2.0, 4: -3.0}


def write_run(folder, preset, averaged=False, **overrides):
    """A run of four epochs, whose parameters are those of a model plus its number's square; and one
    more checkpoint inside of the fifth. Returns the model as it was."""
    text = flattened_recipe(folder, preset, **overrides)
    (folder / "hyperparams.yaml").write_text(text, "utf-8")
    model, begun = trained_model(text), trained_model(text)
    recoverables = {"model": model}
    if averaged:
        recoverables["averaged"] = WeightAverage(model, decay=0.0)
    checkpointer = KillSafeCheckpointer(folder / "save", recoverables)
    for epoch in (1, 2, 3, 4, 5):
        with torch.no_grad():
            for own, first in zip(model.parameters(), begun.parameters(), strict=True):
                own.copy_(first + epoch**2 / 1000)
        if averaged:
            recoverables["averaged"].update_parameters(model)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 7.0
        meta = {"epoch": epoch, "valid_loss": LOSSES[epoch]} if epoch < 5 else {}
        checkpointer.save_checkpoint(meta=meta, end_of_epoch=epoch < 5)
    return begun


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, write_run(folder, "mel", averaged=True)


def check_weights(export_folder, begun, epochs, offset=0.0):
    shift = sum(epoch**2 for epoch in epochs) / len(epochs) / 1000 + offset
    weights = torch.load(export_folder / "model.ckpt", weights_only=True)
    for name, value in begun.named_parameters():
        assert torch.allclose(weights[name], value + shift, atol=1e-5), name


@pytest.mark.parametrize(
    ("options", "epochs", "offset"),
    [
        (["--last", "3"], [4, 3, 2], 0.0),
        (["--best", "2"], [2, 4], 0.0),
        (["--last", "2", "--name", "model"], [4, 3], 7.0),
        (["--last", "9"], [4, 3, 2, 1], 0.0),
    ],
)
def test_averages_and_exports(a_run, tmp_path, run, options, epochs, offset):
    folder, begun = a_run
    before = sorted(folder.rglob("*"))
    status, printed, _ = run("average", folder, *options, "--output", tmp_path / "export")
    assert status == 0
    check_weights(tmp_path / "export", begun, epochs, offset)
    assert type(load_export(tmp_path / "export", run_opts={"device": "cpu"})).__name__ == (
        "WaveGlowVocoder"
    )
    lines = [line.split()[:4] for line in printed.splitlines() if line.startswith("  epoch")]
    assert lines == [["epoch", str(n), "valid_loss", f"{LOSSES[n]:.4f}"] for n in epochs]
    assert ("has kept 4 checkpoints, not 9" in printed) == ("9" in options)
    assert str(tmp_path / "export") in printed
    # Nothing happens to the run.
    assert sorted(folder.rglob("*")) == before


def test_a_codec_keeps_its_counts(tmp_path):
    begun = write_run(tmp_path, "mel_vq")
    chosen, name, interface = average_run(tmp_path, 2, tmp_path / "export")
    assert (name, interface) == ("model", "SpeechCodec")
    check_weights(tmp_path / "export", begun, [4, 3])
    weights = torch.load(tmp_path / "export" / "model.ckpt", weights_only=True)
    newest = torch.load(chosen[0].paramfiles["model"], weights_only=True)
    for key, value in newest.items():
        assert weights[key].dtype == value.dtype
        if not value.is_floating_point():
            assert torch.equal(weights[key], value)


SPEAKERS = {"global_condition": "speaker", "max_speakers": 2, "speaker_channels": 8}


def test_a_converter_knows_its_speakers_from_manifests_or_export(tmp_path):
    begun = write_run(tmp_path, "mel_vq", **SPEAKERS)
    with pytest.raises(UserError, match="who the speakers are"):
        average_run(tmp_path, 2, tmp_path / "mean")
    text = (tmp_path / "hyperparams.yaml").read_text("utf-8")
    export_model(text, begun, tmp_path / "export", "VoiceConverter", ["p1", "p2"])
    assert average_run(tmp_path, 2, tmp_path / "mean")[2] == "VoiceConverter"
    assert load_export(tmp_path / "mean", run_opts={"device": "cpu"}).speakers == ["p1", "p2"]
    entry = {"log_f0_mean": 5.0, "log_f0_std": 0.2, "train_clips": 3}
    (tmp_path / "manifests").mkdir()
    speakers = json.dumps({"p8": entry, "p9": entry})
    (tmp_path / "manifests" / "speakers.json").write_text(speakers, "utf-8")
    average_run(tmp_path, 2, tmp_path / "mean")
    assert load_export(tmp_path / "mean", run_opts={"device": "cpu"}).speakers == ["p8", "p9"]
    check_weights(tmp_path / "mean", begun, [4, 3])


def test_an_encoder_of_speakers_hears_the_training_data_again(tmp_path):
    write_run(tmp_path, "mel_vq", speaker_source="encoder", **SPEAKERS)
    entry = {"log_f0_mean": 5.0, "log_f0_std": 0.2, "train_clips": 1}
    audio, manifests = tmp_path / "audio", tmp_path / "manifests"
    for folder in (audio, manifests):
        folder.mkdir()
    recording = audio / "a.wav"
    write_wav(recording, speech_like(5000), 22050)
    (manifests / "speakers.json").write_text(json.dumps({"p1": entry, "p2": entry}), "utf-8")
    with pytest.raises(UserError, match="manifest folder is missing"):
        average_run(tmp_path, 2, tmp_path / "mean")
    clip = {"wav": "{data_root}/a.wav", "num_samples": 5000}
    data = {f"{who}_1": {**clip, "speaker": who} for who in ("p1", "p2")}
    (manifests / "train.json").write_text(json.dumps(data), "utf-8")
    with open(tmp_path / "hyperparams.yaml", "a", encoding="utf-8") as file:
        file.write(f"\naudio_folder: {audio}\nmanifest_folder: null\n")
    average_run(tmp_path, 2, tmp_path / "mean")
    mean = load_export(tmp_path / "mean", run_opts={"device": "cpu"}).mods
    mel = mean.features(load_export(tmp_path / "mean").load_audio(recording)[None])
    with torch.no_grad():
        vector = mean.model.speakers(reference=mel)[0]
    assert torch.allclose(mean.model.speakers.centroids[0], vector, atol=1e-4)
    assert not torch.allclose(vector, torch.zeros(()), atol=1e-3)


def test_what_cannot_be_averaged(tmp_path, a_run, run, refused):
    output = tmp_path / "export"
    with pytest.raises(UserError, match="not the output folder of a run"):
        average_run(tmp_path / "nowhere", 2, output)
    with pytest.raises(UserError, match="at least 1"):
        average_run(a_run[0], 0, output)
    folder = tmp_path / "run"
    shutil.copytree(a_run[0], folder)
    command = ["average", folder, "--last", "2", "--output", output]
    assert run(*command, "--best", "2")[0] == 2
    saved = sorted((folder / "save").iterdir())
    (saved[3] / "averaged.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=re.escape(f"{saved[3]}/averaged.ckpt cannot be read")):
        average_run(folder, 2, output)
    (saved[3] / "averaged.ckpt").unlink()
    with pytest.raises(UserError, match="averaged.ckpt does not exist"):
        average_run(folder, 2, output, name="averaged")
    text = flattened_recipe(tmp_path, "mel", use_film=True)
    (folder / "hyperparams.yaml").write_text(text, "utf-8")
    with pytest.raises(UserError, match="another model than .*hyperparams.yaml describes"):
        average_run(folder, 2, output)
    shutil.rmtree(folder / "save")
    text = text.replace(os.fspath(tmp_path), os.fspath(tmp_path / "gone"))
    (folder / "hyperparams.yaml").write_text(text, "utf-8")
    assert "holds no checkpoints" in refused(*command)
    (folder / "save").mkdir()
    with pytest.raises(UserError, match="no checkpoints to average"):
        average_run(folder, 2, output)
    assert not output.exists()
