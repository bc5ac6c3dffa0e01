import copy
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.export.folder import export_hparams, export_model, interface_of
from waveglow_vq.inference import SpeechCodec, WaveGlowVocoder, load_export
from waveglow_vq.lobes.source.pitch_reader import save_pitch_reader

import pytest
import torch
from speechbrain.dataio.encoder import CategoricalEncoder

from tests.inference.exports import (
    INTERFACES,
    export_tiny,
    flattened_recipe,
    speech_like,
    trained_model,
)

ROOT = Path(__file__).resolve().parents[2]
CPU = {"device": "cpu"}
FEATURES = LogMel()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Hyperparameters and model of a finished run."""
    text = flattened_recipe(tmp_path_factory.mktemp("run"), "mel")
    return text, trained_model(text)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("mel", {}),
        ("mel", {"condition_geometry": "sample", "prior": "white", "use_film": True}),
        ("mel_vq", {"codebook_update": "ema", "code_stride": 3}),
        ("mel_vq", {"estimator": "rotation", "use_weight_norm": False}),
        ("wav_vq", {}),
        ("wav_vq", {"prior": "envelope", "condition_geometry": "group"}),
    ],
)
def test_what_is_loaded_is_what_was_trained(tmp_path, preset, overrides):
    folder, model = export_tiny(tmp_path, preset, **overrides)
    reader = ["pitch_reader.safetensors"] if preset != "wav_vq" else []
    assert sorted(contents(folder)) == ["hyperparams.yaml", "model.ckpt", *reader]
    loaded = load_export(folder, run_opts=CPU)
    assert type(loaded).__name__ == INTERFACES[preset]
    features = loaded.mods.features
    wav = speech_like(4096)[None]
    given = model.conditioner.inputs(features(wav), wav).features
    with torch.no_grad():
        expected, got = (
            each.sample(each.conditioner(given), generator=0) for each in (model, loaded.mods.model)
        )
    assert torch.equal(expected, got)


def test_nothing_of_the_training_or_the_machine_is_kept(tmp_path):
    folder, _ = export_tiny(tmp_path, "mel_vq")
    text = (folder / "hyperparams.yaml").read_text()
    for word in (str(tmp_path), str(ROOT), "folder:", "seed", "learning_rate", "Adam",
                 "Checkpointer", "!include", "optim"):  # fmt: skip
        assert word not in text
    for word in ("codebook_size: 32", "interface: SpeechCodec", "sampling_sigma: 0.9",
                 "sample_rate: 22050", "SpeechCodec.from_hparams("):  # fmt: skip
        assert word in text


OTHER_PROCESS = """
import sys
from waveglow_vq.inference import load_export
import hashlib, torch
path, codec_path = sys.argv[1:]
mel = torch.linspace(-9, -1, 80)[None, :, None].repeat(1, 1, 9)
wav = load_export(path, run_opts={"device": "cpu"}).decode_batch(mel, generator=11)
codec = load_export(codec_path, run_opts={"device": "cpu"})
again = codec.decode_batch(torch.arange(9)[None], generator=11)
print(hashlib.sha256(torch.cat([wav.flatten(), again.flatten()]).numpy().tobytes()).hexdigest())
"""


def test_another_process_in_another_folder_gives_the_same_samples(tmp_path):
    vocoder_folder, _ = export_tiny(tmp_path / "mel", "mel")
    codec_folder, _ = export_tiny(tmp_path / "mel_vq", "mel_vq")
    mel = torch.linspace(-9, -1, 80)[None, :, None].repeat(1, 1, 9)
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)
    codec = SpeechCodec.from_hparams(codec_folder, run_opts=CPU)
    here = [
        vocoder.decode_batch(mel, generator=11).flatten(),
        codec.decode_batch(torch.arange(9)[None], generator=11).flatten(),
    ]
    digest = hashlib.sha256(torch.cat(here).numpy().tobytes()).hexdigest()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # A relative path, from a folder in which neither the recipe nor the presets are.
    result = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, "../mel/export", "../mel_vq/export"],
        cwd=elsewhere,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            "https_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == digest


def test_a_failed_export_loses_nothing(tmp_path, tmp_path_factory, run, monkeypatch):
    folder = tmp_path / "export"
    export_model(*run, folder, "WaveGlowVocoder")
    before = contents(folder)

    def full_disk(*args, **kwargs):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        with pytest.raises(OSError, match="No space"):
            export_model(*run, folder, "WaveGlowVocoder")
    with monkeypatch.context() as patch:
        rename = Path.rename

        def fails_at_last(self, target):
            if self.name.endswith(".part"):
                raise OSError("stale handle")
            return rename(self, target)

        patch.setattr(Path, "rename", fails_at_last)
        with pytest.raises(OSError, match="stale handle"):
            export_model(*run, folder, "WaveGlowVocoder")
    # Weights of another model than the hyperparameters describe.
    other = trained_model(flattened_recipe(tmp_path_factory.mktemp("x"), "mel", use_film=True))
    with pytest.raises(UserError, match="another model"):
        export_model(run[0], other, folder, "WaveGlowVocoder")
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_an_earlier_export_is_replaced_and_notes_beside_it_stay(tmp_path, run):
    text, model = run
    folder = tmp_path / "deep" / "export"
    export_model(text, model, folder, "WaveGlowVocoder", labels=["p225"], sampling_sigma=0.5)
    (folder / "NOTES.md").write_text("the good one")
    assert export_model(text, model, folder, "WaveGlowVocoder") == folder
    names = ["NOTES.md", "hyperparams.yaml", "model.ckpt", "pitch_reader.safetensors"]
    assert sorted(contents(folder)) == names
    assert load_export(folder, run_opts=CPU).hparams.sampling_sigma == 0.9
    assert [path.name for path in folder.parent.iterdir()] == ["export"]


def test_what_is_not_an_export_is_not_replaced(tmp_path, run):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not an export"):
        export_model(*run, tmp_path, "WaveGlowVocoder")
    with pytest.raises(UserError, match="is a file"):
        export_model(*run, tmp_path / "thesis.tex", "WaveGlowVocoder")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    export_model(*run, tmp_path / "empty", "WaveGlowVocoder")


@pytest.mark.parametrize("as_encoder", [False, True])
def test_speaker_labels(tmp_path, run, as_encoder):
    labels = ["s5", "p225", "p315", "5"]
    given = labels
    if as_encoder:
        given = CategoricalEncoder()
        given.update_from_iterable(labels)
    folder = export_model(*run, tmp_path / "export", WaveGlowVocoder, labels=given)
    assert load_export(folder, run_opts=CPU).speakers == labels
    (folder / "speakers.ckpt").write_text("'p225' => ???")
    with pytest.raises(UserError, match="speakers.ckpt cannot be read"):
        load_export(folder, run_opts=CPU)
    (folder / "speakers.ckpt").unlink()
    with pytest.raises(UserError, match="speakers.ckpt"):
        load_export(folder, run_opts=CPU)
    with pytest.raises(UserError, match="'a' occurs twice"):
        export_model(*run, tmp_path / "twice", "WaveGlowVocoder", labels=["a", "a"])


def test_training_goes_on_as_if_nothing_had_happened(tmp_path, run):
    text, model = run
    torch.manual_seed(0)
    expected = torch.rand(3)
    model.train()
    try:
        torch.manual_seed(0)
        export_model(text, model, tmp_path / "export", "WaveGlowVocoder")
        assert torch.equal(torch.rand(3), expected)
        assert model.training and all(p.requires_grad for p in model.parameters())
    finally:
        model.eval()


def test_averaged_weights(tmp_path, run):
    text, model = run
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    folder = export_model(text, averaged, tmp_path / "export", "WaveGlowVocoder")
    assert list(torch.load(folder / "model.ckpt", weights_only=True)) == list(model.state_dict())


def test_what_cannot_be_exported(tmp_path, run):
    text, model = run
    folder = tmp_path / "export"
    with pytest.raises(UserError, match="no codes"):
        export_model(text, model, folder, "SpeechCodec")
    with pytest.raises(UserError, match="'Translator' is not an interface"):
        export_model(text, model, folder, "Translator")
    with pytest.raises(UserError, match="no 'model' to export"):
        export_model("preset: {}\nfeatures: {}\n", model, folder, "WaveGlowVocoder")
    with pytest.raises(UserError, match="hold !ref"):
        export_model(
            "preset: {a: 1}\nfeatures: {}\nmodel: !ref <preset>\n", model, folder, "WaveGlowVocoder"
        )
    broken = trained_model(text)
    next(broken.parameters()).data[0] = float("nan")
    with pytest.raises(UserError, match="holds NaN"):
        export_model(text, broken, folder, "WaveGlowVocoder")
    assert not list(tmp_path.iterdir())


def test_hyperparameters_without_a_preset(run):
    text = "model: &m !new:torch.nn.Linear [2, 2]\nfeatures: {sample_rate: 16000}\nother: *m\n"
    exported = export_hparams(text, "SpeechCodec")
    assert "preset:" not in exported and "other:" not in exported
    assert "\nsample_rate: 16000 " in exported and "sampling_sigma: 1.0" in exported


def test_what_a_model_is_for(run):
    class Described:
        def __init__(self, quantizer, speakers):
            self.quantizer, self.speakers = quantizer, speakers

    assert interface_of(run[1]) == interface_of(Described(None, None)) == "WaveGlowVocoder"
    assert interface_of(Described(object(), None)) == "SpeechCodec"
    assert interface_of(Described(object(), object())) == "VoiceConverter"
    assert interface_of(Described(None, object())) == "VoiceConverter"


def test_the_reader_of_pitch_is_that_of_the_export(tmp_path, run):
    text, model = run
    folder = export_model(text, model, tmp_path / "export", "WaveGlowVocoder")
    path, log_mel = folder / "pitch_reader.safetensors", FEATURES(speech_like(8192)[None])

    def waveform():
        vocoder = WaveGlowVocoder.from_hparams(folder, run_opts=CPU)
        assert "reader" not in " ".join(vocoder.mods.model.state_dict())
        return vocoder.decode_spectrogram(log_mel[0], generator=0, refine=1)

    before = waveform()
    reader = copy.deepcopy(model.pitch_reader)
    reader.end.bias.data[-1] += 100  # all is voiced
    save_pitch_reader(reader, path)
    assert (waveform() - before).abs().max() > 0.01
    path.unlink()  # of an older version
    assert torch.equal(waveform(), before)
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match="pitch_reader.safetensors cannot be read as the weights"):
        waveform()
