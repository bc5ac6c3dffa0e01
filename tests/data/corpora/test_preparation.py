import json

from waveglow_vq.data.corpora import preparation
from waveglow_vq.data.corpora.preparation import (
    Clip,
    Filters,
    Sound,
    assign_splits,
    loudest_window_dbfs,
    prepare_manifests,
    reason_to_drop,
)
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile

SPLITS, RATIO = ("train", "valid", "test"), (90, 5, 5)
IDS = [f"LJ{chapter:03d}-{clip:04d}" for chapter in range(1, 51) for clip in range(1, 263)][:13100]


def where(parts):
    return {clip_id: name for name, ids in parts.items() for clip_id in ids}


def write_corpus(folder, number=20, samples=20_000, seed=0):
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed)
    clips = []
    for index in range(number):
        signal = 0.1 * noise.standard_normal(samples + index)
        soundfile.write(folder / f"clip{index:02d}.wav", signal, 22050, subtype="PCM_16")
        clips.append(Clip(f"clip{index:02d}", f"clip{index:02d}.wav", f"text {index}"))
    return clips


def load(folder, name):
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def test_splits_have_their_shares_and_lose_nothing():
    parts = assign_splits(IDS, SPLITS, RATIO)
    assert sorted(sum(parts.values(), [])) == sorted(IDS)
    shares = [100 * len(parts[name]) / len(IDS) for name in SPLITS]
    assert np.allclose(shares, RATIO, atol=0.6)


def test_splits_do_not_depend_on_the_order_of_the_list():
    assert assign_splits(IDS[::-1], SPLITS, RATIO) == assign_splits(IDS, SPLITS, RATIO)


def test_a_new_clip_moves_no_other():
    before = where(assign_splits(IDS, SPLITS, RATIO))
    after = where(assign_splits([*IDS, "AA000-0000"], SPLITS, RATIO))
    assert all(after[clip_id] == name for clip_id, name in before.items())


def test_seed_changes_the_splits():
    assert assign_splits(IDS, SPLITS, RATIO, seed=0) != assign_splits(IDS, SPLITS, RATIO, seed=1)


@pytest.mark.parametrize("number", [3, 4, 7, 12])
@pytest.mark.parametrize("seed", range(5))
def test_no_split_of_a_tiny_corpus_is_empty(number, seed):
    parts = assign_splits(IDS[:number], SPLITS, RATIO, seed)
    assert all(parts.values())
    assert sorted(sum(parts.values(), [])) == sorted(IDS[:number])


def test_a_share_of_zero_stays_empty():
    parts = assign_splits(IDS[:500], SPLITS, (90, 10, 0))
    assert parts["test"] == [] and parts["valid"]


@pytest.mark.parametrize(
    ("splits", "ratio"),
    [(("a", "a"), (1, 1)), (("a", "b"), (1,)), (("a", "b"), (1, -1)), (("a",), (0,)), ((), ())],
)
def test_wrong_splits_are_refused(splits, ratio):
    with pytest.raises(UserError, match="splits"):
        assign_splits(IDS, splits, ratio)


def test_more_splits_than_clips_are_refused():
    with pytest.raises(UserError, match="only 2 clips"):
        assign_splits(IDS[:2], SPLITS, RATIO)


def test_loudness_is_that_of_the_loudest_window():
    signal = np.zeros(100_000)
    signal[40_000:56_384] = 0.1
    assert loudest_window_dbfs(signal) == pytest.approx(-20.0)
    assert loudest_window_dbfs(signal[40_000:41_000]) == pytest.approx(-20.0)
    assert loudest_window_dbfs(signal[:30_000]) == -np.inf


@pytest.mark.parametrize(
    ("sound", "filters", "reason"),
    [
        (Sound(16383, 0.5, -20.0), Filters(), "too_short"),
        (Sound(16384, 0.5, -20.0), Filters(), None),
        (Sound(50_001, 0.5, -20.0), Filters(max_samples=50_000), "too_long"),
        (Sound(50_000, 0.5, -20.0), Filters(max_samples=50_000), None),
        (Sound(50_000, 1 / 32768, -90.3), Filters(), "silent"),
        (Sound(50_000, 0.1, -37.5), Filters(), "too_quiet"),
        (Sound(50_000, 0.1, -37.3), Filters(), None),
        (Sound(50_000, 0.1, -60.0), Filters(min_loudness_dbfs=None), None),
        (Sound(50_000, 0.0, -np.inf), Filters(min_loudness_dbfs=None, skip_silent=False), None),
    ],
)
def test_filters(sound, filters, reason):
    assert reason_to_drop(sound, filters) == reason


