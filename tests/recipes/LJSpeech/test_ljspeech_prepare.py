import json
import subprocess
import sys
import tarfile
from pathlib import Path

from waveglow_vq.data.corpora.filters import Sound
from waveglow_vq.data.manifests import load_manifest
from waveglow_vq.data.shards.format import read_shards, sound_source
from waveglow_vq.errors import UserError

import ljspeech_prepare
import numpy as np
import pytest
import soundfile
from ljspeech_prepare import find_ljspeech, prepare_ljspeech, read_metadata

SPLITS = ("train", "valid", "test")


@pytest.fixture
def corpus(tmp_path):
    """Ten clips of noise in the layout of LJSpeech-1.1."""
    folder = tmp_path / "data" / "LJSpeech-1.1"
    (folder / "wavs").mkdir(parents=True)
    noise = np.random.default_rng(0)
    rows = []
    for index in range(1, 11):
        clip_id = f"LJ001-{index:04d}"
        signal = 0.1 * noise.standard_normal(20_000)
        soundfile.write(folder / "wavs" / f"{clip_id}.wav", signal, 22050, subtype="PCM_16")
        rows.append(f"{clip_id}|In 18{index:02d}|In eighteen {index}\n")
    (folder / "metadata.csv").write_text("".join(rows), "utf-8")
    return folder


def load_all(folder):
    entries = {}
    for name in SPLITS:
        entries.update(json.loads((folder / f"{name}.json").read_text("utf-8")))
    return entries


@pytest.mark.parametrize("given", ["the corpus", "the folder that holds it"])
def test_prepare(corpus, tmp_path, given):
    data_folder = corpus if given == "the corpus" else corpus.parent
    assert prepare_ljspeech(data_folder, tmp_path / "out") == corpus
    entries = load_all(tmp_path / "out")
    assert len(entries) == 10
    assert entries["LJ001-0003"] == {
        "wav": "{data_root}/wavs/LJ001-0003.wav",
        "num_samples": 20_000,
        "duration": pytest.approx(20_000 / 22050),
        "text": "In eighteen 3",
    }


def test_options_reach_the_preparation(corpus, tmp_path):
    soundfile.write(corpus / "wavs" / "LJ001-0001.wav", np.full(20_000, 0.001), 22050)
    soundfile.write(corpus / "wavs" / "LJ001-0002.wav", np.zeros(20_000), 22050)
    soundfile.write(corpus / "wavs" / "LJ001-0003.wav", np.full(30_000, 0.1), 22050)
    soundfile.write(corpus / "wavs" / "LJ001-0004.wav", np.full(5_000, 0.1), 22050)

    def kept(**options):
        prepare_ljspeech(corpus, tmp_path / "out", **options)
        everything = {f"LJ001-{index:04d}" for index in range(1, 11)}
        return sorted(clip_id[-1] for clip_id in everything - set(load_all(tmp_path / "out")))

    assert kept() == ["1", "2", "4"]
    assert kept(max_samples=25_000) == ["1", "2", "3", "4"]
    assert kept(min_samples=None, min_loudness_dbfs=None) == ["2"]
    assert kept(min_samples=1, min_loudness_dbfs=None, skip_silent=False) == []
    prepare_ljspeech(corpus, tmp_path / "half", ("train", "dev"), (50, 50), max_utterances=6)
    sizes = [
        len(json.loads((tmp_path / "half" / f"{n}.json").read_text())) for n in ("train", "dev")
    ]
    assert 2 < sum(sizes) <= 6 and min(sizes) > 0


def test_skip_prep_relies_on_what_is_there(corpus, tmp_path):
    with pytest.raises(UserError, match=r"--skip_prep is on, but .* has no train\.json"):
        prepare_ljspeech(corpus, tmp_path / "out", skip_prep=True)
    prepare_ljspeech(corpus, tmp_path / "out")
    (corpus / "wavs" / "LJ001-0001.wav").unlink()  # nothing is checked any more
    assert prepare_ljspeech(corpus, tmp_path / "out", skip_prep=True) == corpus


@pytest.mark.parametrize("skip_prep", [False, True])
def test_shards(corpus, tmp_path, skip_prep):
    options = {"shards_folder": tmp_path / "shards", "utterances_per_shard": 1}
    if skip_prep:
        prepare_ljspeech(corpus, tmp_path / "out")
    prepare_ljspeech(corpus, tmp_path / "out", skip_prep=skip_prep, **options)
    shards = read_shards(tmp_path / "shards", 22050)
    assert [len(shards.of(name)) for name in SPLITS] == [
        len(json.loads((tmp_path / "out" / f"{name}.json").read_text("utf-8"))) for name in SPLITS
    ]
    entries = load_all(tmp_path / "shards")
    assert len(entries) == 10
    for clip_id, entry in entries.items():
        source = sound_source(entry["wav"].format(data_root=tmp_path / "shards"))
        assert source.data == (corpus / "wavs" / f"{clip_id}.wav").read_bytes()


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_no_data_folder_says_the_three_ways_on(tmp_path, nothing):
    with pytest.raises(UserError) as error:
        prepare_ljspeech(nothing, tmp_path / "out", download=True)
    message = str(error.value)
    for way in ("--data_folder FOLDER", "--download true", "make demo"):
        assert way in message
    assert "\n" not in message and ". " not in message  # one sentence


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist; .*--download true"):
        prepare_ljspeech(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match=r"holds no LJSpeech-1\.1"):
        prepare_ljspeech(tmp_path, tmp_path / "out")


