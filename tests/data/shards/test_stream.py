import json
import os
from collections import Counter
from types import SimpleNamespace

from waveglow_vq.audio.features import LogMel
from waveglow_vq.data.corpora.shard_writer import write_shards
from waveglow_vq.data.datasets import (
    SpeakerItems,
    make_datasets,
    segment_dataset,
    utterance_dataset,
)
from waveglow_vq.data.loaders import training_loader
from waveglow_vq.data.shards.format import INDEX, ShardMember, read_shards
from waveglow_vq.data.speakers import Speakers
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.utils.checkpoints import Checkpointer

CLIPS = 23
BATCH = 4


@pytest.fixture(scope="module")
def features():
    return LogMel()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Folder with manifests and audio of clips, of 0.25 to 2.5 s, of three speakers."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = np.random.default_rng(0)
    entries = {}
    for i in range(CLIPS):
        clip_id, speaker = f"s{i % 3}_{i:03d}", f"s{i % 3}"
        samples = int(draw.integers(5500, 55000))
        noise = draw.integers(-9000, 9000, samples).astype(np.int16)
        soundfile.write(folder / f"{clip_id}.wav", noise, 22050)
        log_f0 = np.full(1 + samples // 256, 5 + 0.01 * i, np.float32)
        np.save(folder / f"{clip_id}.pitch.npy", log_f0)
        entries[clip_id] = {
            "wav": f"{{data_root}}/{clip_id}.wav",
            "pitch": f"{{data_root}}/{clip_id}.pitch.npy",
            "num_samples": samples,
            "speaker": speaker,
            "log_f0_mean": 5.0,
            "log_f0_std": 0.2,
        }
    (folder / "train.json").write_text(json.dumps(entries), "utf-8")
    return folder


def write(corpus, folder, utterances_per_shard=3):
    return write_shards(
        corpus, corpus, folder, splits=("train",), utterances_per_shard=utterances_per_shard
    )


@pytest.fixture
def shards(corpus, tmp_path):
    """8 shards of 2 or 3 clips, so that processes and workers get different numbers of them."""
    return write(corpus, tmp_path / "shards")


def speaker_items(reference=True):
    statistics = torch.tensor([[5.0, 0.2], [5.1, 0.2], [5.2, 0.2]])
    return SpeakerItems(Speakers(["s0", "s1", "s2"], statistics, [8, 8, 7]), True, reference)


def make_dataset(shards, features, speakers=None):
    return segment_dataset(
        shards.folder / "train.json",
        shards.folder,
        features,
        history=16,
        segment_frames=4,
        context_frames=8,
        speakers=speakers,
        shards=shards.of("train"),
    )


def make_loader(shards, features, segments=60, epoch=1, speakers=None, **options):
    dataset = make_dataset(shards, features, speakers)
    options = {"batch_size": BATCH, "seed": 3, **options}
    loader, told = training_loader(dataset, segments_per_epoch=segments, **options)
    told.set_epoch(epoch)
    return loader


def as_values(batch):
    """What a batch holds, to be compared bit for bit."""
    return [batch.id, batch.wav.data.numpy().tobytes(), batch.mel.data.numpy().tobytes()] + [
        batch.history.data.numpy().tobytes(),
        batch.start.tolist(),
        batch.skipped,
    ]


def ids_of(batches):
    return [clip_id for batch in batches for clip_id in batch.id]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_nothing_twice_and_nothing_lost(shards, features, world, num_workers):
    seen, lengths = [], []
    for rank in range(world):
        options = {"rank": rank, "world": world, "num_workers": num_workers}
        loader = make_loader(shards, features, **options)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(len(batch.id) == BATCH for batch in batches)
        seen.append(Counter(ids_of(batches)))
        lengths.append(len(loader))
    assert len(set(lengths)) == 1
    # Every utterance, each by one process only.
    assert sum(map(len, seen)) == CLIPS
    assert set().union(*seen) == {clip_id for shard in shards.of("train") for clip_id in shard.ids}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_shard_is_opened_once(shards, features, num_workers, monkeypatch, tmp_path):
    from waveglow_vq.data.shards import stream as shard_stream

    inner, log = shard_stream._read_shard, tmp_path / "opened"

    def logged(path):
        with open(log, "a") as file:  # of all workers
            file.write(f"{path.name}\n")
        return inner(path)

    monkeypatch.setattr(shard_stream, "_read_shard", logged)
    monkeypatch.setattr(ShardMember, "read", None)  # nothing by single access
    for rank in range(2):
        list(make_loader(shards, features, rank=rank, world=2, num_workers=num_workers))
    opened = sorted(log.read_text().split())
    assert opened == [shard.path.name for shard in shards.of("train")]


def test_long_utterances_give_more_segments(shards, features):
    total = Counter()
    for epoch in range(1, 5):
        total.update(ids_of(make_loader(shards, features, segments=200, epoch=epoch)))
    data = make_dataset(shards, features).data
    samples = sum(entry["num_samples"] for entry in data.values())
    for clip_id, entry in data.items():
        assert total[clip_id] == pytest.approx(800 * entry["num_samples"] / samples, abs=5)


def test_epochs_differ_and_are_the_same_each_time(shards, features):
    first = [as_values(b) for b in make_loader(shards, features)]
    assert [as_values(b) for b in make_loader(shards, features)] == first
    # One worker makes what none makes.
    assert [as_values(b) for b in make_loader(shards, features, num_workers=1)] == first
    loader = make_loader(shards, features, epoch=2)
    second = [as_values(b) for b in loader]
    assert second != first and [b[0] for b in second] != [b[0] for b in first]
    assert [as_values(b) for b in make_loader(shards, features, seed=4)] != first
    loader.set_epoch(1)
    assert [as_values(b) for b in loader] == first


def test_the_global_random_state_is_left_alone(shards, features):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make_loader(shards, features, num_workers=2))
    list(make_loader(shards, features))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_resumed_within_an_epoch(shards, features, num_workers, world, tmp_path):
    options = {"num_workers": num_workers, "world": world, "rank": world - 1, "held": 3}
    whole = [as_values(batch) for batch in make_loader(shards, features, **options)]
    assert len(whole) > 5
    for position in (1, 4, len(whole)):
        folder = tmp_path / str(position)
        loader = make_loader(shards, features, **options)
        batches = iter(loader)
        for _ in range(position):
            next(batches)
        Checkpointer(folder, {"loader": loader}).save_checkpoint(end_of_epoch=False)
        again = make_loader(shards, features, **options)
        Checkpointer(folder, {"loader": again}).recover_if_possible()
        assert [as_values(batch) for batch in again] == whole[position:]
        # The next epoch is a whole one.
        again.set_epoch(2)
        assert len(list(again)) == len(whole)


