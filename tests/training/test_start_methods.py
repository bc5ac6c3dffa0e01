"""Processes that are not forked (macOS; Python 3.14): what they work on is sent to them."""

import functools
import io
import json
import multiprocessing
import pickle
from multiprocessing.reduction import ForkingPickler

from waveglow_vq.audio.features import LogMel
from waveglow_vq.data.corpora.prepared_audio import Preprocessing, _prepare_task, prepared_files
from waveglow_vq.data.corpora.shard_writer import write_shards
from waveglow_vq.data.corpora.speaker_folders import Recording
from waveglow_vq.data.datasets import SpeakerItems, segment_dataset, utterance_dataset
from waveglow_vq.data.segment_batch import SegmentBatch
from waveglow_vq.data.shards.format import read_shards
from waveglow_vq.data.shards.plan import make_plan
from waveglow_vq.data.shards.stream import ShardStream
from waveglow_vq.data.speakers import Speakers
from waveglow_vq.inference.codes.code_file import CodeFile, write_code_file
from waveglow_vq.training.text_to_codes.code_corpus import INDEX, CodeCorpus
from waveglow_vq.training.text_to_codes.text_datasets import text_dataset
from waveglow_vq.utils import read_tracking
from waveglow_vq.utils.files import write_json
from waveglow_vq.utils.seeding import Draw

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.dataio.batch import PaddedBatch

from tests.training.elsewhere import Calls, items

CHECKSUM = "b" * 64


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Five clips of two speakers with pitch, codes and texts; in files and in shards."""
    folder = tmp_path_factory.mktemp("corpus")
    draw, entries = np.random.default_rng(3), {}
    for number in range(5):
        samples = 7000 + 1111 * number
        noise = draw.integers(-8000, 8000, samples).astype(np.int16)
        soundfile.write(folder / f"u{number}.wav", noise, 22050)
        np.save(folder / f"u{number}.pitch.npy", np.full(1 + samples // 256, 5.0, np.float32))
        entries[f"u{number}"] = {
            "wav": f"{{data_root}}/u{number}.wav",
            "pitch": f"{{data_root}}/u{number}.pitch.npy",
            "num_samples": samples,
            "speaker": f"s{number % 2}",
            "log_f0_mean": 5.0,
            "log_f0_std": 0.2,
            "text": "ab" * (number + 1),
        }
        codes = torch.arange(10 + number) % 7
        write_code_file(
            folder / f"u{number}.wvq",
            CodeFile(codes, 512, 22050, len(codes) * 512, 512, "tiny", CHECKSUM),
        )
    (folder / "train.json").write_text(json.dumps(entries), "utf-8")
    index = CodeCorpus("tiny", CHECKSUM, 22050, 512, 512, 0, 0, 5)
    write_json(folder / INDEX, {"version": 1, "complete": True, **index._asdict()})
    write_shards(folder, folder, folder / "shards", splits=("train",), utterances_per_shard=2)
    return folder


class Characters:
    def encode(self, text):
        return [*map(ord, text)]


def datasets(folder):
    """Every kind of dataset that a recipe makes, with what it is asked for."""
    features = LogMel()
    statistics = torch.tensor([[5.0, 0.2], [5.1, 0.3]])
    speakers = SpeakerItems(Speakers(["s0", "s1"], statistics, [3, 2]), True, True)
    lengths = {"history": 64, "segment_frames": 8, "context_frames": 20}
    manifest, draws = folder / "train.json", [Draw(4, 11), Draw(1, 12), Draw(4, 11)]
    segments = segment_dataset(manifest, folder, features, speakers=speakers, **lengths)
    utterances = utterance_dataset(manifest, folder, features, speakers=speakers)
    texts = text_dataset(manifest, folder, folder, Characters(), labels=["s1", "s0"])
    shards = read_shards(folder / "shards")
    sharded = segment_dataset(
        shards.folder / "train.json", shards.folder, features, shards=shards.of("train"), **lengths
    )
    samples = {key: entry["num_samples"] for key, entry in sharded.data.items()}
    plan = make_plan(shards.of("train"), samples, 8, 4, 1, 1)
    stream = ShardStream(sharded, shards.of("train"), plan, batch_size=4, seed=5)
    stream.epoch, stream.start = 3, 1  # an epoch that goes on behind its first batch
    return [
        functools.partial(items, segments, draws),
        functools.partial(items, utterances, [0, 3]),
        functools.partial(items, texts, [0, 4]),
        functools.partial(list, stream),
    ]


def preparation(folder, name):
    (folder / name / "u").mkdir(parents=True)
    utterance = Recording("u_3", "u", str(folder / "u3.wav"), "u3.wav")
    task = (utterance, folder / name, Preprocessing())
    return functools.partial(_prepare_task, task), prepared_files(folder / name, utterance)


def assert_same(ours, theirs):
    if torch.is_tensor(ours):
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert_same(value, theirs[name])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, PaddedBatch | SegmentBatch):
        assert_same(vars(ours), vars(theirs))
    else:
        assert ours == theirs


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_a_process_that_is_not_forked_makes_the_same_items(corpus, method, monkeypatch):
    """One process for all: it takes seconds to start."""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: method)
    for name in ("_table", "_file"):
        monkeypatch.setattr(read_tracking, name, getattr(read_tracking, name))
    (here, ours), (there, theirs) = (preparation(corpus, f"{n}_{method}") for n in ("a", "b"))
    calls = datasets(corpus)
    loader = torch.utils.data.DataLoader(
        Calls([*calls, there]),
        batch_size=None,
        num_workers=1,
        multiprocessing_context=method,
        worker_init_fn=read_tracking.known_here(abs),
    )
    *elsewhere, prepared = loader
    # Here nothing was read yet.
    assert read_tracking.being_read() == [str(corpus / "u3.wav")]
    for call, result in zip(calls, elsewhere, strict=True):
        assert_same(call(), result)
    assert prepared == here()
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]


class NoTensors(pickle.Pickler):
    def reducer_override(self, value):
        assert not torch.is_tensor(value)
        return NotImplemented


def test_texts_of_any_number_take_no_open_files(corpus):
    """A tensor that is sent to a process is shared with it, by an open file of its own."""
    texts = datasets(corpus)[2].args[0]
    NoTensors(io.BytesIO()).dump(texts)
    # Whoever is sent it imports this package before SpeechBrain.
    modules = ForkingPickler.dumps(texts).tobytes()
    assert modules.index(b"waveglow_vq.") < modules.index(b"speechbrain.")
