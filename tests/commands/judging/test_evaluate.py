import json

from waveglow_vq.audio.io import write_wav
from waveglow_vq.evaluation.score import main
from waveglow_vq.evaluation.time_alignment import MAX_SHIFT_SAMPLES

from tests.inference.exports import voiced_speech_like


def test_prints_a_table_and_writes_json(clips, tmp_path, run, refused, capsys):
    other, figures = tmp_path / "other", tmp_path / "figures.json"
    for name in ("one.wav", "more/two.wav"):
        write_wav(other / name, 0.5 * voiced_speech_like(3000), 22050)
    status, out, error = run("evaluate", clips, other, "--level_match", "--json", figures)
    assert status == 0 and error == f"{clips}: left out: 1 file .txt\n"
    assert [line.split()[0] for line in out.splitlines()[:4]] == ["file", "more/two", "one", "mean"]
    assert set(json.loads(figures.read_text())["files"]) == {"one", "more/two"}
    assert "figures.json exists" in refused("evaluate", clips, other, "--json", figures)
    assert run("evaluate", clips, other, "--json", figures, "--force")[0] == 0
    # The module does the same.
    assert main([str(clips), str(other), "--level_match"]) == 0
    assert capsys.readouterr().out == out


def test_help_says_the_default(run):
    assert f"(default: {MAX_SHIFT_SAMPLES})" in run("evaluate", "--help")[1]