def test_after_an_epoch_a_new_one_begins(shards, features, tmp_path):
    loader = make_loader(shards, features)
    whole = [as_values(batch) for batch in loader]
    Checkpointer(tmp_path / "ck", {"loader": loader}).save_checkpoint(end_of_epoch=True)
    again = make_loader(shards, features)
    Checkpointer(tmp_path / "ck", {"loader": again}).recover_if_possible()
    assert [as_values(batch) for batch in again] == whole


def test_what_was_trained_on_is_not_cut_again(shards, features, tmp_path, monkeypatch):
    loader = make_loader(shards, features)
    batches = iter(loader)
    position = len(loader) - 2
    for _ in range(position):
        next(batches)
    Checkpointer(tmp_path / "ck", {"loader": loader}).save_checkpoint(end_of_epoch=False)
    again = make_loader(shards, features)
    Checkpointer(tmp_path / "ck", {"loader": again}).recover_if_possible()
    computed, inner = [], LogMel.frames
    monkeypatch.setattr(LogMel, "frames", lambda self, wav: computed.append(1) or inner(self, wav))
    list(again)
    assert len(computed) == 2 * BATCH


def test_other_workers_resume_at_the_same_batch(shards, features, tmp_path, caplog):
    loader = make_loader(shards, features, num_workers=2)
    batches = iter(loader)
    next(batches)
    Checkpointer(tmp_path / "ck", {"loader": loader}).save_checkpoint(end_of_epoch=False)
    again = make_loader(shards, features, num_workers=0)
    Checkpointer(tmp_path / "ck", {"loader": again}).recover_if_possible()
    assert "not that of an uninterrupted run" in caplog.text
    assert len(list(again)) == len(again) - 1


def test_saved_again_before_the_first_batch(shards, features, tmp_path):
    loader = make_loader(shards, features)
    batches = iter(loader)
    next(batches)
    for name in ("first", "second"):
        Checkpointer(tmp_path / name, {"loader": loader}).save_checkpoint(end_of_epoch=False)
        loader = make_loader(shards, features)
        Checkpointer(tmp_path / name, {"loader": loader}).recover_if_possible()
    assert len(list(loader)) == len(loader) - 1


def test_memory_holds_only_so_many_utterances(shards, features):
    dataset = make_dataset(shards, features, speaker_items(reference=False))
    for held in (1, 3):
        loader, _ = training_loader(dataset, 60, 0, batch_size=1, held=held)
        kept = [len(dataset.source.__self__.members) for _ in loader]
        assert 0 < max(kept) <= 2 * held  # sound and pitch of each
        assert len(dataset.source.__self__.members) == 0


