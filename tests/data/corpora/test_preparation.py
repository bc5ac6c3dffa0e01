import json
import math
from pathlib import Path

from waveglow_vq.data.corpora import preparation
from waveglow_vq.data.corpora.filters import Filters, Sound
from waveglow_vq.data.corpora.preparation import (
    describe_speakers,
    pool_log_f0,
    prepare_manifests,
)
from waveglow_vq.data.corpora.prepared_audio import PreparedAudio
from waveglow_vq.data.corpora.speaker_folders import Recording
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile

SPLITS = ("train", "valid", "test")


def write_corpus(folder, number=20, samples=20_000, seed=0):
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed)
    clips = []
    for index in range(number):
        signal = 0.1 * noise.standard_normal(samples + index)
        path = folder / f"clip{index:02d}.wav"
        soundfile.write(path, signal, 22050, subtype="PCM_16")
        clips.append(Recording(path.stem, "", str(path), path.name, f"text {index}"))
    return clips


def load(folder, name):
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def test_manifests_and_report(tmp_path):
    clips = write_corpus(tmp_path / "corpus")
    soundfile.write(tmp_path / "corpus" / "clip03.wav", np.zeros(20_000), 22050)
    soundfile.write(tmp_path / "corpus" / "clip05.wav", np.full(20_000, 0.005), 22050)
    soundfile.write(tmp_path / "corpus" / "clip07.wav", np.full(9_000, 0.1), 22050)
    clips[9] = clips[9]._replace(text="süß")
    report = prepare_manifests(clips, tmp_path / "out")
    assert report["dropped"] == {
        "too_short": ["clip07"],
        "too_long": [],
        "silent": ["clip03"],
        "too_quiet": ["clip05"],
    }
    assert report == load(tmp_path / "out", "prepare_report")
    entries = {}
    for name in SPLITS:
        manifest = load(tmp_path / "out", name)
        assert len(manifest) == report["splits"][name]["clips"] > 0
        entries.update(manifest)
    assert sorted(entries) == sorted({clip.id for clip in clips} - {"clip03", "clip05", "clip07"})
    assert entries["clip09"] == {
        "wav": "{data_root}/clip09.wav",
        "num_samples": 20_009,
        "duration": pytest.approx(20_009 / 22050),
        "text": "süß",
    }
    assert not list((tmp_path / "out").glob("*.part"))


