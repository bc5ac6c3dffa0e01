import json
import logging
import subprocess
import sys
from pathlib import Path

from waveglow_vq.data.shards.format import read_shards, sound_source
from waveglow_vq.data.speakers import read_speakers
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import vctk_prepare
from vctk_prepare import prepare_vctk

from tests.data.corpora.vctk_tree import (
    sound_path,
    voice,
    write_small,
    write_sound,
    write_text,
)
from tests.recipes.VCTK.manifests import SPLITS, ids, load


@pytest.fixture
def corpus(tmp_path, layout):
    """Three speakers with 4, 4 and 2 utterances of one second."""
    return write_small(tmp_path / "data" / "VCTK-Corpus", layout)


@pytest.fixture
def prepare(tmp_path):
    """A function that prepares into the same folders each time and returns manifests and report."""

    def run(data_folder, **options):
        options = {"split_ratio": (50, 25, 25), "num_workers": 1, **options}
        out = tmp_path / "out"
        assert prepare_vctk(data_folder, tmp_path / "audio", out, **options) == tmp_path / "audio"
        return load(out)

    return run


def test_prepare(corpus, prepare, tmp_path):
    manifests, speakers, report = prepare(corpus.parent)
    assert [len(manifests[name]) for name in SPLITS] == [6, 2, 2, 0]
    for name in SPLITS:
        for utterance_id, entry in manifests[name].items():
            assert list(entry) == [
                "wav",
                "num_samples",
                "duration",
                "text",
                "speaker",
                "pitch",
                "log_f0_mean",
                "log_f0_std",
            ]
            assert entry["speaker"] == utterance_id[:4]
            assert entry["text"] == f"Text of {utterance_id}."
            info = soundfile.info(entry["wav"].format(data_root=tmp_path / "audio"))
            assert (info.samplerate, info.channels, info.subtype) == (22050, 1, "PCM_16")
            assert info.frames == entry["num_samples"] == round(entry["duration"] * 22050)
            pitch = np.load(entry["pitch"].format(data_root=tmp_path / "audio"))
            assert pitch.shape == (1 + info.frames // 256,) and pitch.dtype == np.float32
            hz = 220 if entry["speaker"] == "p226" else 110
            assert np.exp(entry["log_f0_mean"]) == pytest.approx(hz, rel=0.02)
            assert entry["log_f0_std"] == 0.05  # the least
    assert list(speakers) == ["p225", "p226", "p227"]
    assert speakers["p226"] == {
        "train_clips": 2,
        "log_f0_mean": pytest.approx(np.log(220), abs=0.02),
        "log_f0_std": 0.05,
        "age": 23,
        "gender": "F",
        "accent": "English",
        "region": "Surrey",
    }
    assert report["corpus"]["utterances"] == 10 and report["corpus"]["ignored_files"] == 0
    assert report["splits"]["train"]["clips"] == 6 and report["splits"]["train"]["speakers"] == 3
    assert report["splits"]["train"]["with_text"] == 6
    assert report["splits"]["train"]["hours"] == pytest.approx(6 / 3600, rel=0.05)


def test_shards(corpus, prepare, tmp_path):
    folder = tmp_path / "shards"
    expected, _, _ = prepare(corpus, shards_folder=folder, unseen_speakers=["p226"])
    manifests, speakers, report = load(folder)
    assert {name: list(manifests[name]) for name in SPLITS} == {
        name: list(expected[name]) for name in SPLITS
    }
    assert list(speakers) == read_speakers(folder).labels == ["p225", "p227"]
    assert report == json.loads((tmp_path / "out" / "prepare_report.json").read_text("utf-8"))
    for name in SPLITS:
        assert sum(len(shard.ids) for shard in read_shards(folder).of(name)) == len(expected[name])
        for utterance_id, entry in manifests[name].items():
            for key in ("wav", "pitch"):
                original = Path(
                    expected[name][utterance_id][key].format(data_root=tmp_path / "audio")
                )
                member = sound_source(entry[key].format(data_root=folder))
                assert member.data == original.read_bytes()
    # Also when the manifests are up to date, and when they are relied on.
    for more in ({}, {"skip_prep": True}):
        prepare(
            corpus, shards_folder=tmp_path / f"again{len(more)}", unseen_speakers=["p226"], **more
        )
        again = (tmp_path / f"again{len(more)}" / "shards.json").read_bytes()
        assert again == (folder / "shards.json").read_bytes()


def test_nothing_to_do_the_second_time(corpus, prepare, tmp_path, caplog):
    first = prepare(corpus)
    stamps = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")}
    with caplog.at_level(logging.INFO):
        assert prepare(corpus, num_workers=2) == first
    assert "up to date" in caplog.text
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")} == stamps


@pytest.mark.parametrize("layout", ["0.80"])
@pytest.mark.parametrize(
    "options",
    [
        {"seed": 3},
        {"split_ratio": (70, 30, 0)},
        {"unseen_speakers": 1},
        {"unseen_speakers": "p225"},
        {"disjoint_sentences": True},
        {"max_utterances": 7},
        {"speakers": ["p225", "p226"]},
        {"min_samples": 22040},
        {"max_samples": 22060},
        {"min_loudness_dbfs": None},
        {"skip_silent": False},
    ],
)
def test_other_options_make_other_manifests_of_the_same_audio(corpus, prepare, tmp_path, options):
    prepare(corpus)
    before = (tmp_path / "out" / "prepare_report.json").read_text()
    stamps = {f: f.stat().st_mtime_ns for f in (tmp_path / "audio").rglob("*")}
    prepare(corpus, **options)
    assert (tmp_path / "out" / "prepare_report.json").read_text() != before
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "audio").rglob("*")} == stamps


