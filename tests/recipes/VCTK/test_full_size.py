"""The preparation at true size, with empty recordings, and of real recordings and texts where there
are any."""

import gzip
import os
import tempfile
import time
from pathlib import Path

from waveglow_vq.data.corpora.filters import Sound
from waveglow_vq.data.corpora.prepared_audio import PreparedAudio
from waveglow_vq.data.corpora.vctk import scan_vctk

import numpy as np
import pytest
import soundfile
import vctk_prepare
from vctk_prepare import prepare_vctk

from tests.data.corpora.vctk_tree import HEADERS, write_full
from tests.recipes.VCTK.manifests import SPLITS, ids, load


@pytest.fixture
def folder():
    """Removed at once, unlike tmp_path: it takes a hundred thousand files."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def measured(utterances, *_):
    """In place of `prepare_audio`: what it says of recordings of three seconds."""
    known = PreparedAudio(Sound(66_150, 0.5, -20.0), 150, 5.0, 0.2)
    return {u.id: known for u in utterances}, {u.id: "key" for u in utterances}


def dry_run(root, layout, texts, monkeypatch):
    """The counts that must be right for a complete corpus; seconds of the first and second run."""
    monkeypatch.setattr(vctk_prepare, "prepare_audio", measured)
    out = root / "out"
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        prepare_vctk(root, root / "audio", out, unseen_speakers=8)
        seconds.append(time.perf_counter() - start)
    manifests, speakers, report = load(out)
    extra = sum(i.startswith("p225_") for i in texts) if layout == "0.92" else 0
    utterances = len(texts) + 172 + extra
    corpus = report["corpus"]
    assert corpus["utterances"] == len(ids(manifests)) == len(set(ids(manifests))) == utterances
    assert corpus["speakers"] == {"0.80": 109, "0.92": 110}[layout]
    assert corpus["speakers_with_text"] == corpus["speakers"] - 1
    assert corpus["utterances_with_text"] == utterances - 172
    assert report["dropped"] == {
        name: [] for name in ("too_short", "too_long", "silent", "too_quiet")
    }
    entries = {i: entry for manifest in manifests.values() for i, entry in manifest.items()}
    for utterance_id, text in texts.items():
        words = "".join(c for c in text if c.isalpha())
        assert "".join(c for c in entries[utterance_id]["text"] if c.isalpha()) == words
        assert not entries[utterance_id]["text"].endswith(" )")
    trained = {entry["speaker"] for entry in manifests["train"].values()}
    assert set(speakers) == trained and len(speakers) == corpus["speakers"] - 8
    for name in ("valid", "test"):
        assert {entry["speaker"] for entry in manifests[name].values()} == trained
        share = len(manifests[name]) / len(ids(manifests, "train", "valid", "test"))
        assert share == pytest.approx(0.05, abs=0.002)
    assert not trained & {entry["speaker"] for entry in manifests["unseen"].values()}
    assert scan_vctk(root, mic="mic2").counts["microphone_fallbacks"] == (
        {"p280": sum(i.startswith("p280_") for i in texts)} if layout == "0.92" else {}
    )
    prepare_vctk(root, root / "audio", out, disjoint_sentences=True)
    manifests, _, _ = load(out)
    read = [{e["text"].lower() for e in manifests[n].values()} - {""} for n in SPLITS[:3]]
    assert not (read[0] & read[1] or read[0] & read[2] or read[1] & read[2])
    assert len(manifests["test"]) > len(texts) / 100
    print(f"{layout}: {utterances} utterances in {seconds[0]:.1f} s, again in {seconds[1]:.1f} s")


def generated_texts(clips):
    """Texts in the manner of VCTK's: 108 speakers, 24 sentences that all of them read."""
    labels = [f"p{n}" for n in range(225, 334) if n != 315][:107] + ["p376"]
    texts = {}
    for index, label in enumerate(labels):
        for n in range(1, clips + (index < 6)):
            number = n + n // 10  # a gap in every ten
            text = f"Sentence {n}." if n <= 24 else f"Speaker {index} reads sentence {n}."
            form = '"%s  "' if label == "p376" else "%s  )" if label == "p247" else "%s"
            texts[f"{label}_{number:03d}"] = form % text
    return texts


