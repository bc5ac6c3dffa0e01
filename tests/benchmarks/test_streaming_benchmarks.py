import json

from waveglow_vq.audio.io import write_wav

import torch

from benchmarks import run
from tests.inference.exports import export_tiny, speech_like


def test_errors_by_overlap(tmp_path, capsys):
    folder, _ = export_tiny(tmp_path, "mel_vq")
    write_wav(tmp_path / "in.wav", speech_like(20000), 22050)
    arguments = ["--only", "streaming", str(tmp_path / "in.wav"), "--model", str(folder)]
    arguments += ["--repeats", "1", "--chunk_frames", "8", "--json", str(tmp_path / "rows.json")]
    run.main(arguments)
    exact, rough = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert exact["overlap_frames"] == 1 and rough["overlap_frames"] == 0
    assert exact["signal_to_error_db"] > 100 > rough["signal_to_error_db"] > 0
    assert exact["log_mel_l1"] < 1e-4 < rough["log_mel_l1"]
    assert "| 1 (exact) |" in capsys.readouterr().out


def test_without_an_export(tmp_path, capsys):
    torch.manual_seed(0)
    write_wav(tmp_path / "in.wav", speech_like(3000), 22050)
    arguments = ["--only", "streaming", str(tmp_path / "in.wav"), "--size", "tiny"]
    run.main([*arguments, "--repeats", "1", "--overlaps", "1"])
    assert "| 6 (exact) |" in capsys.readouterr().out
