import json
import sys
from pathlib import Path

import waveglow_vq
from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.export import onnx as module
from waveglow_vq.export.onnx import export_onnx
from waveglow_vq.export.onnx_graph import VocoderGraph
from waveglow_vq.inference import SpeechCodec, VoiceConverter, WaveGlowVocoder
from waveglow_vq.lobes.flows.inference_cache import prepare_inference
from waveglow_vq.lobes.flows.waveglow import draw_noise
from waveglow_vq.utils.files import model_checksum

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from tests.export.tiny_vocoders import KINDS, tiny_vocoder
from tests.inference.exports import PRESETS

onnx = pytest.importorskip("onnx")
onnx_ir = pytest.importorskip("onnx_ir")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(session, *inputs):
    names = [value.name for value in session.get_inputs()]
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return torch.from_numpy(session.run(["waveform"], feed)[0])


def difference_from_decode_batch(vocoder, path, lengths, sigma=0.9):
    """Largest difference from what the interface gives with the same noise."""
    session, example = session_of(path), VocoderGraph(vocoder.mods.model).example
    largest = 0.0
    for batch, frames in lengths:
        log_mel = example(batch, frames)[0]
        noise = draw_noise(log_mel, 8, frames * 32, 3) * sigma
        found = run(session, log_mel, noise)
        expected = vocoder.decode_batch(log_mel, sigma=sigma, generator=3)[:, 0]
        assert found.shape == expected.shape == (batch, frames * 256)
        assert expected.std() > 1e-3
        largest = max(largest, (found - expected).abs().max().item())
    return largest


@pytest.fixture(scope="module")
def vocoder(vocoder_folder):
    return WaveGlowVocoder.from_hparams(vocoder_folder, run_opts={"device": "cpu"})


@pytest.fixture(scope="module")
def written(vocoder, tmp_path_factory):
    return export_onnx(vocoder, tmp_path_factory.mktemp("onnx") / "vocoder.onnx")


@pytest.fixture
def quick(monkeypatch, written):
    """Makes of every export the one that was written already."""
    monkeypatch.setattr(module, "export_program", lambda vocoder: None)
    monkeypatch.setattr(module, "_to_onnx", lambda program, opset: onnx_ir.load(written.path))


def test_what_decode_batch_gives_at_every_length(vocoder, written):
    lengths = [(1, 1), (1, 2), (1, 61), (2, 20)]
    assert difference_from_decode_batch(vocoder, written.path, lengths) < 1e-5
    assert written.difference < 1e-5
    assert written.size == written.path.stat().st_size


def test_the_file_is_valid_and_describes_itself(vocoder, written):
    graph = onnx.load(written.path)
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", module.OPSET)]
    session = session_of(written.path)
    shapes = {value.name: value.shape for value in session.get_inputs() + session.get_outputs()}
    assert shapes == {
        "log_mel": ["batch", 80, "frames"],
        "noise": ["batch", 8, "32*frames"],
        "waveform": ["batch", "256*frames"],
    }
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said.pop("features")) == {
        name: getattr(LogMel(), name)
        for name in "sample_rate n_fft win_length hop_length n_mels f_min f_max floor".split()
    }
    assert said == {
        "sample_rate": "22050",
        "hop_length": "256",
        "n_mels": "80",
        "group_size": "8",
        "sampling_sigma": "0.9",
        "refine": "0",
        "speakers": "[]",
        "model_checksum": model_checksum(vocoder.mods.model),
        "waveglow_vq_version": waveglow_vq.__version__,
    }


def test_nothing_of_this_machine_is_in_the_file(written):
    content = written.path.read_bytes()
    for trace in (b".py", b"site-packages", str(Path(waveglow_vq.__file__).parents[1]).encode()):
        assert trace not in content


def test_what_depends_on_weights_alone_is_constant(written):
    graph = onnx.load(written.path).graph
    constants = {tensor.name for tensor in graph.initializer}
    assert not [node.name for node in graph.node if constants.issuperset(node.input)]


def test_another_model_is_noticed(vocoder, written, tmp_path):
    other = tiny_vocoder(tmp_path)
    for parameter in other.mods.model.vocoder.parameters():
        parameter.data *= 1.01
    with pytest.raises(UserError, match="differs from torch's by .* of full scale"):
        module._check(written.path, other.mods.model)
    assert module._check(written.path, vocoder.mods.model) == written.difference


