import errno
import json
import multiprocessing
import os
import signal
import tarfile
import time
import urllib.parse

from waveglow_vq.audio.io import read_wav
from waveglow_vq.data.corpora import shard_writer as writer
from waveglow_vq.data.corpora.shard_writer import write_shards
from waveglow_vq.data.manifests import load_manifest, read_pitch
from waveglow_vq.data.shards.format import (
    INDEX,
    JOURNAL,
    ShardMember,
    member_name,
    read_shards,
    shards_are_ready,
    sound_source,
)
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile

IDS = {
    "train": [f"p{225 + i % 3}_{i:03d}" for i in range(20)] + ["a.b", "c d#é@1+2", "__x__"],
    "valid": ["v1", "v2"],
    "test": ["t1"],
    "unseen": [],
}
SPLITS = tuple(IDS)


def clip_of(name):
    """The clip that a member of a shard is of."""
    return urllib.parse.unquote(name.partition(".")[0])


@pytest.fixture
def corpus(tmp_path):
    """A prepared corpus with pitch, of clips of different length: manifests and audio folder."""
    audio, manifests = tmp_path / "audio", tmp_path / "manifests"
    audio.mkdir()
    manifests.mkdir()
    draw = np.random.default_rng(0)
    for split, ids in IDS.items():
        entries = {}
        for clip_id in ids:
            samples = int(draw.integers(500, 3000))
            noise = draw.integers(-9000, 9000, samples).astype(np.int16)
            soundfile.write(audio / f"{clip_id}.wav", noise, 22050)
            entries[clip_id] = {"wav": f"{{data_root}}/{clip_id}.wav", "num_samples": samples}
            if clip_id != "a.b":
                np.save(audio / f"{clip_id}.pitch.npy", draw.random(9).astype(np.float32))
                entries[clip_id]["pitch"] = f"{{data_root}}/{clip_id}.pitch.npy"
        (manifests / f"{split}.json").write_text(json.dumps(entries), "utf-8")
    (manifests / "speakers.json").write_text('{"p225": {}}', "utf-8")
    return manifests, audio, tmp_path / "shards"


def write(corpus, **options):
    return write_shards(*corpus, splits=SPLITS, **{"utterances_per_shard": 2, **options})


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_byte_comes_back(corpus):
    manifests, audio, folder = corpus
    write(corpus)
    for split, ids in IDS.items():
        entries = load_manifest(folder / f"{split}.json", folder)
        assert list(entries) == ids
        for clip_id, entry in entries.items():
            source = sound_source(entry["wav"])
            assert source.data == (audio / f"{clip_id}.wav").read_bytes()
            assert source.name.startswith(str(folder / f"{split}-0000"))
            assert read_wav(source).shape == (entry["num_samples"],)
            if "pitch" in entry:
                expected = (audio / f"{clip_id}.pitch.npy").read_bytes()
                assert sound_source(entry["pitch"]).data == expected
    assert "pitch" not in load_manifest(folder / "train.json", folder)["a.b"]
    assert (folder / "speakers.json").read_bytes() == (manifests / "speakers.json").read_bytes()


def test_index_names_every_clip_once_in_the_order_of_the_files(corpus):
    write(corpus)
    shards = read_shards(corpus[2], sample_rate=22050)
    assert list(shards.splits) == list(SPLITS) and shards.splits["unseen"] == []
    for split in SPLITS:
        ids = [clip_id for shard in shards.splits[split] for clip_id in shard.ids]
        assert sorted(ids) == sorted(IDS[split])
    # 23 clips, at most 2 in each.
    assert sorted(len(shard.ids) for shard in shards.of("train")) == [1] + [2] * 11
    for shard in shards.of("train"):
        with tarfile.open(shard.path) as tar:
            keys = [clip_of(name) for name in tar.getnames()]
            assert list(dict.fromkeys(keys)) == shard.ids
    # Mixed: those that follow each other in the manifest do not in the shards.
    assert [i for shard in shards.of("train") for i in shard.ids] != IDS["train"]
    with pytest.raises(UserError, match="no shards of the split unseen"):
        shards.of("unseen")


def test_webdataset_reads_them(corpus):
    webdataset = pytest.importorskip("webdataset")
    write(corpus)
    urls = [str(shard.path) for shard in read_shards(corpus[2]).of("train")]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert {clip_of(s["__key__"]) for s in samples} == set(IDS["train"])
    assert all("wav" in sample for sample in samples)
    assert sum("pitch.npy" in sample for sample in samples) == len(IDS["train"]) - 1


def test_same_input_same_bytes(corpus, tmp_path):
    write(corpus)
    manifests, audio, folder = corpus
    time.sleep(0.01)
    write((manifests, audio, tmp_path / "again"))
    first, again = contents(folder), contents(tmp_path / "again")
    assert first.keys() == again.keys()
    assert all(first[name] == again[name] for name in first)
    assert JOURNAL not in first