def test_metadata_is_no_csv(tmp_path):
    """Quotation marks mean nothing, and rare Unicode line separators belong to the text."""
    file = tmp_path / "metadata.csv"
    file.write_bytes(
        'LJ1|"Open|"Open quote\r\nLJ2|a\x85b|a\u2028b\n'
        'LJ3|só "x"|só "x"\nLJ4|only text|\n\n'.encode()
    )
    texts = list(read_metadata(file).items())
    assert texts == [
        ("LJ1", '"Open quote'),
        ("LJ2", "a\u2028b"),
        ("LJ3", 'só "x"'),
        ("LJ4", "only text"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"LJ1|a|a\nLJ2|a\n", "line 2: .* found 1 pipes"),
        (b"LJ1|a|a\n\nLJ2|a|b|c\n", "line 3: .* found 3 pipes"),
        (b"LJ1|a|a\n../LJ2|a|b\n", "line 2: .* cannot be an id"),
        (b"|a|b\n", "line 1: .* cannot be an id"),
        (b"LJ1|a|a\nLJ2|a|a\nLJ1|b|b\n", "line 3: the id LJ1 is on line 1 already"),
        (b"LJ1|\xe9|a\n", "is not UTF-8"),
    ],
)
def test_wrong_metadata(tmp_path, content, message):
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"metadata\.csv.*{message}"):
        prepare_ljspeech(tmp_path, tmp_path / "out")


def test_two_columns_and_any_ids(tmp_path):
    file = tmp_path / "metadata.csv"
    file.write_bytes("\ufeffa b|One.\r\ncafe\u0301.2|Two{}\r\nжук #1|\x85Three\x0c!\r\n".encode())
    clips = list(read_metadata(file).items())
    assert clips == [("a b", "One."), ("caf\xe9.2", "Two{}"), ("жук #1", "Three\x0c!")]
    file.write_bytes(b"a|One.\rb|Two.\r")
    assert list(read_metadata(file).values()) == ["One.", "Two."]
    for bad in ("a/../b", "/a", "..", ".a", "a\\b", "a\tb"):
        file.write_text(f"{bad}|Text.\n", "utf-8")
        with pytest.raises(UserError, match=r"line 1: .* cannot be an id"):
            read_metadata(file)
    file.write_text("caf\xe9|Text.\ncafe\u0301|Text.\n", "utf-8")
    with pytest.raises(UserError, match="line 2: the id café is on line 1 already"):
        read_metadata(file)


def test_recordings_of_any_kind_behind_links(tmp_path):
    """From the corpus to shards, whatever the names."""
    disk, corpus, noise = tmp_path / "disk", tmp_path / "corpus", np.random.default_rng(0)
    disk.mkdir()
    corpus.mkdir()
    (corpus / "wavs").symlink_to(disk)
    ids = ["a b", "caf\xe9.2", "{0} #1@5+7", "n" * 240]
    names = ["a b.FLAC", "cafe\u0301.2.aiff", "{0} #1@5+7.wav", "n" * 240 + ".au"]
    for name in names:
        kind = "aiff" if name.endswith("f") else name.rpartition(".")[2]
        signal = 0.1 * noise.standard_normal(20_000)
        soundfile.write(str(disk / name), signal, 22050, subtype="PCM_16", format=kind)
    (disk / "unlisted.m4a").touch()
    (corpus / "metadata.csv").write_text("".join(f"{i}|Text {{of}} it.\n" for i in ids), "utf-8")
    prepare_ljspeech(corpus, tmp_path / "out", shards_folder=tmp_path / "shards")
    entries = load_all(tmp_path / "out")
    assert {i: entries[i]["wav"] for i in ids} == {
        i: f"{{data_root}}/wavs/{name}" for i, name in zip(ids, names, strict=True)
    }
    for split in SPLITS:
        for key, entry in load_manifest(tmp_path / "shards" / f"{split}.json", "shards").items():
            source = sound_source(str(tmp_path / entry["wav"]))
            assert source.data == (disk / names[ids.index(key)]).read_bytes()
    soundfile.write(disk / "a b.wav", signal, 22050)
    with pytest.raises(UserError, match="a b.FLAC and a b.wav are all recordings of a b; keep one"):
        prepare_ljspeech(corpus, tmp_path / "out")
    (disk / "a b.wav").unlink()
    (disk / "a b.FLAC").rename(disk / "a b.m4a")
    with pytest.raises(UserError, match='a b.m4a is of a kind that is not read; ffmpeg -i "a b.m4'):
        prepare_ljspeech(corpus, tmp_path / "out")