def test_the_same_manifests_with_any_number_of_workers(tmp_path):
    clips = write_corpus(tmp_path / "corpus")
    for workers in (1, 4):
        prepare_manifests(clips[::-1], tmp_path / f"{workers}", num_workers=workers)
    for name in SPLITS:
        assert load(tmp_path / "1", name) == load(tmp_path / "4", name)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A prepared corpus, and a function that prepares it again and says if files were read."""
    clips = write_corpus(tmp_path / "corpus", number=6)
    read = []
    measure_sound = preparation.measure_sound

    def counting(path, sample_rate):
        read.append(path)
        return measure_sound(path, sample_rate)

    monkeypatch.setattr(preparation, "measure_sound", counting)

    def again(clips=clips, **options):
        read.clear()
        prepare_manifests(clips, tmp_path / "out", **options)
        return bool(read)

    assert again()
    return tmp_path, clips, again


def test_skips_when_up_to_date(prepared):
    folder, _, again = prepared
    before = (folder / "out" / "train.json").stat().st_mtime_ns
    assert not again()
    assert not again(num_workers=3)  # changes nothing in the manifests
    assert (folder / "out" / "train.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"split_ratio": (60, 20, 20)},
        {"filters": Filters(min_samples=100)},
        {"max_utterances": 4},
        {"splits": ("train", "dev", "test")},
    ],
)
def test_another_option_prepares_again(prepared, options):
    assert prepared[2](**options)


def test_another_file_prepares_again(prepared):
    folder, clips, again = prepared
    soundfile.write(folder / "corpus" / "clip02.wav", np.full(30_000, 0.1), 22050)
    assert again()
    assert again(clips[:5])
    assert again([*clips[:4], clips[4]._replace(text="another")])


@pytest.mark.parametrize("lost", ["valid.json", "prepare_report.json"])
def test_a_lost_file_prepares_again(prepared, lost):
    folder, _, again = prepared
    (folder / "out" / lost).unlink()
    assert again()
    assert (folder / "out" / lost).exists()


def test_a_damaged_report_prepares_again(prepared):
    folder, _, again = prepared
    (folder / "out" / "prepare_report.json").write_text("[1, 2")
    assert again()


def test_a_failed_preparation_is_not_taken_for_up_to_date(prepared, monkeypatch):
    folder, _, again = prepared
    monkeypatch.setattr(preparation, "write_json", lambda *_: (_ for _ in ()).throw(OSError()))
    with pytest.raises(OSError):
        again(seed=1)
    monkeypatch.undo()
    assert not (folder / "out" / "prepare_report.json").exists()


def test_max_utterances_is_stable_and_nested(tmp_path):
    clips = write_corpus(tmp_path / "corpus")
    chosen = []
    for number in (4, 8):
        out = tmp_path / f"{number}"
        prepare_manifests(clips[::-1], out, max_utterances=number)
        chosen.append({clip_id for name in SPLITS for clip_id in load(out, name)})
        assert len(chosen[-1]) == number
    assert chosen[0] < chosen[1]
    with pytest.raises(UserError, match="max_utterances: 0"):
        prepare_manifests(clips, tmp_path / "none", max_utterances=0)


def test_filters_that_leave_nothing_are_an_error(tmp_path):
    clips = write_corpus(tmp_path / "corpus", number=4)
    with pytest.raises(UserError, match=r"none of the 4 recordings \(4 too_short\)"):
        prepare_manifests(clips, tmp_path / "out", filters=Filters(min_samples=99_999))


def test_a_missing_file_is_named(tmp_path):
    clips = write_corpus(tmp_path / "corpus", number=5)
    (tmp_path / "corpus" / "clip01.wav").unlink()
    (tmp_path / "corpus" / "clip04.wav").unlink()
    with pytest.raises(UserError, match=r"clip01\.wav .* does not exist, and 1 more"):
        prepare_manifests(clips, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_subset_still_has_the_shares_of_the_splits(tmp_path, monkeypatch):
    """The clips of a subset are chosen independently of the splits they belong to."""
    monkeypatch.setattr(preparation, "measure_sound", lambda *_: Sound(50_000, 0.5, -20.0))
    clips = [Recording(f"{i}", "", str(tmp_path / f"{i}.wav"), f"{i}.wav") for i in range(400)]
    for clip in clips:
        Path(clip.path).touch()
    out, ratio = tmp_path / "out", (50, 25, 25)
    report = prepare_manifests(clips, out, SPLITS, ratio, max_utterances=100)
    sizes = [report["splits"][name]["clips"] for name in SPLITS]
    assert sum(sizes) == 100 and min(sizes) >= 15


# ---- several speakers


def audio(frames, mean, std, samples=25_600):
    return PreparedAudio(Sound(samples, 0.5, -20.0), frames, mean, std)


def test_pooled_statistics_are_those_of_all_frames():
    noise = np.random.default_rng(0)
    clips = [noise.normal(mean, 0.2, count) for mean, count in ((5.0, 30), (5.4, 200), (4.9, 7))]
    pooled = pool_log_f0(audio(len(c), c.mean(), c.std()) for c in clips)
    assert pooled == pytest.approx((np.concatenate(clips).mean(), np.concatenate(clips).std()))
    assert pool_log_f0([audio(0, 0.0, 0.0)]) is None
    assert pool_log_f0([audio(9, 5.0, 0.0)]) == (5.0, 0.05)


def test_manifests_of_several_speakers():
    a, b, c, d, e = (Recording(i, i[0], "", "", "hi") for i in ("a_1", "a_2", "b_1", "a_3", "c_1"))
    info = {"a": {"age": 23, "gender": "F", "accent": "English", "region": None}, "c": {"age": 1}}
    measured = {
        "a_1": audio(100, 5.0, 0.1, samples=44_100),
        "a_2": audio(0, 0.0, 0.0),
        "b_1": audio(300, 5.4, 0.3),
        "a_3": audio(50, 9.0, 0.1),
        "c_1": audio(50, 4.0, 0.01),
    }
    parts = {"train": [a, b, c], "valid": [], "test": [d], "unseen": [e]}
    manifests, speakers = describe_speakers(parts, measured, info, 22050)
    assert manifests["train"]["a_1"] == {
        "wav": "{data_root}/a/a_1.wav",
        "num_samples": 44_100,
        "duration": 2.0,
        "text": "hi",
        "speaker": "a",
        "pitch": "{data_root}/a/a_1.pitch.npy",
        "log_f0_mean": pytest.approx(5.0),
        "log_f0_std": pytest.approx(0.1),
    }
    # Unvoiced throughout: the statistics of all of train (5.0 and 5.4, weighted 1 to 3).
    std = math.sqrt((100 * 0.01 + 300 * 0.09) / 400 + 0.25 * 0.75 * 0.16)
    unvoiced = manifests["train"]["a_2"]
    assert (unvoiced["log_f0_mean"], unvoiced["log_f0_std"]) == pytest.approx((5.3, std))
    assert manifests["unseen"]["c_1"]["log_f0_std"] == 0.05
    assert list(speakers) == ["a", "b"] and manifests["valid"] == {}
    assert speakers["a"] == {
        "train_clips": 2,
        "log_f0_mean": pytest.approx(5.0),  # the test clip does not count
        "log_f0_std": pytest.approx(0.1),
        "age": 23,
        "gender": "F",
        "accent": "English",
        "region": None,
    }
    assert speakers["b"]["gender"] is None


def test_a_corpus_in_which_nothing_is_voiced():
    u = Recording("a_1", "a", "", "")
    parts = {"train": [u], "valid": [], "test": [], "unseen": []}
    manifests, speakers = describe_speakers(parts, {"a_1": audio(0, 0.0, 0.0)}, {}, 22050)
    assert manifests["train"]["a_1"]["log_f0_std"] > 0 and speakers["a"]["log_f0_mean"] > 4