def test_a_change_of_text_sound_or_info_is_noticed(corpus, layout, prepare):
    prepare(corpus)

    def entry(utterance_id):
        manifests, _, _ = prepare(corpus)
        return {i: e for m in manifests.values() for i, e in m.items()}[utterance_id]

    write_text(corpus, "p225_002", "Another text.")
    assert entry("p225_002")["text"] == "Another text."
    write_sound(corpus, layout, "p226_004", voice(1.5))
    assert entry("p226_004")["duration"] == pytest.approx(1.5, abs=0.01)
    info = (corpus / "speaker-info.txt").read_text()
    (corpus / "speaker-info.txt").write_text(info.replace("23", "24"))
    assert prepare(corpus)[1]["p225"]["age"] == 24


@pytest.mark.parametrize("layout", ["0.80"])
@pytest.mark.parametrize("lost", ["valid.json", "unseen.json", "speakers.json"])
def test_a_lost_manifest_is_made_again(corpus, prepare, tmp_path, lost):
    first = prepare(corpus)
    (tmp_path / "out" / lost).unlink()
    assert prepare(corpus) == first


def test_options_of_the_sound(corpus, layout, prepare, tmp_path):
    signal = np.concatenate([np.zeros(24_000), voice(1.0), np.zeros(24_000)])
    write_sound(corpus, layout, "p225_002", signal)

    def seconds(**options):
        manifests, _, _ = prepare(corpus, **options)
        return {i: e for m in manifests.values() for i, e in m.items()}["p225_002"]["duration"]

    assert seconds() == pytest.approx(1.2, abs=0.05)
    assert seconds(trim_silence=False) == pytest.approx(2.0)
    assert seconds(sample_rate=16000, trim_silence=False, min_samples=1) == pytest.approx(2.0)
    info = soundfile.info(tmp_path / "audio" / "p225" / "p225_002.wav")
    assert info.samplerate == 16000


