import json

import pytest
import torch

from benchmarks import data_pipeline

TINY = ["--size", "tiny", "--clips", "12", "--segments", "24", "--batch", "4", "--steps", "1"]
TINY += ["--repeats", "1", "--workers", "0", "1", "--prepare_clips", "8", "--resample_clips", "2"]


def test_tables(tmp_path, capsys):
    threads = torch.get_num_threads()
    path = tmp_path / "data.json"
    report = data_pipeline.main([*TINY, "--folder", str(tmp_path), "--json", str(path)])
    assert torch.get_num_threads() == threads
    loading = [(row["source"], row["workers"]) for row in report["pipeline"]]
    sources = [
        f"{s}{rest}" for s in ("files", "shards") for rest in ("", ", log-mels left to a GPU")
    ]
    assert loading == [(s, w) for s in sources for w in (0, 1)] + [("model", None)]
    assert report["pipeline"][-1]["times_the_model"] == 1
    assert all(row["segments_per_second"] > 0 for row in report["pipeline"])
    assert [row["clips"] for row in report["preparation"]] == [8, 8, 2]
    assert all(row["cpu_seconds"] > 0 for row in report["preparation"])
    assert json.loads(path.read_text())["pipeline"] == report["pipeline"]
    shown = capsys.readouterr().out
    assert "| shards | 1 |" in shown and "| shards of it | 8 |" in shown and "torch: " in shown
    assert [file.name for file in tmp_path.iterdir()] == ["data.json"]  # corpora are gone


@pytest.mark.parametrize("option", ["--clips", "--segments"])
def test_refuses_nothing(option, capsys):
    with pytest.raises(SystemExit):
        data_pipeline.main([option, "0"])
    assert option in capsys.readouterr().err
