import json

from waveglow_vq.data.manifests import load_manifest, read_pitch
from waveglow_vq.errors import UserError

import numpy as np
import pytest


def written(tmp_path, entries):
    file = tmp_path / "train.json"
    file.write_text(json.dumps(entries), "utf-8")
    return file


def test_data_root_is_filled_in(tmp_path):
    file = written(tmp_path, {"a": {"wav": "{data_root}/p/a.wav", "pitch": "{data_root}/a.npy"}})
    entry = load_manifest(file, tmp_path)["a"]
    assert entry == {"wav": f"{tmp_path}/p/a.wav", "pitch": f"{tmp_path}/a.npy"}


@pytest.mark.parametrize("name", ["wav", "pitch"])
def test_files_elsewhere_are_refused(tmp_path, name):
    entry = {"wav": "{data_root}/a.wav", name: "{data_root}/../a"}
    with pytest.raises(UserError, match="train.json: a names a file outside of"):
        load_manifest(written(tmp_path, {"a": entry}), tmp_path)


def test_a_corpus_of_links_and_texts_with_braces(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "wavs").symlink_to(tmp_path)
    (tmp_path / "moved").symlink_to(tmp_path / "corpus")
    entry = {"wav": "{data_root}/wavs/{1}..é .wav", "text": "a {b} {data_root} }"}
    file = written(tmp_path, {"{0}": entry})
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    for folder in (tmp_path / "moved", tmp_path / "corpus" / ".." / "corpus"):
        found = load_manifest(file, folder)["{0}"]
        assert found == {"wav": f"{folder}/wavs/{{1}}..é .wav", "text": entry["text"]}
    with pytest.raises(UserError, match="names a file outside of"):  # although it comes back
        load_manifest(written(tmp_path, {"a": {"wav": "{data_root}/wavs/../a.wav"}}), tmp_path)


@pytest.mark.parametrize("entry", [{"wav": "{data_root}/a.wav"}, ["a.wav"]])
def test_entries_without_what_is_needed_are_named(tmp_path, entry):
    with pytest.raises(UserError, match="a has no wav or no speaker; prepare"):
        load_manifest(written(tmp_path, {"a": entry}), tmp_path, ("wav", "speaker"))


def test_pitch_is_read_and_of_one_form(tmp_path):
    np.save(tmp_path / "a.npy", np.array([0.0, 5.0], dtype=np.float32))
    assert read_pitch(tmp_path / "a.npy").tolist() == [0.0, 5.0]
    np.save(tmp_path / "b.npy", np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(UserError, match="b.npy is not float32"):
        read_pitch(tmp_path / "b.npy")