def test_nothing_is_done_twice(corpus, monkeypatch):
    write(corpus)
    before = {file: file.stat().st_mtime_ns for file in corpus[2].iterdir()}
    monkeypatch.setattr(writer, "_write_all", None)
    write(corpus)
    assert {file: file.stat().st_mtime_ns for file in corpus[2].iterdir()} == before


def test_only_what_is_missing_is_written_again(corpus):
    shards = write(corpus).of("train")
    expected = contents(corpus[2])
    os.truncate(shards[1].path, 100)
    shards[2].path.unlink()
    before = {shard.path: shard.path.stat().st_mtime_ns for shard in shards[3:]}
    write(corpus)
    assert contents(corpus[2]) == expected
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_options_replace_the_shards(corpus):
    write(corpus)
    many = len(list(corpus[2].glob("*.tar")))
    write(corpus, utterances_per_shard=100)
    assert len(read_shards(corpus[2]).of("train")) == 8  # the least
    assert len(list(corpus[2].glob("*.tar"))) == 8 + 2 + 1 < many
    test_shards = [shard.path.stat().st_size for shard in read_shards(corpus[2]).of("train")]
    write(corpus, utterances_per_shard=100, shard_megabytes=min(test_shards) / 4e6)
    assert len(read_shards(corpus[2]).of("train")) > 8


@pytest.mark.parametrize("length", ["the same", "another"])
def test_a_changed_clip_is_noticed(corpus, length):
    write(corpus)
    clip = corpus[1] / "p226_001.wav"
    samples = soundfile.info(clip).frames if length == "the same" else 700
    changed = clip.stat().st_mtime_ns + 10**9
    soundfile.write(clip, np.zeros(samples, np.int16), 22050)
    os.utime(clip, ns=(changed, changed))
    write(corpus)
    entry = load_manifest(corpus[2] / "train.json", corpus[2])["p226_001"]
    assert sound_source(entry["wav"]).data == clip.read_bytes()


def _write_slowly(corpus):
    inner = writer._write_shard

    def slowly(path, clips, progress):
        found = inner(path, clips, progress)
        time.sleep(0.1)
        return found

    writer._write_shard = slowly
    write(corpus)


def test_killed_and_resumed(corpus, tmp_path):
    manifests, audio, folder = corpus
    process = multiprocessing.get_context("fork").Process(target=_write_slowly, args=(corpus,))
    process.start()
    try:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*.tar"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    complete = {file: file.stat().st_mtime_ns for file in folder.glob("*.tar")}
    assert len(complete) >= 3 and not shards_are_ready(folder)
    with pytest.raises(UserError, match="is not complete.*--data_folder"):
        read_shards(folder)
    # As if killed within a file and within a line.
    (folder / ".train-000005.tar.part").write_bytes(b"half")
    with open(folder / JOURNAL, "a") as journal:
        journal.write('["train-0000')
    write(corpus)
    # The newest may have been renamed before its line was written.
    kept = [file for file, when in complete.items() if file.stat().st_mtime_ns == when]
    assert len(kept) >= len(complete) - 1
    write((manifests, audio, tmp_path / "at_once"))
    assert contents(folder) == contents(tmp_path / "at_once")


def test_full_disk(corpus, monkeypatch):
    from webdataset.writer import TarWriter

    inner, calls = TarWriter.write, []

    def full(self, sample):
        calls.append(sample)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return inner(self, sample)

    monkeypatch.setattr(TarWriter, "write", full)
    with pytest.raises(UserError, match="No space left on device.*complete shards are kept"):
        write(corpus)
    names = sorted(file.name for file in corpus[2].iterdir())
    assert names == [JOURNAL, "train-000000.tar", "train-000001.tar"]
    write(corpus)
    # The third shard was begun once more, the first two were not.
    keys = [clip_of(sample["__key__"]) for sample in calls]
    first = [i for shard in read_shards(corpus[2]).of("train")[:2] for i in shard.ids]
    assert [keys.count(clip_id) for clip_id in first] == [1] * len(first)


def test_missing_clip(corpus):
    (corpus[1] / "p226_001.wav").unlink()
    with pytest.raises(UserError, match="p226_001.wav of p226_001 cannot be read"):
        write(corpus)


@pytest.mark.parametrize("options", [{"utterances_per_shard": 0}, {"shard_megabytes": 0}])
def test_refuses_impossible_sizes(corpus, options):
    with pytest.raises(UserError, match="utterances_per_shard: 0|shard_megabytes: 0"):
        write(corpus, **options)


def test_refuses_the_folder_of_the_manifests(corpus):
    with pytest.raises(UserError, match="name another one"):
        write((corpus[0], corpus[1], corpus[0]))


