"""The pipeline under data loaders: the same items whatever loads them, and clips that are bad."""

import json
import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.data.datasets import SpeakerItems, segment_dataset, utterance_dataset
from waveglow_vq.data.loaders import (
    collate_utterances,
    part_of,
    training_loader,
)
from waveglow_vq.data.sampling import SegmentSampler
from waveglow_vq.data.speakers import Speakers
from waveglow_vq.errors import UserError
from waveglow_vq.training.run.experiment import worker_errors

import numpy
import pytest
import soundfile
import torch
from speechbrain.dataio.dataloader import make_dataloader

RATE = 22050
NAMES = [f"clip{number}" for number in range(6)]
SPEAKERS = SpeakerItems(
    Speakers(["p225", "p226"], torch.tensor([[4.9, 0.2], [5.4, 0.1]]), [3, 3]), True, True
)


@pytest.fixture
def corpus(tmp_path):
    """Six noises of two speakers, with pitch."""
    entries = {}
    for number, name in enumerate(NAMES):
        samples = 9000 + 3000 * number
        noise = numpy.random.default_rng(number).uniform(-0.3, 0.3, samples)
        soundfile.write(tmp_path / f"{name}.wav", noise, RATE, subtype="PCM_16")
        numpy.save(tmp_path / f"{name}.npy", numpy.full(samples // 256 + 1, 5.0, numpy.float32))
        entries[name] = {
            "wav": f"{{data_root}}/{name}.wav",
            "pitch": f"{{data_root}}/{name}.npy",
            "num_samples": samples,
            "speaker": ("p225", "p226")[number % 2],
            "log_f0_mean": 5.0,
            "log_f0_std": 0.1,
        }
    (tmp_path / "manifest.json").write_text(json.dumps(entries), "utf-8")
    return tmp_path


def training(corpus, speakers=SPEAKERS):
    options = {"history": 64, "segment_frames": 8, "context_frames": 20, "speakers": speakers}
    return segment_dataset(corpus / "manifest.json", corpus, LogMel(), **options)


def evaluation(corpus, speakers=SPEAKERS, **options):
    manifest = corpus / "manifest.json"
    return utterance_dataset(manifest, corpus, LogMel(), speakers=speakers, **options)


def epoch(dataset, segments=24, number=1, rank=0, world=1, **options):
    """Batches of an epoch, as a process of several loads them."""
    options = {"batch_size": 4, **options}
    loader, sampler = training_loader(dataset, segments, 3, rank, world, **options)
    sampler.set_epoch(number)
    return list(loader)


def rows(batches, name):
    """All that the batches hold of one thing, an item a row."""
    values = [batch[name] for batch in batches]
    values = [getattr(value, "data", value) for value in values]
    return torch.cat(values) if isinstance(values[0], torch.Tensor) else sum(values, [])


def assert_same(first, second):
    assert rows(first, "id") == rows(second, "id")
    for name in ("wav", "history", "mel", "start", "speaker", "pitch", "reference"):
        assert torch.equal(rows(first, name), rows(second, name)), name


@pytest.fixture(autouse=True)
def one_thread():
    """As loaders' processes have: sums are in the same order then."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_loading_leaves_the_global_random_state_alone(corpus):
    state = torch.get_rng_state()
    for num_workers in (0, 1):
        epoch(training(corpus), num_workers=num_workers)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_the_same_items_whoever_loads_them(corpus, num_workers):
    torch.manual_seed(num_workers)
    expected = epoch(training(corpus))
    assert_same(epoch(training(corpus), num_workers=num_workers), expected)
    assert rows(expected, "skipped") == [[]] * 24


def test_epochs_differ(corpus):
    first, second = (epoch(training(corpus), number=number) for number in (1, 2))
    assert not torch.equal(rows(first, "wav"), rows(second, "wav"))


def test_processes_share_the_items_of_one(corpus):
    """Batch j of two processes is batch j of one with twice the size."""
    one = epoch(training(corpus), batch_size=8)
    two = [epoch(training(corpus), rank=rank, world=2) for rank in range(2)]
    for whole, *parts in zip(one, *two, strict=True):
        for name in ("wav", "mel", "reference"):
            dealt = torch.stack([part[name].data for part in parts], 1).flatten(0, 1)
            assert torch.equal(dealt, whole[name].data)


def test_an_epoch_has_more_segments_than_there_are_processes(corpus, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    assert len(SegmentSampler(training(corpus), 5, seed=0)) == 5
    with pytest.raises(UserError, match="segments_per_epoch: 4; .* at least 5"):
        SegmentSampler(training(corpus), 4, seed=0)


# ---- clips that cannot be read


def truncate(path):
    path.write_bytes(path.read_bytes()[:9000])


def put_nan(path):
    soundfile.write(path, numpy.full(24000, math.nan), RATE, subtype="FLOAT")


def remove(path):
    path.unlink()


def change_rate(path):
    soundfile.write(path, numpy.zeros(24000), 16000)


def shorten(path):
    soundfile.write(path, numpy.zeros(512), RATE)


def remove_pitch(path):
    path.with_suffix(".npy").unlink()


DAMAGES = [
    (truncate, "clip5.wav is truncated"),
    (put_nan, "clip5.wav: holds values that are not finite"),
    (remove, "clip5.wav does not exist"),
    (change_rate, "clip5.wav: is at 16000 Hz"),
    (shorten, "clip5.wav: 512 samples are"),
    (remove_pitch, "clip5.npy cannot be read"),
]
EVERY_DAMAGE = [(*damage, 0) for damage in DAMAGES]


@pytest.mark.parametrize(("damage", "message", "num_workers"), [*EVERY_DAMAGE, (*DAMAGES[0], 2)])
def test_a_clip_that_is_bad_in_the_middle_of_an_epoch_is_replaced(
    corpus, damage, message, num_workers
):
    whole = epoch(training(corpus))
    dataset = training(corpus)
    damage(corpus / "clip5.wav")
    batches = epoch(dataset, num_workers=num_workers)
    ids, skipped = rows(batches, "id"), rows(batches, "skipped")
    assert "clip5" not in ids and len(ids) == 24
    before = rows(whole, "id")
    for position, sentences in enumerate(skipped):
        # It was drawn itself, or as the reference of its speaker.
        assert bool(sentences) or before[position] != "clip5"
        assert all(message in sentence for sentence in sentences)
        if not sentences:
            for name in ("wav", "mel", "reference"):
                expected = rows(whole, name)[position]
                assert torch.equal(rows(batches, name)[position], expected)
    assert 0 < sum(map(bool, skipped)) < 24
    assert torch.isfinite(rows(batches, "wav")).all()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_corpus_of_which_nothing_can_be_read_is_an_error(corpus, num_workers):
    dataset = training(corpus)
    for name in NAMES:
        truncate(corpus / f"{name}.wav")
    with pytest.raises(UserError, match=r"^\S*clip\d.wav is truncated.*20 other"), worker_errors():
        epoch(dataset, num_workers=num_workers)


@pytest.mark.parametrize(("damage", "message", "num_workers"), [*EVERY_DAMAGE, (*DAMAGES[2], 2)])
def test_evaluation_leaves_out_what_cannot_be_read(corpus, damage, message, num_workers):
    dataset, speakers = evaluation(corpus), evaluation(corpus, None)
    expected = collate_utterances([dataset[i] for i in range(4)])
    damage(corpus / "clip5.wav")
    first, second = make_dataloader(
        dataset, batch_size=4, num_workers=num_workers, collate_fn=collate_utterances
    )
    assert first.id == NAMES[:4] and first.skipped == []
    for name in ("wav", "mel", "pitch", "reference"):
        assert torch.equal(first[name].data, expected[name].data)
    assert second.id == ["clip4"] and len(second.skipped) == 1 and message in second.skipped[0]
    assert second.wav.data.shape == (1, 21000 // 256 * 256)
    # Whether it is bad depends on what is wanted of it.
    assert ("skipped" in speakers[5]) is (damage is not remove_pitch)


def test_a_batch_of_which_nothing_is_left_can_be_handled_like_others(corpus):
    truncate(corpus / "clip4.wav")
    remove(corpus / "clip5.wav")
    batches = list(make_dataloader(evaluation(corpus), batch_size=2, collate_fn=collate_utterances))
    assert [hasattr(batch, "wav") for batch in batches] == [True, True, False]
    assert batches[2].to("cpu").id == ["clip4", "clip5"]
    assert ["clip4" in batches[2].skipped[0], "clip5" in batches[2].skipped[1]] == [True] * 2


@pytest.mark.parametrize(("count", "world"), [(6, 1), (6, 4), (2, 3)])
def test_processes_share_the_utterances(corpus, count, world):
    dataset = evaluation(corpus, max_utterances=count)
    parts = [part_of(dataset, rank, world) for rank in range(world)]
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True) and max(sizes) - min(sizes) <= 1
    loaded = [
        [batch.id for batch in make_dataloader(part, batch_size=2, collate_fn=collate_utterances)]
        for part in parts
    ]
    assert sum(sum(loaded, []), []) == NAMES[:count] and len(dataset) == count