@pytest.mark.parametrize("layout", ["0.80"])
def test_filters_look_at_the_prepared_audio(corpus, layout, prepare):
    quiet = np.concatenate([np.zeros(48_000), voice(0.5), np.zeros(48_000)])
    write_sound(corpus, layout, "p225_002", quiet)  # long enough before it is trimmed
    write_sound(corpus, layout, "p225_004", 0.02 * voice(1.0))
    write_sound(corpus, layout, "p226_002", np.zeros(48_000))
    write_sound(corpus, layout, "p226_004", voice(3.0))
    manifests, speakers, report = prepare(corpus, max_samples=60_000)
    assert report["dropped"] == {
        "too_short": ["p225_002"],
        "too_long": ["p226_004"],
        "silent": ["p226_002"],
        "too_quiet": ["p225_004"],
    }
    assert len(ids(manifests)) == 6 and speakers["p225"]["train_clips"] <= 2
    with pytest.raises(UserError, match=r"leave none of the 10 .* \(10 too_short\)"):
        prepare(corpus, min_samples=99_999)


def test_speakers_without_text_or_info_or_microphone(tmp_path, prepare):
    root = write_small(tmp_path / "vctk", "0.92")
    for utterance_id in ("p315_001", "p315_002", "s5_001"):
        write_sound(root, "0.92", utterance_id, voice(1.0), mic="mic2")
    manifests, speakers, report = prepare(root, mic="mic1")
    assert list(speakers) == ["p225", "p226", "p227", "p315", "s5"]
    assert {e["text"] for m in manifests.values() for e in m.values() if e["speaker"] > "p3"} == {
        ""
    }
    assert speakers["p315"]["gender"] is None
    assert report["corpus"]["microphone_fallbacks"] == {"p315": 2, "s5": 1}
    assert report["corpus"]["speakers_without_info"] == ["p315", "s5"]
    assert report["corpus"]["speakers_with_text"] == 3
    assert sum(report["splits"][name]["with_text"] for name in SPLITS) == 10


def test_the_other_microphone_is_another_recording(tmp_path, prepare):
    root = write_small(tmp_path / "vctk", "0.92")
    write_sound(root, "0.92", "p225_002", voice(2.0), mic="mic2")

    def seconds(mic):
        manifests, _, _ = prepare(root, mic=mic)
        return {i: e for m in manifests.values() for i, e in m.items()}["p225_002"]["duration"]

    assert seconds("mic1") == pytest.approx(1.0, abs=0.01)
    assert seconds("mic2") == pytest.approx(2.0, abs=0.01)
    assert seconds("mic1") == pytest.approx(1.0, abs=0.01)


def test_additional_speakers_and_unseen_ones(corpus, prepare, tmp_path):
    more = tmp_path / "more"
    for speaker in ("1688", "2609"):
        (more / speaker).mkdir(parents=True)
        for n in range(4):
            signal = voice(1.0, 16000, f0=150.0)
            soundfile.write(more / speaker / f"{speaker}-5-{n:04d}.flac", signal, 16000)
    (more / "SPEAKERS.TXT").touch()
    manifests, speakers, report = prepare(
        corpus, additional_folders=more, unseen_speakers=["p226", 2609]
    )
    assert {entry["speaker"] for entry in manifests["unseen"].values()} == {"p226", "2609"}
    assert list(speakers) == ["1688", "p225", "p227"]
    assert len(manifests["unseen"]) == 8 and len(ids(manifests)) == 18
    assert report["options"]["unseen_speakers"] == ["2609", "p226"]
    manifests, speakers, _ = prepare(corpus, additional_folders=[more], unseen_speakers=2)
    assert len({entry["speaker"] for entry in manifests["unseen"].values()}) == 2
    assert len(speakers) == 3


def test_disjoint_sentences(tmp_path, layout, prepare):
    root = write_small(tmp_path / "vctk", layout, {"p225": 8, "p226": 8, "p227": 8})
    for speaker in ("p225", "p226", "p227"):
        for n in range(1, 9):
            write_text(root, f"{speaker}_{2 * n:03d}", f"Sentence {n}" + (".", "!")[n % 2])
    manifests, _, _ = prepare(root, disjoint_sentences=True)
    texts = [{e["text"] for e in manifests[name].values()} for name in SPLITS[:3]]
    assert all(texts) and not (texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2])
    assert len(ids(manifests)) == 24