def test_speakers(shards, features):
    loader = make_loader(shards, features, speakers=speaker_items(), num_workers=2)
    for batch in loader:
        assert batch.pitch.data.shape == (BATCH, 8, 2)
        assert batch.reference.data.shape == (BATCH, 8, 80)
        for clip_id, number in zip(batch.id, batch.speaker.tolist(), strict=True):
            assert clip_id.startswith(f"s{number}_")


def test_utterances_for_evaluation(shards, corpus, features):
    from_shards = utterance_dataset(
        shards.folder / "train.json", shards.folder, features, speakers=speaker_items()
    )
    from_files = utterance_dataset(
        corpus / "train.json", corpus, features, speakers=speaker_items()
    )
    assert len(from_shards) == CLIPS
    for one, other in zip(from_shards, from_files, strict=True):
        assert one["id"] == other["id"]
        assert torch.equal(one["wav"], other["wav"]) and torch.equal(one["pitch"], other["pitch"])


def test_datasets_of_a_recipe_need_no_corpus(corpus, features, tmp_path):
    for split in ("valid", "test"):
        entries = json.loads((corpus / "train.json").read_text("utf-8"))
        chosen = list(entries)[:3] if split == "valid" else list(entries)[3:5]
        text = json.dumps({clip_id: entries[clip_id] for clip_id in chosen})
        (corpus / f"{split}.json").write_text(text, "utf-8")
    write_shards(corpus, corpus, tmp_path / "shards")
    model = SimpleNamespace(vocoder=SimpleNamespace(history=16), speakers=None, uses_pitch=True)
    hparams = {
        "shards_folder": str(tmp_path / "shards"),
        "manifest_folder": "/nowhere",
        "features": features,
        "model": model,
        "segment_frames": 4,
        "context_frames": 8,
        "min_segment_dbfs": -60.0,
        "random_shift": True,
        "max_valid_utterances": 2,
    }
    train, valid, test = make_datasets(hparams, None, speaker_items().speakers)
    loader, told = training_loader(train, 30, seed=0, batch_size=BATCH, num_workers=1)
    told.set_epoch(1)
    assert set(ids_of(loader)) == set(train.data_ids)
    assert len(valid) == 2 and len(test) == 2
    assert [len(item["wav"]) % 256 for item in [*valid, *test]] == [0] * 4
    hparams["features"] = LogMel(sample_rate=16000)
    with pytest.raises(UserError, match="at 22050 Hz, the model at 16000 Hz"):
        make_datasets(hparams, None)


# ---- what can be wrong


def test_unreadable_clips_are_replaced_and_reported(corpus, features, tmp_path):
    shards = write(corpus, tmp_path / "shards")
    entries = make_dataset(shards, features).data
    bad = shards.of("train")[2].ids[0]
    member = ShardMember.parse(entries[bad]["path"])
    with open(member.path, "r+b") as file:
        file.seek(member.offset)
        file.write(b"NOTASOUND!")
    whole = [as_values(batch) for batch in make_loader(shards, features, held=3)]
    assert bad not in [clip_id for values in whole for clip_id in values[0]]
    sentences = [s for values in whole for skipped in values[-1] for s in skipped]
    (sentence,) = set(sentences)  # the same each time, so that a clip is counted once
    assert sentence.startswith(f"{member.path}#{bad}.wav ")
    # Also when resumed: nothing of it depends on what is in memory.
    for position in range(1, len(whole)):
        again = make_loader(shards, features, held=3)
        again._resume_at = position
        assert [as_values(batch) for batch in again] == whole[position:]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_shard_that_is_cut_off(corpus, features, tmp_path, num_workers):
    shards = write(corpus, tmp_path / "shards")
    path = shards.of("train")[3].path
    loader = make_loader(shards, features, num_workers=num_workers)
    size = path.stat().st_size
    for left in (size - 20480, 512, 0):  # within a clip, after its header, nothing
        os.truncate(path, left)
        with pytest.raises(UserError, match=rf"the shard .*{path.name} (cannot be|does not hold)"):
            list(loader)
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name} cannot be read \(No such file"):
        list(loader)


def test_a_shard_with_other_content(shards, features):
    first, second = (shard.path for shard in shards.of("train")[:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=rf"{first.name} does not hold"):
        list(make_loader(shards, features))


def test_an_index_of_other_clips(shards, features):
    index = json.loads((shards.folder / INDEX).read_text("utf-8"))
    index["splits"]["train"][0]["ids"].append("s9_999")
    (shards.folder / INDEX).write_text(json.dumps(index), "utf-8")
    with pytest.raises(UserError, match="index and the manifest list different clips"):
        make_loader(read_shards(shards.folder), features)


def test_refuses_an_epoch_of_nothing(shards, features):
    with pytest.raises(UserError, match="segments_per_epoch: 0"):
        make_loader(shards, features, segments=0)