def spoil(kind, file):
    signal = np.random.default_rng(1).standard_normal(20_000) * 0.1
    if kind == "missing":
        file.unlink()
    elif kind == "empty file":
        file.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(file, signal[:0], 22050)
    elif kind == "no wav":
        file.write_bytes(b"this is no sound at all")
    elif kind == "truncated":
        file.write_bytes(file.read_bytes()[:-9_000])
    elif kind == "stereo":
        soundfile.write(file, np.stack([signal, signal], axis=1), 22050)
    elif kind == "another rate":
        soundfile.write(file, signal, 16000)
    elif kind == "NaN":
        signal[777] = np.nan
        soundfile.write(file, signal, 22050, subtype="FLOAT")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist"),
        ("empty file", "empty"),
        ("no samples", "no samples"),
        ("no wav", "cannot be read"),
        ("truncated", "truncated"),
        ("stereo", "2 channels"),
        ("another rate", "16000 Hz .* 22050 Hz"),
        ("NaN", "NaN"),
    ],
)
def test_a_bad_clip_is_named(corpus, tmp_path, kind, message):
    spoil(kind, corpus / "wavs" / "LJ001-0004.wav")
    with pytest.raises(UserError, match=rf"LJ001-0004\.wav.*{message}"):
        prepare_ljspeech(corpus, tmp_path / "out", num_workers=2)
    assert not (tmp_path / "out" / "train.json").exists()


def test_full_size(tmp_path, monkeypatch):
    """13,100 clips; only the reading of the sound is left out."""
    monkeypatch.setattr(
        "waveglow_vq.data.corpora.preparation.measure_sound", lambda *_: Sound(150_000, 0.5, -20.0)
    )
    (tmp_path / "wavs").mkdir()
    rows = []
    for index in range(13_100):
        clip_id = f"LJ{index // 270 + 1:03d}-{index % 270 + 1:04d}"
        rows.append(f"{clip_id}|text {index}|text {index}\n")
        (tmp_path / "wavs" / f"{clip_id}.wav").touch()
    (tmp_path / "metadata.csv").write_text("".join(rows))
    prepare_ljspeech(tmp_path, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "prepare_report.json").read_text())
    sizes = [report["splits"][name]["clips"] for name in SPLITS]
    assert sum(sizes) == 13_100 and sizes[1] > 550 and sizes[2] > 550
    assert len(load_all(tmp_path / "out")) == 13_100


def make_archive(corpus, file):
    with tarfile.open(file, "w:bz2") as tar:
        tar.add(corpus, "LJSpeech-1.1")


def test_download_fetches_and_unpacks_once(corpus, tmp_path, monkeypatch):
    served, data_folder = tmp_path / "LJSpeech-1.1.tar.bz2", tmp_path / "new" / "data"
    make_archive(corpus, served)
    calls = []

    def fetch(url, file, sha256):
        calls.append((url, sha256))
        file.parent.mkdir(parents=True)
        file.write_bytes(served.read_bytes())
        return file

    monkeypatch.setattr(ljspeech_prepare, "download_file", fetch)
    assert find_ljspeech(data_folder, download=True) == data_folder / "LJSpeech-1.1"
    prepare_ljspeech(data_folder, tmp_path / "out", download=True)
    assert len(load_all(tmp_path / "out")) == 10
    assert calls == [(ljspeech_prepare.URL, ljspeech_prepare.SHA256)]


def test_a_corpus_that_is_there_is_not_fetched(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(ljspeech_prepare, "download_file", lambda *_: pytest.fail("fetched"))
    assert prepare_ljspeech(corpus, tmp_path / "out", download=True) == corpus


def test_command_line(corpus, tmp_path):
    script = Path(ljspeech_prepare.__file__)
    command = [sys.executable, str(script), "--save_folder", str(tmp_path / "out")]
    command += ["--data_folder", str(corpus), "--split_ratio", "60", "20", "20"]
    command += ["--min_loudness_dbfs", "none", "--download", "false", "--seed", "3"]
    command += ["--shards_folder", str(tmp_path / "shards"), "--utterances_per_shard", "2"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "10 clips kept; dropped: none" in result.stderr
    assert len(load_all(tmp_path / "out")) == len(load_all(tmp_path / "shards")) == 10
    assert max(len(shard.ids) for shard in read_shards(tmp_path / "shards").of("train")) <= 2


def test_command_line_without_a_data_folder(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        ljspeech_prepare.main(["--save_folder", str(tmp_path)])
    assert exit.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: no data folder was given") and message.count("\n") == 1


def test_generated_corpus(demo_corpus, tmp_path):
    prepare_ljspeech(demo_corpus, tmp_path, split_ratio=(70, 15, 15))
    entries = load_all(tmp_path)
    assert len(entries) == 12  # the default filters keep every clip
    assert not any(character.isdigit() for entry in entries.values() for character in entry["text"])


def test_real_recordings(real_ljspeech, tmp_path):
    data_root = prepare_ljspeech(real_ljspeech, tmp_path)
    for clip_id, entry in list(load_all(tmp_path).items())[:50]:
        info = soundfile.info(entry["wav"].format(data_root=data_root))
        assert info.frames == entry["num_samples"] and clip_id.startswith("LJ")