@pytest.mark.parametrize("layout", ["0.92"])
def test_max_utterances_is_nested(corpus, prepare):
    few, more = (set(ids(prepare(corpus, max_utterances=n)[0])) for n in (5, 8))
    assert len(few) == 5 and len(more) == 8 and few < more


@pytest.mark.parametrize("layout", ["0.80"])
def test_skip_prep_relies_on_what_is_there(corpus, prepare, tmp_path):
    with pytest.raises(UserError, match=r"--skip_prep is on, but .* has no train\.json"):
        prepare(corpus, skip_prep=True)
    first = prepare(corpus)
    assert prepare(tmp_path / "gone", skip_prep=True) == first
    (tmp_path / "out" / "speakers.json").unlink()
    with pytest.raises(UserError, match=r"has no speakers\.json"):
        prepare(corpus, skip_prep=True)


@pytest.mark.parametrize("where", ["", "p225"])
def test_prepared_audio_among_the_recordings_is_refused(corpus, layout, tmp_path, where):
    folder = sound_path(corpus, layout, "p225_002").parents[1] / where / "prepared"
    with pytest.raises(UserError, match="lies within the recordings"):
        prepare_vctk(corpus, folder, tmp_path / "out")
    (tmp_path / "more" / "anna").mkdir(parents=True)
    (tmp_path / "more" / "anna" / "1.wav").touch()
    with pytest.raises(UserError, match="lies within the recordings"):
        prepare_vctk(
            corpus, tmp_path / "more" / where, tmp_path / "out", "mic1", [tmp_path / "more"]
        )


def test_an_empty_recording_is_named(corpus, layout, prepare, tmp_path):
    write_sound(corpus, layout, "p226_006")
    with pytest.raises(UserError, match=r"p226_006.*is an empty file") as error:
        prepare(corpus)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["0.80"])
def test_command_line(corpus, tmp_path):
    command = [sys.executable, vctk_prepare.__file__, "--data_folder", str(corpus)]
    command += ["--audio_folder", str(tmp_path / "a"), "--manifest_folder", str(tmp_path / "m")]
    command += ["--split_ratio", "50", "25", "25", "--unseen_speakers", "1", "--num_workers", "2"]
    command += ["--min_loudness_dbfs", "none", "--trim_silence", "false"]
    command += ["--shards_folder", str(tmp_path / "s"), "--utterances_per_shard", "1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "10 utterances of 3 speakers found" in result.stderr
    manifests, speakers, report = load(tmp_path / "m")
    assert len(speakers) == 2 and manifests["unseen"] and not report["options"]["trim_silence"]
    shards = read_shards(tmp_path / "s").of("train")
    assert len(shards) == len(manifests["train"])


@pytest.mark.parametrize("layout", ["0.80"])
@pytest.mark.parametrize(
    ("unseen", "expected"), [(["p225"], ["p225"]), (["2"], 2), (["1", "2"], 0)]
)
def test_command_line_tells_labels_from_a_number(corpus, tmp_path, capsys, unseen, expected):
    command = ["--data_folder", str(corpus), "--audio_folder", str(tmp_path / "a")]
    command += ["--manifest_folder", str(tmp_path / "m"), "--split_ratio", "100", "0", "0"]
    command += ["--num_workers", "1", "--unseen_speakers", *unseen]
    if expected:
        vctk_prepare.main(command)
        assert load(tmp_path / "m")[2]["options"]["unseen_speakers"] == expected
    else:
        with pytest.raises(SystemExit):
            vctk_prepare.main(command)
        message = capsys.readouterr().err.splitlines()[-1]
        assert message == "error: unseen_speakers names 1, 2, but the speakers are p225, p226, p227"
