import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.words.reference_texts import texts_of

import pytest


def test_a_folder_a_manifest_and_lines(tmp_path):
    (tmp_path / "txt" / "p1").mkdir(parents=True)
    (tmp_path / "txt" / "p1" / "p1_001.txt").write_text("One. \n")
    names = ["p1/p1_001", "p1/p1_002"]
    assert texts_of(tmp_path / "txt", names) == {"p1/p1_001": "One."}
    manifest = tmp_path / "test.json"
    manifest.write_text('{"p1_001": {"text": "One."}, "p1_002": {"wav": "a.wav"}}')
    assert texts_of(manifest, names) == {"p1/p1_001": "One."}
    lines = tmp_path / "metadata.csv"
    lines.write_text("p1_001|1.|One.\np1_002|\n")
    assert texts_of(lines, names) == {"p1/p1_001": "One."}


def test_texts_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.txt").write_text(folder)
    assert texts_of(tmp_path, ["a/1", "b/1", "c/1"]) == {"a/1": "a", "b/1": "b"}


@pytest.mark.parametrize(
    "name,content,sentence",
    [
        ("x.json", "[1]", "is no manifest of texts"),
        ("x.json", "no", "is no manifest of texts"),
        ("x.csv", "b|text", "has no text of any recording, such as a"),
    ],
)
def test_bad_texts_are_a_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=sentence):
        texts_of(tmp_path / name, ["a"])
    with pytest.raises(UserError, match="cannot be read"):
        texts_of(tmp_path / "missing", ["a"])
