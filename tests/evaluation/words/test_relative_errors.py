import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.evaluation.judges import count_errors
from waveglow_vq.evaluation.words.relative_errors import relative_errors, words_of_files

import pytest


def test_rates_are_relative_to_recordings_and_to_no_model():
    heard = {"recordings": "a b c x", "no model": "a b x x", "mean": "a x x x"}
    counts = {row: [count_errors("a b c d", said)] for row, said in heard.items()}
    rows = relative_errors(counts, "no model")
    assert [rows[row]["word_error"] for row in rows] == [0.25, 0.5, 0.75]
    assert rows["mean"]["word_error_above_recordings"] == 0.5
    assert rows["mean"]["word_error_above_no_model"] == 0.25
    assert rows["recordings"]["word_error_above_no_model"] == -0.25
    assert rows["mean"]["character_error_above_recordings"] == pytest.approx(2 / 7)
    without = relative_errors(counts)["mean"]
    assert "word_error_above_no_model" not in without and "word_error_above_recordings" in without


def test_files_count_by_their_words():
    def heard(text, said):
        return {"transcript": said, **count_errors(text, said)._asdict()}

    files = {
        "a": {"recordings": heard("a", "a"), "mean": heard("a", "x")},
        "b": {"recordings": heard("a b c", "a b c"), "mean": heard("a b c", "a b c")},
    }
    words = words_of_files(files, "whisper")
    assert words["recognizer"] == "whisper" and words["files"] == files
    assert words["rows"]["mean"]["word_error"] == 0.25