def test_manifests_and_report(tmp_path):
    clips = write_corpus(tmp_path / "corpus")
    soundfile.write(tmp_path / "corpus" / "clip03.wav", np.zeros(20_000), 22050)
    soundfile.write(tmp_path / "corpus" / "clip05.wav", np.full(20_000, 0.005), 22050)
    soundfile.write(tmp_path / "corpus" / "clip07.wav", np.full(9_000, 0.1), 22050)
    clips[9] = clips[9]._replace(extra={"speaker": "p225"}, text="süß")
    report = prepare_manifests(clips, tmp_path / "corpus", tmp_path / "out")
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
        "speaker": "p225",
    }
    assert not list((tmp_path / "out").glob("*.part"))


def test_the_same_manifests_with_any_number_of_workers(tmp_path):
    clips = write_corpus(tmp_path / "corpus")
    for workers in (1, 4):
        prepare_manifests(
            clips[::-1], tmp_path / "corpus", tmp_path / f"{workers}", num_workers=workers
        )
    for name in SPLITS:
        assert load(tmp_path / "1", name) == load(tmp_path / "4", name)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A prepared corpus, and a function that prepares it again and says if files were read."""
    clips = write_corpus(tmp_path / "corpus", number=6)
    read = []
    inspect_sound = preparation.inspect_sound

    def counting(path, sample_rate):
        read.append(path)
        return inspect_sound(path, sample_rate)

    monkeypatch.setattr(preparation, "inspect_sound", counting)

    def again(clips=clips, **options):
        read.clear()
        prepare_manifests(clips, tmp_path / "corpus", tmp_path / "out", **options)
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
        prepare_manifests(clips[::-1], tmp_path / "corpus", out, max_utterances=number)
        chosen.append({clip_id for name in SPLITS for clip_id in load(out, name)})
        assert len(chosen[-1]) == number
    assert chosen[0] < chosen[1]
    with pytest.raises(UserError, match="max_utterances is 0"):
        prepare_manifests(clips, tmp_path / "corpus", tmp_path / "none", max_utterances=0)


def test_filters_that_leave_nothing_are_an_error(tmp_path):
    clips = write_corpus(tmp_path / "corpus", number=4)
    with pytest.raises(UserError, match=r"none of the 4 clips .* \(4 too_short\)"):
        prepare_manifests(
            clips, tmp_path / "corpus", tmp_path / "out", filters=Filters(min_samples=99_999)
        )


def test_a_file_outside_of_the_corpus_is_refused(tmp_path):
    clips = write_corpus(tmp_path / "corpus", number=3)
    soundfile.write(tmp_path / "outside.wav", np.full(20_000, 0.1), 22050)
    clips.append(Clip("outside", "../outside.wav", "text"))
    with pytest.raises(UserError, match="outside of"):
        prepare_manifests(clips, tmp_path / "corpus", tmp_path / "out")


def test_a_missing_file_is_named(tmp_path):
    clips = write_corpus(tmp_path / "corpus", number=5)
    (tmp_path / "corpus" / "clip01.wav").unlink()
    (tmp_path / "corpus" / "clip04.wav").unlink()
    with pytest.raises(UserError, match=r"clip01\.wav .* does not exist, and 1 more"):
        prepare_manifests(clips, tmp_path / "corpus", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_subset_still_has_the_shares_of_the_splits(tmp_path, monkeypatch):
    """The clips of a subset are chosen independently of the splits they belong to."""
    monkeypatch.setattr(preparation, "inspect_sound", lambda *_: Sound(50_000, 0.5, -20.0))
    clips = [Clip(clip_id, f"{clip_id}.wav", "text") for clip_id in IDS[:400]]
    for clip in clips:
        (tmp_path / clip.file).touch()
    report = prepare_manifests(
        clips, tmp_path, tmp_path / "out", SPLITS, (50, 25, 25), max_utterances=100
    )
    sizes = [report["splits"][name]["clips"] for name in SPLITS]
    assert sum(sizes) == 100 and min(sizes) >= 15
