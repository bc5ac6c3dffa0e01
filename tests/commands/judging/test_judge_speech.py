import json

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.commands.judging import judge_speech

import pytest

from tests.evaluation.text_to_speech.test_judgement import TEXTS, corpus, make_tts  # noqa: F401


@pytest.fixture
def command(monkeypatch, tmp_path, corpus):  # noqa: F811
    """Up to its options; a real model is in place of the export."""
    tts = make_tts(tmp_path)
    monkeypatch.setattr(judge_speech, "load_model", lambda *arguments: tts)
    return ["judge-speech", "export", corpus[0] / "test.json", "--data_folder", corpus[0]]


def test_the_table_and_the_files(command, tmp_path, run):
    pytest.importorskip("matplotlib")
    report = tmp_path / "new" / "report.json"
    command += ["--output", report, "--no_words", "--samples", "1", "--pictures", "2"]
    command += ["--method", "sample", "--top_k", "3"]
    status, shown, _ = run(*command, "--bars", "mcd_ratio=1.3")
    assert status == 0
    written = json.loads(report.read_text())
    assert set(written["utterances"]) == set(TEXTS)
    assert written["settings"]["search"] == {"method": "sample", "top_k": 3}
    names = {path.name for path in report.with_suffix("").iterdir()}
    assert {name for name in names if name.endswith(".wav")} == {
        "a1_recording.wav", "a1_reconstruction.wav", "a1_speech.wav"
    }  # fmt: skip
    assert {name for name in names if name.endswith(".png")} == {
        "a1_attention.png", "b2_attention.png"
    }  # fmt: skip
    line = next(line for line in shown.splitlines() if "ratio of these two" in line)
    assert line.split()[-1] == "1.300"
    # A seed: the same again.
    assert " bar" not in run(*command)[1]
    assert json.loads(report.read_text()) == written


@pytest.mark.parametrize(
    "words,said",
    [
        (["--output", "report.txt"], "--output"),
        (["--others", "0"], "--others must be at least 1, got 0"),
        (["--bars", "mcd=1"], "'mcd' is not one of mcd_speech_db"),
        (["--bars", "mcd_ratio"], "NAME=VALUE"),
    ],
)
def test_wrong_usage_is_a_sentence(command, tmp_path, refused, words, said):
    assert said in refused(*command, "--output", tmp_path / "report.json", *words)
