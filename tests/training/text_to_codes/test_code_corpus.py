import json
import logging
import tarfile

from waveglow_vq.errors import UserError
from waveglow_vq.inference import load_export
from waveglow_vq.inference.codes.code_file import read_code_file, write_code_file
from waveglow_vq.training.text_to_codes import code_extraction
from waveglow_vq.training.text_to_codes.code_corpus import (
    INDEX,
    extract_codes,
    read_code_corpus,
    read_index,
)

import pytest
import torch

from tests.inference.conftest import CPU
from tests.inference.exports import export_tiny
from tests.training.text_to_codes.coded_corpus import (
    NAMES,
    write_corpus,
    write_manifest,
    write_recording,
)


@pytest.fixture
def corpus(tmp_path, codec_folder, monkeypatch):
    """A folder with a corpus and its codes, and what extracts them again and says which recordings
    were encoded."""
    manifest = write_corpus(tmp_path)
    done = []
    original = code_extraction._encode

    def counting(codec, task):
        done.append(task[1].stem)
        return original(codec, task)

    monkeypatch.setattr(code_extraction, "_encode", counting)

    def again(folder=codec_folder, **options):
        done.clear()
        options = {"num_workers": 1, "device": "cpu", **options}
        manifests = options.pop("manifests", {"train": manifest})
        again.report = extract_codes(folder, manifests, tmp_path, tmp_path / "codes", **options)
        assert len(done) == again.report["encoded"] + len(again.report["skipped"])
        return list(done)

    assert again() == NAMES
    return tmp_path, again


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_files_are_what_the_codec_makes(corpus, codec_folder):
    folder, again = corpus
    codec = load_export(codec_folder, run_opts=CPU)
    assert set(contents(folder / "codes")) == {f"{n}.wvq" for n in NAMES} | {INDEX, "codes.jsonl"}
    for name in NAMES:
        found = read_code_file(folder / "codes" / f"{name}.wvq")
        expected = codec.to_code_file(folder / f"{name}.wav")
        assert torch.equal(found.codes, expected.codes) and found[1:] == expected[1:]
    index = read_index(folder / "codes", expected.checksum)
    assert index == (expected.model, expected.checksum, 22050, 32, 512, 0, 0, 6, {})
    assert index.codes_per_second == pytest.approx(43.07, abs=0.01)
    samples = sum(3000 + 500 * number for number in range(6))
    assert again.report["seconds"] == pytest.approx(samples / 22050)
    assert (again.report["encoded"], again.report["kept"]) == (6, 0)


def test_nothing_is_done_twice(corpus):
    folder, again = corpus
    before = times(folder / "codes")
    assert again() == [] and times(folder / "codes") == before
    assert (again.report["encoded"], again.report["kept"], again.report["utterances"]) == (0, 6, 6)


def test_a_corpus_that_moved_is_not_done_again(corpus, codec_folder):
    folder, again = corpus
    (folder / "moved").mkdir()
    for path in [*folder.glob("*.wav"), folder / "train.json"]:
        path.rename(folder / "moved" / path.name)
    moved = folder / "moved"
    report = extract_codes(codec_folder, {"train": moved / "train.json"}, moved, folder / "codes")
    assert (report["encoded"], report["kept"]) == (0, 6)


def test_another_recording_is_noticed(corpus):
    folder, again = corpus
    before = contents(folder / "codes")
    write_recording(folder, "clip2", 5)
    assert again() == ["clip2"] and again() == []
    after = contents(folder / "codes")
    assert {name for name in before if before[name] != after[name]} == {"clip2.wvq", "codes.jsonl"}
    assert len(read_code_file(folder / "codes" / "clip2.wvq").codes) == 1 + 5500 // 512


def test_of_the_same_size_too(corpus):
    folder, again = corpus
    path = folder / "clip3.wav"
    path.write_bytes(path.read_bytes()[:-2] + b"ab")
    assert again() == ["clip3"]


def test_where_recordings_are_gone_their_codes_stay(corpus):
    folder, again = corpus
    for name in NAMES:
        (folder / f"{name}.wav").unlink()
    assert again() == []
    (folder / "codes" / "clip1.wvq").unlink()
    assert again() == ["clip1"] and "does not exist" in again.report["skipped"]["clip1"]


@pytest.mark.parametrize("damage", ["lost", "emptied", "cut off", "changed", "of another model"])
def test_a_damaged_file_is_made_anew(corpus, damage):
    folder, again = corpus
    path = folder / "codes" / "clip4.wvq"
    data = path.read_bytes()
    if damage == "lost":
        path.unlink()
    elif damage == "of another model":
        write_code_file(path, read_code_file(path)._replace(checksum="0" * 64))
    else:
        damaged = {"emptied": b"", "cut off": data[:-3], "changed": data[:-9] + b"x" + data[-8:]}
        path.write_bytes(damaged[damage])
    assert again() == ["clip4"] and path.read_bytes() == data
    assert again() == []


