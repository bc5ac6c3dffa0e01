from pathlib import Path

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.export import onnx as module
from waveglow_vq.export.onnx import OPSET, OnnxExport

import pytest

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)


def test_what_is_written_and_where(vocoder_folder, tmp_path, monkeypatch, run, refused):
    path, asked = tmp_path / "vocoder.onnx", []

    def export(vocoder, path, opset):
        asked.append((type(vocoder).__name__, opset))
        Path(path).write_text("new")
        return OnnxExport(path, 3_000_000, 1e-6)

    monkeypatch.setattr(module, "export_onnx", export)
    status, said, _ = run("export-onnx", vocoder_folder, path)
    assert status == 0
    assert said == f"{path}: 3.0 MB; onnxruntime differs from torch by 1.0e-06 of full scale\n"
    assert "vocoder.onnx exists; choose another" in refused("export-onnx", vocoder_folder, path)
    path.write_text("another")
    run("export-onnx", vocoder_folder, path, "--force", "--opset", "19")
    assert path.read_text() == "new"
    assert asked == [("WaveGlowVocoder", OPSET), ("WaveGlowVocoder", 19)]


def test_what_cannot_be_exported(codec_folder, tmp_path, refused):
    for folder, said in ((codec_folder, "the model has codes"), (tmp_path / "no", "not exist")):
        assert said in refused("export-onnx", folder, tmp_path / "vocoder.onnx")


def test_help_says_the_default(run):
    assert f"(default: {OPSET})" in run("export-onnx", "--help")[1]
