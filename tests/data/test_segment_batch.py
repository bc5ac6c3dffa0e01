"""Batches against SpeechBrain's, log-mels of a device against the loader's, and plain WAV files."""

from waveglow_vq.audio import plain_wav
from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.plain_wav import open_plain_wav
from waveglow_vq.audio.sound_files import SoundBytes
from waveglow_vq.data import segments
from waveglow_vq.data.datasets import segment_dataset
from waveglow_vq.data.segment_batch import SegmentBatch
from waveglow_vq.data.segments import SegmentReader
from waveglow_vq.errors import UserError
from waveglow_vq.utils.workers import GPU_LOADERS, loader_processes

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.dataio.batch import PaddedBatch

from tests.data.test_loaders import SPEAKERS, corpus, epoch, one_thread, training  # noqa: F401

TENSORS = ("wav", "history", "mel", "pitch", "f0_statistics", "reference")


@pytest.mark.parametrize("count", [1, 4])
def test_as_speechbrain_batches(corpus, count):  # noqa: F811
    items = [training(corpus)[number] for number in range(count)]
    items[0] = {**items[0], "mel": items[0]["mel"][:11]}
    ours, theirs = SegmentBatch(items), PaddedBatch(items)
    assert ours.id == theirs.id and ours.skipped == theirs.skipped and len(ours) == count
    for name in TENSORS:
        for one, other in zip(ours[name], theirs[name], strict=True):
            assert torch.equal(one, other) and one.dtype == other.dtype, name
    for name in ("start", "speaker"):
        assert torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype
    assert ours.to(torch.float64).wav.data.dtype == torch.float64


@pytest.mark.parametrize("num_workers", [0, 1])
def test_log_mels_of_the_training_process_are_those_of_the_loader(corpus, num_workers):  # noqa: F811
    """Also where an utterance is shorter than the context, and for references."""
    options = {"history": 64, "segment_frames": 8, "context_frames": 50, "speakers": SPEAKERS}
    datasets = [
        segment_dataset(corpus / "manifest.json", corpus, LogMel(), **options) for _ in range(2)
    ]
    expected = epoch(datasets[0])
    batches = epoch(datasets[1], log_mels=False, num_workers=num_workers)
    features = LogMel()
    for batch, other in zip(batches, expected, strict=True):
        assert not hasattr(batch, "mel") and not hasattr(batch, "reference")
        batch.add_log_mels(features)
        assert not hasattr(batch, "context") and not hasattr(batch, "reference_context")
        for name in ("mel", "reference"):
            assert (batch[name].data - other[name].data).abs().max() < 1e-5
            assert torch.equal(batch[name].lengths, other[name].lengths)
        for name in ("wav", "history", "pitch"):
            assert torch.equal(batch[name].data, other[name].data)
        assert torch.equal(batch.start, other.start) and batch.id == other.id
    assert any((batch.mel.lengths < 1).any() for batch in batches)


def test_log_mels_are_never_computed_in_tf32(corpus, monkeypatch):  # noqa: F811
    batch, seen, frames = epoch(training(corpus), log_mels=False)[0], [], LogMel.frames
    products = torch.backends.cuda.matmul
    monkeypatch.setattr(
        LogMel, "frames", lambda self, wav: seen.append(products.allow_tf32) or frames(self, wav)
    )
    before = products.allow_tf32
    products.allow_tf32 = True
    try:
        batch.add_log_mels(LogMel())
        assert seen == [False, False] and products.allow_tf32
    finally:
        products.allow_tf32 = before


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("attempts", [1, 10])
def test_the_fast_way_cuts_the_same_bits(tmp_path, monkeypatch, in_memory, attempts):
    noise = np.random.default_rng(0).integers(-9000, 9000, 20_000).astype(np.int16)
    noise[3000:15_000] = 0
    source = tmp_path / "a.wav"
    soundfile.write(source, noise, 22050)
    if in_memory:
        source = SoundBytes("a", source.read_bytes())
    reader = SegmentReader(LogMel(), 4, 40, history=300, attempts=attempts)
    generators = [torch.Generator().manual_seed(number) for number in range(20)]
    fast = [reader(source, generator) for generator in generators]
    monkeypatch.setattr(segments, "open_plain_wav", lambda source: None)
    for number, item in enumerate(fast):
        slow = reader(source, torch.Generator().manual_seed(number))
        assert item.keys() == slow.keys()
        for name, value in item.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(slow[name])), name


def write(path, subtype="PCM_16", channels=1, **options):
    soundfile.write(path, np.zeros((999, channels)), 22050, subtype, **options)
    return path


def test_only_plain_files_are_read_fast(tmp_path):
    path = write(tmp_path / "a.wav")
    assert open_plain_wav(str(path)).num_samples == 999
    for subtype in ("PCM_24", "FLOAT", "PCM_U8"):
        assert open_plain_wav(write(tmp_path / "b.wav", subtype)) is None
    assert open_plain_wav(write(tmp_path / "c.wav", channels=2)) is None
    assert open_plain_wav(write(tmp_path / "d.flac")) is None
    assert open_plain_wav(tmp_path / "none.wav") is None
    assert open_plain_wav(tmp_path) is None
    content = path.read_bytes()
    for damaged in (content[:-2], content + b"\0\0", content[:20], content[:4] + b"\0" * 2000, b""):
        assert open_plain_wav(SoundBytes("a", damaged)) is None


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path):
    path = write(tmp_path / "a.wav")
    with open_plain_wav(path) as wav:
        path.write_bytes(path.read_bytes()[:500])
        assert len(wav.read(0, 200)) == 200
        with pytest.raises(UserError, match="a.wav: is truncated"):
            wav.read(100, 500)
    assert plain_wav._HEADER.size == 44


def test_loaders_of_a_gpu(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16), raising=False)
    for processes, expected in ((1, GPU_LOADERS), (4, 3), (8, 1), (16, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert loader_processes(None, "cuda") == expected
    assert loader_processes(7, "cuda") == loader_processes(7, "cpu") == 7