@pytest.mark.parametrize(
    "clips", [41, pytest.param(409, marks=pytest.mark.slow)], ids=["a tenth", "all"]
)
def test_full_size_with_generated_texts(folder, monkeypatch, layout, clips):
    texts = generated_texts(clips)
    assert clips == 41 or len(texts) == 44_070
    rows = "".join(
        f"{'p' * (layout == '0.92')}{label[1:]}  23  F    English\n"
        for label in sorted({i[:4] for i in texts})
    )
    root = write_full(folder / "x", layout, texts, HEADERS[layout] + rows)
    dry_run(root, layout, texts, monkeypatch)


@pytest.fixture(scope="session")
def real_data():
    """The folder that holds VCTK-Corpus and VCTK-Corpus-0.92 (all or some of their recordings).

    WAVEGLOW_VQ_VCTK names it; else they may lie beside the recordings of LJSpeech.
    """
    named = os.environ.get("WAVEGLOW_VQ_VCTK")
    beside = os.environ.get("WAVEGLOW_VQ_LJSPEECH")
    data = Path(named) if named else Path(beside).parent if beside else None
    if data is None or not (data / "VCTK-Corpus").is_dir():
        pytest.skip("WAVEGLOW_VQ_VCTK does not name a folder that holds VCTK-Corpus")
    return data


@pytest.mark.slow
def test_full_size_with_the_real_texts(real_data, folder, monkeypatch, layout):
    name = {"0.80": "VCTK-Corpus", "0.92": "VCTK-Corpus-0.92"}[layout]
    if not (real_data / "vctk_texts.psv.gz").is_file() or not (real_data / name).is_dir():
        pytest.skip(f"{real_data} does not hold vctk_texts.psv.gz and {name}")
    with gzip.open(real_data / "vctk_texts.psv.gz", "rt", encoding="utf-8") as file:
        texts = dict(line.rstrip("\n").split("|", 1) for line in file)
    assert len(texts) == 44_070
    info = (real_data / name / "speaker-info.txt").read_text("utf-8")
    root = write_full(folder / "x", layout, texts, info)
    scan = scan_vctk(root)
    without = {"0.80": ["p280"], "0.92": ["s5"]}[layout]
    assert scan.counts["speakers_without_info"] == without
    assert scan.info["p225"] == {
        "age": 23,
        "gender": "F",
        "accent": "English",
        "region": "Southern England",
    }
    assert scan.info["p362"]["region"] is None and scan.info["p315"]["region"] == "New England"
    assert not [u.id for u in scan.utterances if u.text[:1] == '"' and u.text[-1:] == '"']
    assert not [u.id for u in scan.utterances if u.text.endswith(")")]
    dry_run(root, layout, texts, monkeypatch)


@pytest.mark.parametrize(
    ("name", "speakers", "utterances"), [("VCTK-Corpus", 49, 105), ("VCTK-Corpus-0.92", 21, 21)]
)
def test_real_recordings(real_data, tmp_path, name, speakers, utterances):
    if not (real_data / name).is_dir():
        pytest.skip(f"{real_data} does not hold {name}")
    found = scan_vctk(real_data / name)
    if len(found.utterances) > 1000:
        pytest.skip(f"{name} is complete: that takes too long for a test")
    audio = prepare_vctk(
        real_data / name, tmp_path / "audio", tmp_path / "out", split_ratio=(1, 0, 0)
    )
    manifests, known, report = load(tmp_path / "out")
    assert len(known) == found.counts["speakers"] and len(ids(manifests)) == len(found.utterances)
    for entry in manifests["train"].values():
        pitch = np.load(entry["pitch"].format(data_root=audio))
        wav, rate = soundfile.read(entry["wav"].format(data_root=audio))
        assert rate == 22050 and len(wav) == entry["num_samples"]
        assert len(pitch) == 1 + len(wav) // 256 and (pitch > 0).mean() > 0.15
        assert 4.0 < entry["log_f0_mean"] < 6.0
        source = next(u for u in found.utterances if u.id == Path(entry["wav"]).stem)
        assert entry["duration"] <= soundfile.info(source.path).duration + 1e-3
        assert abs(wav.mean()) < 0.01
    if "SOURCES.csv" in {f.name for f in (real_data / "VCTK-Corpus").iterdir()}:
        # The excerpt that these counts were taken of.
        assert (len(known), len(ids(manifests))) == (speakers, utterances)
        assert report["corpus"]["speakers_with_text"] == {49: 48, 21: 21}[speakers]