@pytest.mark.usefixtures("quick")
def test_nothing_is_left_of_an_export_that_fails(vocoder, tmp_path, monkeypatch):
    path = tmp_path / "vocoder.onnx"
    path.write_text("earlier")
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differs from torch"):
        export_onnx(vocoder, path)
    assert path.read_text() == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["vocoder.onnx"]


@pytest.mark.usefixtures("quick")
def test_large_weights_are_beside_the_file(vocoder, written, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WEIGHTS_INSIDE", 1000)
    path = tmp_path / "vocoder.onnx"
    beside = export_onnx(vocoder, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["vocoder.onnx", "vocoder.onnx.data"]
    assert path.stat().st_size < written.size / 2
    assert beside.size == sum(file.stat().st_size for file in tmp_path.iterdir())
    inputs = VocoderGraph(vocoder.mods.model).example(1, 9)
    assert torch.equal(run(session_of(path), *inputs), run(session_of(written.path), *inputs))


@pytest.mark.usefixtures("quick")
def test_a_prepared_model_is_compared_as_it_is_defined(vocoder_folder, tmp_path):
    vocoder = WaveGlowVocoder.from_hparams(vocoder_folder, run_opts={"device": "cpu"})
    prepare_inference(vocoder.mods.model, torch.bfloat16)
    assert export_onnx(vocoder, tmp_path / "vocoder.onnx").difference < 1e-5


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
def test_missing_packages_are_named(vocoder, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"{name} is missing.*waveglow-vq\[onnx\]"):
        export_onnx(vocoder, tmp_path / "vocoder.onnx")


def test_impossible_calls(vocoder, codec_folder, tmp_path):
    path = tmp_path / "vocoder.onnx"
    codec = SpeechCodec.from_hparams(codec_folder, run_opts={"device": "cpu"})
    with pytest.raises(UserError, match="the model has codes"):
        export_onnx(codec, path)
    with pytest.raises(UserError, match="opset: 17; it must be from 18 to"):
        export_onnx(vocoder, path, opset=17)
    with pytest.raises(UserError, match="opset: 1000; it must be"):
        export_onnx(vocoder, path, opset=1000)
    with pytest.raises(UserError, match="missing does not exist"):
        export_onnx(vocoder, tmp_path / "missing" / "vocoder.onnx")
    with pytest.raises(UserError, match="is a folder"):
        export_onnx(vocoder, tmp_path)
    damaged = tiny_vocoder(tmp_path)
    damaged.mods.model.conditioner.network.end.bias.data[0] = torch.nan
    with pytest.raises(UserError, match="conditioner.network.end.bias holds NaN"):
        export_onnx(damaged, path)
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "default"])
def test_every_kind_of_vocoder(tmp_path, kind):
    vocoder = tiny_vocoder(tmp_path, **KINDS[kind])
    written = export_onnx(vocoder, tmp_path / "vocoder.onnx")
    assert difference_from_decode_batch(vocoder, written.path, [(1, 35), (2, 4)]) < 1e-5


@pytest.mark.slow
def test_speakers_are_an_input(converter_folders, tmp_path):
    converter = VoiceConverter.from_hparams(converter_folders("mel"), run_opts={"device": "cpu"})
    written = export_onnx(converter, tmp_path / "vocoder.onnx")
    session = session_of(written.path)
    assert session.get_modelmeta().custom_metadata_map["speakers"] == '["p225", "p226", "p330"]'
    log_mel, noise, _ = VocoderGraph(converter.mods.model).example(4, 9)
    model, numbers = converter.mods.model, torch.tensor([2, -1, 0, 1])
    with torch.no_grad():
        local = model.condition(log_mel).local
        expected = model.vocoder.inverse(noise, local, log_mel, model.speakers(numbers))
    assert (run(session, log_mel, noise, numbers) - expected).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("opset", [20, 23])
def test_newer_operators(vocoder, tmp_path, opset):
    written = export_onnx(vocoder, tmp_path / "vocoder.onnx", opset=opset)
    assert onnx.load(written.path).opset_import[0].version == opset


@pytest.mark.slow
def test_the_preset_tiny_at_its_full_size(tmp_path):
    with open(PRESETS / "mel.yaml", encoding="utf-8") as file, torch.random.fork_rng():
        torch.manual_seed(0)
        preset = load_hyperpyyaml(file)
        for parameter in preset["model"].parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    modules = {"model": preset["model"].eval(), "features": preset["contract"]["features"]}
    vocoder = WaveGlowVocoder(modules=modules, hparams={})
    written = export_onnx(vocoder, tmp_path / "vocoder.onnx")
    assert difference_from_decode_batch(vocoder, written.path, [(1, 344), (2, 100)]) < 1e-5