@pytest.mark.parametrize("cut", [1, 2, 10, 30])
def test_a_line_that_was_cut_off_costs_one_utterance(corpus, cut):
    journal = corpus[0] / "codes" / "codes.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert corpus[1]() == (["clip5"] if cut > 1 else [])
    assert corpus[1]() == []


def test_a_journal_of_nonsense_costs_work_only(corpus):
    journal = corpus[0] / "codes" / "codes.jsonl"
    journal.write_bytes(b'\xff\xfe{}\n[1, 2]\n{"a": 1}\nnull\n[[], 1]\n3\n["clip1"]')
    assert corpus[1]() == NAMES and corpus[1]() == []


def test_new_utterances_come_in_addition(corpus):
    folder, again = corpus
    write_recording(folder, "later", 1)
    later = write_manifest(folder, {"later": {"wav": "{data_root}/later.wav"}}, "test")
    assert again(manifests={"test": later}) == ["later"]
    assert read_index(folder / "codes").utterances == 7
    assert again(manifests={"train": folder / "train.json", "test": later}) == []


def test_another_model_is_noticed(corpus, tmp_path_factory):
    folder, again = corpus
    write_recording(folder, "gone", 1)
    more = json.loads((folder / "train.json").read_text()) | {
        "gone": {"wav": "{data_root}/gone.wav"}
    }
    assert again(manifests={"more": write_manifest(folder, more, "more")}) == ["gone"]
    before = contents(folder / "codes")
    other = export_tiny(tmp_path_factory.mktemp("other"), "mel_vq", codebook_size=64)[0]
    with pytest.raises(UserError, match=r"codes of the model '[^']+' with checksum .*--force"):
        again(other)
    assert contents(folder / "codes") == before
    assert again(other, overwrite=True) == NAMES
    # Nothing is left of the other's.
    assert not (folder / "codes" / "gone.wvq").exists()
    assert read_index(folder / "codes").codebook_size == 64
    assert again(other) == []


def test_a_folder_of_unknown_codes_is_left_alone(corpus):
    folder, again = corpus
    (folder / "codes" / INDEX).unlink()
    before = contents(folder / "codes")
    with pytest.raises(UserError, match="of an unknown model"):
        again()
    assert contents(folder / "codes") == before
    assert again(overwrite=True) == NAMES


def test_bad_recordings_are_left_out(corpus, caplog):
    folder, again = corpus
    (folder / "clip1.wav").write_bytes(b"RIFF")
    (folder / "clip4.wav").unlink()
    (folder / "codes" / "clip4.wvq").unlink()
    assert again(max_skipped=2) == ["clip1", "clip4"]
    assert not (folder / "codes" / "clip1.wvq").exists()  # they were those of another recording
    skipped = read_index(folder / "codes").skipped
    assert "clip1.wav" in skipped["clip1"] and "clip4.wav" in skipped["clip4"]
    assert "clip1.wav" in caplog.text
    utterances = read_code_corpus(folder / "codes", folder / "train.json", folder)
    assert [u.id for u in utterances] == ["clip0", "clip2", "clip3", "clip5"]
    with pytest.raises(UserError, match=r"clip4\.wav.*more than 1 recordings.*max_skipped"):
        again(max_skipped=1)
    with pytest.raises(UserError, match="is unfinished"):
        read_index(folder / "codes")
    for number in (1, 4):
        write_recording(folder, f"clip{number}", number)
    assert again() == ["clip1", "clip4"] and read_index(folder / "codes").skipped == {}


@pytest.mark.parametrize("name", ["a/b", "../a", ".a", "", "a\\b"])
def test_ids_that_are_no_names_of_files_are_refused(tmp_path, codec_folder, name):
    manifest = write_manifest(tmp_path, {name: {"wav": "{data_root}/a.wav"}})
    with pytest.raises(UserError, match="cannot be a file name"):
        extract_codes(codec_folder, {"train": manifest}, tmp_path, tmp_path / "codes")
    assert not (tmp_path / "codes").exists()


def test_an_id_is_one_recording(corpus):
    folder, again = corpus
    other = write_manifest(folder, {"clip0": {"wav": "{data_root}/clip1.wav"}}, "test")
    with pytest.raises(UserError, match="clip0 is another recording in another manifest"):
        again(manifests={"train": folder / "train.json", "test": other})


def test_what_cannot_be_used_is_named(tmp_path, codec_folder, vocoder_folder, converter_folders):
    manifest, codes = write_corpus(tmp_path), tmp_path / "codes"
    for model, options, message in (
        (vocoder_folder, {}, "is an export for WaveGlowVocoder, which"),
        (converter_folders("mel"), {}, "is a model without codes"),
        (tmp_path / "nowhere", {}, "nowhere does not exist"),
        (codec_folder, {"num_workers": 0}, "num_workers is 0"),
    ):
        with pytest.raises(UserError, match=message):
            extract_codes(model, {"train": manifest}, tmp_path, codes, **options)
    empty = write_manifest(tmp_path, {}, "empty")
    with pytest.raises(UserError, match="empty.json: no utterances"):
        extract_codes(codec_folder, {"train": empty}, tmp_path, codes)
    codes.write_text("a file")
    with pytest.raises(UserError, match="codes cannot be written"):
        extract_codes(codec_folder, {"train": manifest}, tmp_path, codes, device="cpu")


