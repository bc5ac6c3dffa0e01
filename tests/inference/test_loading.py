import pickle
import shutil

from waveglow_vq.errors import UserError
from waveglow_vq.inference import SpeechCodec, WaveGlowVocoder, load_export
from waveglow_vq.inference.loading import load_weights, read_export_header

import pytest
import torch

from tests.inference.exports import speech_like

CPU = {"device": "cpu"}


@pytest.fixture
def copy(vocoder_folder, tmp_path):
    """A copy of an export, to be damaged."""
    return shutil.copytree(vocoder_folder, tmp_path / "copy")


def refuses(folder, *words, interface=WaveGlowVocoder):
    with pytest.raises(UserError) as error:
        interface.from_hparams(folder, run_opts=CPU)
    sentence = str(error.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    return sentence


def test_misspelt_folder_is_an_error_not_a_download(tmp_path, monkeypatch):
    def download(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    refuses(tmp_path / "expotr", "expotr", "does not exist")
    refuses("results/expotr", "results/expotr", "does not exist")


def test_missing_hyperparameters(copy):
    (copy / "hyperparams.yaml").unlink()
    refuses(copy, "hyperparams.yaml", str(copy))


def test_damaged_hyperparameters(copy):
    (copy / "hyperparams.yaml").write_text("interface: [unclosed")
    refuses(copy, str(copy / "hyperparams.yaml"), "not valid YAML")
    (copy / "hyperparams.yaml").write_bytes(b"\xff\xfe\x00")
    refuses(copy, str(copy / "hyperparams.yaml"))
    (copy / "hyperparams.yaml").write_text("")
    refuses(copy, str(copy / "hyperparams.yaml"))


def test_output_folder_of_training_is_not_an_export_and_builds_nothing(copy, tmp_path):
    created = tmp_path / "created"
    (copy / "hyperparams.yaml").write_text(f"x: !apply:os.mkdir [{created}]\nmodules: {{}}\n")
    refuses(copy, str(copy / "hyperparams.yaml"), "names no interface")
    assert not created.exists()


def test_missing_weights(copy):
    (copy / "model.ckpt").unlink()
    refuses(copy, "model.ckpt", "missing")


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_truncated_weights(copy, keep):
    path = copy / "model.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    refuses(copy, str(path), "cannot be read")


def test_weights_that_would_execute_code(copy, tmp_path):
    created = tmp_path / "created"

    class Bomb:
        def __reduce__(self):
            return created.mkdir, ()

    with open(copy / "model.ckpt", "wb") as file:
        pickle.dump({"weight": Bomb()}, file, protocol=2)
    refuses(copy, str(copy / "model.ckpt"), "cannot be read")
    assert not created.exists()


def test_something_else_than_a_state_dict(copy):
    torch.save([1, 2], copy / "model.ckpt")
    refuses(copy, str(copy / "model.ckpt"), "not a state dict")


def test_foreign_weights(copy, codec_folder):
    torch.save(torch.nn.Linear(2, 2).state_dict(), copy / "model.ckpt")
    sentence = refuses(copy, str(copy / "model.ckpt"), "another model", "missing (", "unexpected (")
    assert "2 unexpected (weight, bias)" in sentence
    shutil.copy(codec_folder / "model.ckpt", copy / "model.ckpt")
    refuses(copy, str(copy / "model.ckpt"), "another model")


@pytest.mark.parametrize("damage", ["missing", "unexpected", "of another shape"])
def test_one_wrong_weight_is_named(copy, damage):
    path = copy / "model.ckpt"
    weights = torch.load(path, weights_only=True)
    name = list(weights)[3]
    if damage == "missing":
        del weights[name]
    elif damage == "unexpected":
        name = "extra"
        weights[name] = torch.zeros(1)
    else:
        weights[name] = torch.zeros(7, 7)
    torch.save(weights, path)
    refuses(copy, str(path), f"1 {damage} ({name}")


def test_weights_that_do_not_fit_leave_the_model_as_it_is(tmp_path):
    model = torch.nn.Linear(2, 3)
    before = model.weight.clone()
    torch.save({"weight": torch.zeros(3, 2)}, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match=r"1 missing \(bias\)"):
        load_weights(model, tmp_path / "model.ckpt")
    assert torch.equal(model.weight, before)


def test_wrong_interface(vocoder_folder, codec_folder):
    refuses(vocoder_folder, "for WaveGlowVocoder", "not for SpeechCodec", interface=SpeechCodec)
    refuses(codec_folder, "for SpeechCodec", "not for WaveGlowVocoder")


def test_interface_of_a_newer_version(copy):
    path = copy / "hyperparams.yaml"
    path.write_text(path.read_text().replace("interface: WaveGlowVocoder", "interface: Translator"))
    with pytest.raises(UserError, match="'Translator' is not an interface"):
        load_export(copy)


def test_a_subclass_loads_the_export_of_its_base(vocoder_folder):
    class Denoised(WaveGlowVocoder):
        pass

    assert isinstance(Denoised.from_hparams(vocoder_folder, run_opts=CPU), Denoised)


def test_load_export_picks_the_interface(vocoder_folder, codec_folder):
    type("WaveGlowVocoder", (SpeechCodec,), {})  # a class of the same name changes nothing
    assert type(load_export(vocoder_folder, run_opts=CPU)) is WaveGlowVocoder
    assert type(load_export(str(codec_folder), run_opts=CPU)) is SpeechCodec


def test_what_an_earlier_model_left_in_savedir_is_not_used(vocoder_folder, vocoder, tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "model.ckpt")
    loaded = WaveGlowVocoder.from_hparams(vocoder_folder, savedir=tmp_path, run_opts=CPU)
    mel = vocoder.encode_batch(speech_like(2000)[None])[0]
    assert torch.equal(
        loaded.decode_batch(mel, generator=1), vocoder.decode_batch(mel, generator=1)
    )


def test_loaded_model_is_frozen_and_in_evaluation_mode(vocoder):
    assert not any(module.training for module in vocoder.mods.modules())
    assert not any(parameter.requires_grad for parameter in vocoder.parameters())
    assert vocoder.speakers == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_device_that_is_not_there(vocoder_folder):
    with pytest.raises(UserError, match="device: cuda:0: torch finds no CUDA device"):
        WaveGlowVocoder.from_hparams(vocoder_folder, run_opts={"device": "cuda:0"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_what_the_cpu_gives(vocoder_folder, vocoder):
    loaded = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts={"device": "cuda"})
    mel = vocoder.encode_batch(speech_like(2000)[None])[0]
    on_cuda = loaded.decode_batch(mel, generator=1)
    assert on_cuda.device.type == "cuda"
    torch.testing.assert_close(
        on_cuda.cpu(), vocoder.decode_batch(mel, generator=1), atol=1e-3, rtol=1e-3
    )


def test_header(codec_folder):
    header = read_export_header(codec_folder)
    assert header["interface"] == "SpeechCodec"
    assert header["sample_rate"] == "22050"