def test_needs_webdataset(corpus, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "webdataset.writer", None)
    with pytest.raises(UserError, match=r"webdataset.*pip install waveglow-vq\[train\]"):
        write(corpus)


# ---- a folder that is not what it was


def damaged(corpus, change):
    write(corpus)
    file = corpus[2] / INDEX
    index = json.loads(file.read_text("utf-8"))
    change(index)
    file.write_text(json.dumps(index), "utf-8")
    return corpus[2]


def name_first(name):
    return lambda index: index["splits"]["train"][0].update(name=name)


@pytest.mark.parametrize(
    "name",
    ["../train-000000.tar", "/etc/passwd", "pipe:touch executed #.tar", "a/b-000000.tar"]
    + ["pipe:touch executed; train-000000.tar", "s3://bucket/train-000000.tar", "train.tar"],
)
def test_a_shard_is_a_plain_name(corpus, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = damaged(corpus, name_first(name))
    with pytest.raises(UserError, match="cannot be a shard of this folder"):
        read_shards(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda index: index.update(version=99), "is of version 99, expected is 1"),
        (lambda index: index.pop("splits"), "KeyError.*prepare the shards again"),
        (lambda index: index.update(splits=[]), "AttributeError.*prepare the shards again"),
        (lambda index: index["splits"]["train"][0].pop("ids"), "cannot be read"),
        (lambda index: index["splits"]["train"][0].update(bytes="x"), "cannot be read"),
        (lambda index: index["splits"]["train"][0]["ids"].append("p226_001"), "twice"),
        (lambda index: index.update(sample_rate=None), "cannot be read"),
        (name_first("train-999999.tar"), "train-999999.tar cannot be read .No such file"),
    ],
)
def test_damaged_index(corpus, change, sentence):
    folder = damaged(corpus, change)
    with pytest.raises(UserError, match=sentence):
        read_shards(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_index_that_is_none(corpus, text):
    write(corpus)
    (corpus[2] / INDEX).write_text(text, "utf-8")
    with pytest.raises(UserError, match=f"{INDEX} cannot be read"):
        read_shards(corpus[2])
    # Preparing again repairs it.
    write(corpus)
    read_shards(corpus[2])


def test_a_shard_of_another_size(corpus):
    path = write(corpus).of("train")[0].path
    os.truncate(path, path.stat().st_size - 10240)
    with pytest.raises(UserError, match=f"{path.name} has .* bytes, {INDEX} says"):
        read_shards(corpus[2])


def test_another_rate(corpus):
    write(corpus, sample_rate=16000)
    with pytest.raises(UserError, match="at 16000 Hz, the model at 22050 Hz"):
        read_shards(corpus[2], 22050)


def test_a_folder_without_shards(tmp_path):
    assert not shards_are_ready(None) and not shards_are_ready(tmp_path)
    with pytest.raises(UserError, match="is not a folder of shards.*--data_folder"):
        read_shards(tmp_path)


def test_members_stay_within_their_shard(corpus):
    write(corpus)
    entry = load_manifest(corpus[2] / "train.json", corpus[2])["p226_001"]
    member = ShardMember.parse(entry["wav"])
    with pytest.raises(UserError, match="ends before its p226_001.wav"):
        member._replace(size=10**15).read()
    with pytest.raises(UserError, match="No such file"):
        member._replace(path=f"{corpus[2]}/train-000099.tar").read()


@pytest.mark.parametrize("outside", ["{data_root}/../x.tar#a.wav@512+100", "pipe:x.tar#a@1+2"])
def test_members_stay_within_their_folder(corpus, outside):
    write(corpus)
    manifest = corpus[2] / "train.json"
    entries = json.loads(manifest.read_text("utf-8"))
    entries["p226_001"]["wav"] = outside
    manifest.write_text(json.dumps(entries), "utf-8")
    with pytest.raises(UserError, match="p226_001 names a file outside"):
        load_manifest(manifest, corpus[2])


def test_ordinary_paths_are_left_alone():
    for path in ("/a/b.wav", "/a/x.tar#b.wav", "/a/b#c.wav@1", "x.tar/b.wav@1+2"):
        assert sound_source(path) == path


def test_pitch_comes_from_shards(corpus):
    write(corpus)
    entry = load_manifest(corpus[2] / "train.json", corpus[2])["p226_001"]
    assert read_pitch(sound_source(entry["pitch"])).shape == (9,)


def test_names_of_members_have_no_dot_or_slash_within_the_id():
    for clip_id in ("a.b", "a/b", "é", "a%2Eb", "../x", "__x__"):
        name = member_name(clip_id, ".wav")
        assert name.isascii() and name.count(".") == 1 and "/" not in name and "#" not in name
        assert clip_of(name) == clip_id
