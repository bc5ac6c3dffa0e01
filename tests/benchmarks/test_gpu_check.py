"""The check of a GPU, in its small form on a CPU, and what it does about parts that fail."""

import json
import sys

import pytest

from benchmarks import gpu_check, run
from benchmarks.gpu import rows
from benchmarks.gpu.report import bars, section, shown, summary


def test_all_parts_in_their_small_form(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--device", "cpu", "--sizes", "tiny", "--minutes", "3"]
    parts = ["machine", "parity", "sampling", "training", "launches", "processes"]
    run.main(["--only", "gpu", *arguments, "--in_process", "--parts", *parts])
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(report["rows"]) == parts
    for part, found in report["rows"].items():
        assert report["ended"][part] is None and found, part
        assert not [row for row in found if "failed" in row], part
        assert all(row["values"].get("passed", True) for row in found), part
    assert report["rows"]["launches"][0]["values"]["aten_calls"] > 1000
    text = (tmp_path / "gpu_check.md").read_text()
    assert "| tiny | fp32 | 1 | off |" in text and "0 rows have failed" in text
    assert "## parity" in capsys.readouterr().out


def test_a_part_in_a_process_of_its_own(tmp_path, capsys):
    gpu_check.main(["--out", str(tmp_path), "--device", "cpu", "--parts", "recipe"])
    ((row,),) = json.loads((tmp_path / "gpu_check.json").read_text())["rows"].values()
    assert row["values"]["segments_per_second"] > 0, row
    assert "| tiny | 2 |" in capsys.readouterr().out


# A part whose second row ends its process, and whose third one never ends.
SCRIPT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from gpu.rows import Journal, measure
seconds = float(sys.stdin.readline()) - time.time()
calls = [lambda: {"x": 1}, lambda: os._exit(9), lambda: time.sleep(99), lambda: 1 / 0]
calls.append(lambda: {"x": 5})
cases = [({"n": n}, call) for n, call in enumerate(calls)]
measure("part", cases, Journal(sys.argv[2]), seconds)
"""


def watched(tmp_path, script):
    journal = rows.Journal(tmp_path / "rows.jsonl")
    folder = str(gpu_check.HERE)
    command = [sys.executable, "-c", script, folder, str(journal.path)]
    return rows.Watched("part", command, journal, tmp_path / "log"), journal


def test_rows_that_fail_do_not_end_the_rest(tmp_path):
    process, journal = watched(tmp_path, SCRIPT)
    assert process.supervise(seconds=60, row_seconds=2.0) is None
    found = {row["key"]["n"]: row for row in journal.rows("part")}
    assert found[0]["values"] == {"x": 1} and found[4]["values"] == {"x": 5}
    assert found[1]["failed"] == "its process has ended with status 9"
    assert found[2]["failed"] == "no answer for 2 s"
    assert found[3]["failed"] == "ZeroDivisionError: division by zero"
    assert journal.missing("part") == []


def test_a_part_ends_with_its_time(tmp_path):
    process, journal = watched(tmp_path, SCRIPT.replace("os._exit(9)", "time.sleep(99)"))
    assert process.supervise(seconds=3.0, row_seconds=60) == "its time is over"
    assert [row["key"] for row in journal.rows("part")] == [{"n": 0}, {"n": 1}]
    assert journal.missing("part") == [{"n": 2}, {"n": 3}, {"n": 4}]
    text = section("part", journal.rows("part"), journal.missing("part"), "its time is over", 3, {})
    assert "- not run, for lack of time: 2; 3; 4" in text and "**failed**: 1: its time" in text


def test_a_part_that_does_not_even_begin(tmp_path):
    process, journal = watched(tmp_path, "import no_such_module")
    assert process.supervise(seconds=30, row_seconds=5) == "its process has ended with status 1"
    assert journal.missing("part") is None
    assert "- nothing was measured" in section("part", [], None, None, 1, {})
    assert "no_such_module" in (tmp_path / "log").read_text()


def test_bars_and_verdicts():
    def row(name, dtype, batch, speed):
        key = {"name": name, "dtype": dtype, "batch": batch, "graphs": "auto"}
        return {"part": "sampling", "key": key, "values": {"samples_per_second": speed}}

    found = [row("base", "bf16", 8, 2e7), row("small", "bf16", 8, 1e8), row("base", "bf16", 1, 1e6)]
    first = {"name": "small", "dtype": "bf16", "graphs": "auto"}
    steps = [
        {"part": "training", "key": first, "values": {"first_steps_seconds": seconds}}
        for seconds in (5.0, 20.0)
    ]
    verdicts = {
        line["what"]: line["verdict"] for line in bars({"sampling": found, "training": steps})
    }
    assert verdicts["sampling base, bf16, batch 8 [samples/s]"] == "reached"
    assert verdicts["sampling small, bf16, batch 8 [samples/s]"] == "aim reached"
    assert verdicts["sampling base, bf16, batch 1 [samples/s]"] == "missed"
    assert verdicts["the first steps of small, compiling included [s]"] == "reached"
    assert verdicts["sampling nvidia256, fp16, batch 1 [samples/s]"] == "not measured"
    wrong = {"part": "parity", "key": {"what": "x"}, "values": {"figure": 2.0, "passed": False}}
    assert "of which 1 miss their bar:\n- parity, x: 2" in summary({"parity": [wrong]})


def test_cells():
    values = None, True, False, 1234567, 0.00012345, 1234.5, "a|b"
    cells = ["", "yes", "**no**", "1,234,567", "0.000123", "1,234", "a/b"]
    assert [shown(value) for value in values] == cells


def test_cases_on_a_gpu():
    """Their keys alone: what is planned, in which order, each once."""
    import torch

    options = gpu_check.parse(["--out", "x", "--waveglow_folder", "clone"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_bf16_supported", lambda emulated=True: True)
        gpu_check.complete(options)
    first = {}
    for part in gpu_check.PARTS:
        module = sys.modules.get(f"gpu.{part}") or __import__(f"gpu.{part}", fromlist=["cases"])
        keys = [json.dumps(key) for key, _ in module.cases(options)]
        assert len(keys) == len(set(keys)) > 0, part
        first[part] = json.loads(keys[0])
    assert first["sampling"]["name"] == "nvidia256" and first["sampling"]["dtype"] == "fp16"
    assert first["training"]["name"] == "small" and first["training"]["batch"] == 64


def test_options_that_cannot_be(capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments in (["--minutes", "0"], ["--device", "cuda"]):
        with pytest.raises(SystemExit):
            gpu_check.main(["--out", "nowhere", *arguments])
        assert capsys.readouterr().err.startswith("error: ")