def test_recordings_in_shards(corpus):
    folder, again = corpus
    with tarfile.open(folder / "train-000000.tar", "w") as tar:
        for name in NAMES:
            tar.add(folder / f"{name}.wav", f"{name}.wav")
    with tarfile.open(folder / "train-000000.tar") as tar:
        places = {i.name: f"{i.name}@{i.offset_data}+{i.size}" for i in tar}
    shard = "{data_root}/train-000000.tar#"
    entries = {f"in_{n}": {"wav": shard + places[f"{n}.wav"]} for n in NAMES}
    manifest = write_manifest(folder, entries, "sharded")
    assert again(manifests={"train": manifest}) == [*entries]
    found = contents(folder / "codes")
    assert all(found[f"in_{name}.wvq"] == found[f"{name}.wvq"] for name in NAMES)
    assert again(manifests={"train": manifest}) == []


# ---- reading


def test_what_is_read(corpus, codec_folder):
    folder, _ = corpus
    read = read_code_corpus(folder / "codes", folder / "train.json", folder)
    assert [u.id for u in read] == NAMES
    for number, utterance in enumerate(read):
        file = read_code_file(folder / "codes" / f"clip{number}.wvq")
        assert torch.equal(utterance.codes, file.codes) and utterance.codes.dtype == torch.int64
        assert utterance.text == f"This is clip{number}." and utterance.samples == file.samples
        assert utterance.wav == str(folder / f"clip{number}.wav")
        assert utterance.pitch is None and utterance.speaker is None


def test_pitch_and_speakers(tmp_path, converter_folders):
    manifest, codes = write_corpus(tmp_path, speaker="p225"), tmp_path / "codes"
    folder = converter_folders("pitch")
    extract_codes(folder, {"train": manifest}, tmp_path, codes, num_workers=1, device="cpu")
    index = read_index(codes)
    assert (index.pitch_levels, index.samples_per_pitch) == (63, 1024)
    voiced = 0
    for utterance in read_code_corpus(codes, manifest, tmp_path):
        file = read_code_file(codes / f"{utterance.id}.wvq")
        assert utterance.speaker == "p225" and utterance.pitch.dtype == torch.int64
        # Two codes of 512 samples lie in each value of 1024.
        twice = file.pitch.repeat_interleave(2)[: len(file.codes)]
        assert torch.equal(utterance.pitch, twice)
        voiced += int((utterance.pitch > 0).sum())
    assert voiced > 0


def test_what_has_no_text_or_no_codes_is_left_out_and_counted(corpus, caplog):
    folder, _ = corpus
    entries = json.loads((folder / "train.json").read_text())
    entries["clip0"]["text"], entries["clip2"]["text"] = "  ", None
    del entries["clip3"]["text"]
    (folder / "codes" / "clip5.wvq").unlink()
    manifest = write_manifest(folder, entries, "some")
    with caplog.at_level(logging.INFO, "waveglow_vq.training.text_to_codes.code_corpus"):
        read = read_code_corpus(folder / "codes", manifest, folder)
    assert [u.id for u in read] == ["clip1", "clip4"]
    assert "2 utterances; left out: 3 without text and 1 without codes" in caplog.text
    for entry in entries.values():
        entry["text"] = ""
    with pytest.raises(UserError, match="no utterance to train on .6 without text and 0"):
        read_code_corpus(folder / "codes", write_manifest(folder, entries), folder)


def test_codes_that_cannot_be_used_are_named(corpus):
    folder, _ = corpus
    codes, manifest = folder / "codes", folder / "train.json"
    with pytest.raises(UserError, match="not 000000000000"):
        read_code_corpus(codes, manifest, folder, checksum="0" * 64)
    path = codes / "clip2.wvq"
    file = read_code_file(path)
    write_code_file(path, file._replace(checksum="0" * 64))
    with pytest.raises(UserError, match=r"clip2\.wvq holds codes of another model"):
        read_code_corpus(codes, manifest, folder, checksum=file.checksum)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"clip2\.wvq is damaged"):
        read_code_corpus(codes, manifest, folder)
    for content in ("{}", "nonsense", None, (codes / INDEX).read_text().replace("version", "v")):
        (codes / INDEX).unlink()
        if content is not None:
            (codes / INDEX).write_text(content)
        else:
            (codes / INDEX).write_text("[]")
        with pytest.raises(UserError, match=r"codes\.json is missing, damaged"):
            read_index(codes)
    with pytest.raises(UserError, match=r"codes\.json is missing"):
        read_index(folder / "nowhere")
