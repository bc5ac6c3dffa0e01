import json

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.errors import UserError
from waveglow_vq.training.text_to_codes import text_preparation as experiment
from waveglow_vq.training.text_to_codes.text_preparation import CodecFacts, prepare_text, read_codec

import pytest
import ruamel.yaml

from tests.inference.exports import export_tiny

REPORT = {"codebook_size": 32, "pitch_levels": 7, "checksum": "a" * 64}


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Hyperparameters over a corpus of three speakers, whose codes are said to be there."""
    entries = {
        f"{label}_{number}": {"wav": f"{{data_root}}/{label}.wav", "speaker": label, "text": text}
        for label in ("p3", "p1", "p2")
        for number, text in enumerate(["A cat sat.", "Who saw it?"] if label != "p2" else ["", " "])
    }
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps(entries), "utf-8")
    asked = {}
    monkeypatch.setattr(
        experiment, "extract_codes", lambda *args, **more: asked.update(more) or REPORT
    )
    return {
        "codec": tmp_path / "codec",
        "codes_folder": tmp_path / "codes",
        "manifest_folder": tmp_path,
        "tokenizer_file": tmp_path / "tokenizer.model",
        "tokenizer": "char",
        "vocabulary_size": 500,
        "max_characters": None,
        "closing_mark": None,
        "code_workers": 3,
        "max_skipped_clips": 5,
        "asked": asked,
    }


def filled(hparams, overrides="", speakers=()):
    codec = CodecFacts(22050, 256, list(speakers))
    text = prepare_text(hparams, overrides, hparams["manifest_folder"], codec, "cpu")
    return ruamel.yaml.YAML(typ="safe").load(text)


def test_sizes_follow_from_corpus_and_codec(options):
    found = filled(options)
    size = found["preset"].pop("vocabulary_size")
    assert 10 < size < 20
    assert found == {
        "preset": {"codebook_size": 32, "pitch_levels": 7},
        "codec_checksum": "a" * 64,
        "max_characters": len("Who saw it?"),
        "closing_mark": ".",
    }
    assert options["asked"] == {"num_workers": 3, "device": "cpu", "max_skipped": 5}


def test_what_was_given_stays(options):
    given = "{size: base, preset: {channels: 32, codebook_size: 5}, codec: /some/where}"
    found = filled(options, given)
    assert (found["size"], found["codec"]) == ("base", "/some/where")
    assert "max_characters" not in filled({**options, "max_characters": 90})
    assert "closing_mark" not in filled({**options, "closing_mark": ""})
    assert (found["preset"]["channels"], found["preset"]["codebook_size"]) == (32, 32)


def test_speakers_are_those_with_texts_whom_the_codec_knows(options):
    options["speakers"] = None
    assert filled(options)["speakers"] == ["p1", "p3"]
    found = filled(options, speakers=["p9", "p3", "p2", "p1"])
    assert found["speakers"] == ["p3", "p1"]  # in the order of the codec
    assert found["preset"]["max_speakers"] == 2
    with pytest.raises(UserError, match="knows none of the speakers"):
        filled(options, speakers=["p2", "p9"])


def test_a_tokenizer_that_is_there_is_kept(options):
    filled(options)
    before = options["tokenizer_file"].read_bytes()
    (options["manifest_folder"] / "train.json").write_text(
        json.dumps({"x": {"wav": "{data_root}/x.wav", "text": "zzz"}}), "utf-8"
    )
    filled(options)
    # For characters, the number of tokens is no option.
    filled({**options, "vocabulary_size": 7})
    assert options["tokenizer_file"].read_bytes() == before
    with pytest.raises(UserError, match="kind char.*--tokenizer bpe .*--output_folder"):
        filled({**options, "tokenizer": "bpe", "vocabulary_size": 17})


def test_a_tokenizer_of_byte_pairs_is_told_by_its_size(options):
    options |= {"tokenizer": "bpe", "vocabulary_size": 17}
    assert filled(options)["preset"]["vocabulary_size"] == 17
    filled(options)
    for change in ({"vocabulary_size": 18}, {"tokenizer": "char"}):
        with pytest.raises(UserError, match="is a tokenizer of 17 tokens"):
            filled({**options, **change})


def test_without_texts_there_is_nothing_to_learn(options):
    path = options["manifest_folder"] / "train.json"
    path.write_text(json.dumps({"x": {"wav": "{data_root}/x.wav", "text": " "}}), "utf-8")
    with pytest.raises(UserError, match="train.json has no texts"):
        filled(options)


def test_codecs_are_checked(tmp_path):
    codec = export_tiny(tmp_path / "codec", "mel_vq")[0]
    assert read_codec(codec) == CodecFacts(22050, 256, [])
    voices = export_tiny(tmp_path / "voices", "mel_vq", labels=["a", "b"])[0]
    assert read_codec(voices, several=True).speakers == ["a", "b"]
    with pytest.raises(UserError, match="has 2 voices, but this recipe has one speaker"):
        read_codec(voices)
    with pytest.raises(UserError, match="no codes"):
        read_codec(export_tiny(tmp_path / "vocoder", "mel")[0])
