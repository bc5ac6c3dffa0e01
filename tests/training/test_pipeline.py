import json
from collections import Counter

from waveglow_vq.data.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.training.pipeline import segment_dataset, segment_sampler, utterance_dataset

import pytest
import soundfile
import torch
from speechbrain.dataio.batch import PaddedBatch


@pytest.fixture(scope="module")
def features():
    return LogMel()


@pytest.fixture
def corpus(tmp_path):
    """Three noises of different length, and their manifest."""
    (tmp_path / "wavs").mkdir()
    entries = {}
    for name, samples in (("a", 6000), ("b", 20000), ("c", 40000)):
        noise = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))
        soundfile.write(tmp_path / "wavs" / f"{name}.wav", noise.numpy(), 22050)
        entries[name] = {
            "wav": f"{{data_root}}/wavs/{name}.wav",
            "num_samples": samples,
            "duration": samples / 22050,
            "text": name,
        }
    return tmp_path, write_manifest(tmp_path, entries), entries


def write_manifest(folder, entries):
    file = folder / "train.json"
    file.write_text(json.dumps(entries), "utf-8")
    return file


def test_segments_make_a_batch(corpus, features):
    folder, manifest, _ = corpus
    lengths = {"segment_frames": 8, "context_frames": 30, "random_shift": False}
    dataset = segment_dataset(manifest, folder, features, history=128, **lengths)
    batch = PaddedBatch([dataset[i] for i in range(3)])
    assert batch.wav.data.shape == (3, 2048)
    assert batch.history.data.shape == (3, 128)
    # The shortest has 24 frames only.
    assert batch.mel.data.shape == (3, 30, 80)
    assert batch.mel.lengths.tolist() == pytest.approx([24 / 30, 1, 1])
    assert batch.start.shape == (3,)


def test_another_access_cuts_another_segment(corpus, features):
    folder, manifest, _ = corpus
    dataset = segment_dataset(manifest, folder, features, segment_frames=8, context_frames=30)
    assert not torch.equal(dataset[2]["wav"], dataset[2]["wav"])
    assert "history" not in dataset[2]


def test_utterances_are_the_same_each_time(corpus, features):
    folder, manifest, _ = corpus
    dataset = utterance_dataset(manifest, folder, features)
    first, second = dataset[1], dataset[1]
    assert first["wav"].shape == (78 * 256,) and first["mel"].shape == (79, 80)
    assert torch.equal(first["wav"], second["wav"])
    # Dequantised: not on the grid of 16-bit samples.
    assert not torch.equal(first["wav"] * 32768, (first["wav"] * 32768).round())


def test_takes_only_so_many_utterances(corpus, features):
    folder, manifest, _ = corpus
    dataset = utterance_dataset(manifest, folder, features, max_utterances=2)
    assert [dataset[i]["id"] for i in range(len(dataset))] == ["a", "b"]


def test_every_second_is_drawn_as_often(corpus, features):
    folder, manifest, entries = corpus
    dataset = segment_dataset(manifest, folder, features, segment_frames=8, context_frames=30)
    drawn = Counter(list(segment_sampler(dataset, 6600, seed=0)))
    for index, entry in enumerate(entries.values()):
        assert drawn[index] / 6600 == pytest.approx(entry["num_samples"] / 66000, abs=0.03)


def test_every_epoch_draws_anew_but_reproducibly(corpus, features):
    folder, manifest, _ = corpus
    dataset = segment_dataset(manifest, folder, features, segment_frames=8, context_frames=30)
    sampler = segment_sampler(dataset, 50, seed=0)
    sampler.set_epoch(1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(2)
    assert list(sampler) != first


def test_refuses_utterances_shorter_than_a_segment(corpus, features):
    folder, manifest, _ = corpus
    with pytest.raises(UserError, match="a has 6000 samples.*--segment_frames"):
        segment_dataset(manifest, folder, features, segment_frames=64, context_frames=100)


def test_refuses_files_outside_of_the_corpus(corpus, features):
    folder, _, entries = corpus
    entries["b"]["wav"] = "{data_root}/../b.wav"
    with pytest.raises(UserError, match="b names a file outside"):
        utterance_dataset(write_manifest(folder, entries), folder, features)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"a": {"text": "no wav"}}'])
def test_refuses_damaged_manifests(tmp_path, features, content):
    manifest = tmp_path / "train.json"
    manifest.write_text(content, "utf-8")
    with pytest.raises(UserError, match="train.json"):
        utterance_dataset(manifest, tmp_path, features)


def test_refuses_missing_manifests(tmp_path, features):
    with pytest.raises(UserError, match="train.json cannot be read"):
        utterance_dataset(tmp_path / "train.json", tmp_path, features)


def test_refuses_empty_epochs(corpus, features):
    folder, manifest, _ = corpus
    dataset = segment_dataset(manifest, folder, features, segment_frames=8, context_frames=30)
    with pytest.raises(UserError, match="segments_per_epoch"):
        segment_sampler(dataset, 0, seed=0)
