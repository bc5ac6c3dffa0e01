from waveglow_vq.demo.corpus import DEMO_SPEAKERS, LAYOUTS
from waveglow_vq.demo.sentences import MAX_TEXTS

import pytest


def test_generates_either_layout(tmp_path, run):
    pytest.importorskip("espeakng_loader", reason="needs pip install waveglow-vq[demo]")
    command = ["demo-corpus", tmp_path, "--speakers", "2"]
    status, out, _ = run(*command, "--utterances", "2")
    assert (status, out) == (0, f"{tmp_path}: 4 clips\n")
    assert len((tmp_path / "metadata.csv").read_text().splitlines()) == 4
    assert run(*command, "--utterances", "1", "--layout", "vctk")[1] == f"{tmp_path}: 2 clips\n"
    assert len(list(tmp_path.glob("wav48/*/*.wav"))) == 2


def test_help_and_errors_know_the_limits(tmp_path, run, refused):
    words = " ".join(run("demo-corpus", "--help")[1].split())
    assert f"at most {MAX_TEXTS})" in words and f"at most {len(DEMO_SPEAKERS)})" in words
    assert f"{{{','.join(LAYOUTS)}}}" in words
    assert "--utterances is 0" in refused("demo-corpus", tmp_path, "--utterances", "0")
