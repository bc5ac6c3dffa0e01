import json
import math
from collections import Counter

from waveglow_vq.audio.features import LogMel
from waveglow_vq.data.datasets import SpeakerItems, segment_dataset, utterance_dataset
from waveglow_vq.data.manifests import read_pitch
from waveglow_vq.data.sampling import SegmentSampler
from waveglow_vq.data.speakers import Speakers
from waveglow_vq.errors import UserError

import numpy
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
    # Dequantized: not on the grid of 16-bit samples.
    assert not torch.equal(first["wav"] * 32768, (first["wav"] * 32768).round())


def test_takes_only_so_many_utterances(corpus, features):
    folder, manifest, _ = corpus
    dataset = utterance_dataset(manifest, folder, features, max_utterances=2)
    assert [dataset[i]["id"] for i in range(len(dataset))] == ["a", "b"]


def test_every_second_is_drawn_as_often(corpus, features):
    folder, manifest, entries = corpus
    dataset = segment_dataset(manifest, folder, features, segment_frames=8, context_frames=30)
    drawn = Counter(draw.index for draw in SegmentSampler(dataset, 6600, seed=0))
    for index, entry in enumerate(entries.values()):
        assert drawn[index] / 6600 == pytest.approx(entry["num_samples"] / 66000, abs=0.03)


def test_every_epoch_draws_anew_but_reproducibly(corpus, features):
    folder, manifest, _ = corpus
    dataset = segment_dataset(manifest, folder, features, segment_frames=8, context_frames=30)
    sampler = SegmentSampler(dataset, 50, seed=0)
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
        SegmentSampler(dataset, 0, seed=0)


# ---- several speakers

HOP = 256
STEP = 70  # frame in which the tones below go up by half an octave
SPEAKERS = Speakers(["p225", "p226"], torch.tensor([[4.9, 0.2], [5.4, 0.1]]), [2, 2])


def stepping_tone(low, frames=140):
    """A tone that goes up in the middle, silent for its first 20 frames, and its log-F0."""
    high = low * 2**0.5
    frequency = numpy.where(numpy.arange(frames * HOP) < STEP * HOP, low, high)
    tone = 0.2 * numpy.sin(2 * numpy.pi * numpy.cumsum(frequency) / 22050)
    tone[: 20 * HOP] *= 1e-3
    at = numpy.arange(frames + 1)
    log_f0 = numpy.log(numpy.where(at < STEP, low, high)).astype(numpy.float32)
    log_f0[at < 20] = 0
    return tone, log_f0


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Two tones of each of two speakers and one of a third, with their pitch; made once."""
    folder, entries = tmp_path_factory.mktemp("voices"), {}
    lows = {"p225": (300.0, 330.0), "p226": (420.0, 450.0), "p999": (360.0,)}
    for speaker, frequencies in lows.items():
        (folder / speaker).mkdir()
        for number, low in enumerate(frequencies):
            name = f"{speaker}_{number:03d}"
            tone, log_f0 = stepping_tone(low)
            soundfile.write(folder / speaker / f"{name}.wav", tone, 22050)
            numpy.save(folder / speaker / f"{name}.pitch.npy", log_f0)
            entries[name] = {
                "wav": f"{{data_root}}/{speaker}/{name}.wav",
                "pitch": f"{{data_root}}/{speaker}/{name}.pitch.npy",
                "num_samples": len(tone),
                "duration": len(tone) / 22050,
                "text": "",
                "speaker": speaker,
                "log_f0_mean": float(log_f0[log_f0 > 0].mean()),
                "log_f0_std": 0.17,
            }
    return folder, entries


def segments_of(voices, tmp_path, features, speakers, **options):
    folder, entries = voices
    manifest = write_manifest(tmp_path, entries)
    options = {"segment_frames": 8, "context_frames": 30, "speakers": speakers, **options}
    return segment_dataset(manifest, folder, features, **options)


@pytest.mark.parametrize(
    ("switches", "names"),
    [
        ({}, ["speaker"]),
        ({"pitch": True}, ["speaker", "pitch", "f0_statistics"]),
        ({"reference": True}, ["speaker", "reference"]),
        (
            {"pitch": True, "reference": True},
            ["speaker", "pitch", "f0_statistics", "reference"],
        ),
    ],
)
def test_batches_tell_of_speakers_what_is_asked_for(voices, tmp_path, features, switches, names):
    speakers = SpeakerItems(SPEAKERS, **switches)
    assert speakers.names == names
    shapes = {"pitch": (30, 2), "f0_statistics": (2,), "reference": (30, 80)}
    segments = segments_of(voices, tmp_path, features, speakers)
    whole = utterance_dataset(
        write_manifest(tmp_path, voices[1]), voices[0], features, speakers=speakers
    )
    for dataset, frames in ((segments, 30), (whole, 141)):
        batch = PaddedBatch([dataset[i] for i in range(5)])
        assert batch.speaker.tolist() == [0, 0, 1, 1, -1]
        for name in ("pitch", "f0_statistics", "reference"):
            assert hasattr(batch, name) is (name in names)
            if name in names:
                shape = [frames if n == 30 else n for n in shapes[name]]
                assert list(getattr(batch, name).data.shape) == [5, *shape]


def test_without_them_batches_are_as_before(voices, tmp_path, features):
    item = segments_of(voices, tmp_path, features, None)[0]
    assert set(item) == {"id", "wav", "mel", "start", "skipped"}


def rises(values, least):
    """Where values rise by more than ``least`` from one frame to the next or the one after that,
    as a step does that lies between frames; None, or the first such frame."""
    found = (values[2:] - values[:-2] > least).nonzero().flatten()
    return int(found[0]) + 1 if len(found) else None


@pytest.mark.parametrize("random_shift", [False, True])
def test_pitch_is_aligned_with_the_log_mel(voices, tmp_path, features, random_shift):
    """The pitch steps, and begins, where the tone does, whatever crop of it this is."""
    torch.manual_seed(0)
    dataset = segments_of(
        voices,
        tmp_path,
        features,
        SpeakerItems(SPEAKERS, pitch=True),
        context_frames=60,
        random_shift=random_shift,
    )
    compared = {"step": 0, "onset": 0}
    for attempt in range(60):
        item = dataset[attempt % 4]
        pitch, voiced = item["pitch"].T
        bands = item["mel"].argmax(1).float()
        seen = {
            "step": (rises(pitch, 1.0) if voiced.all() else None, rises(bands, 2)),
            "onset": (rises(voiced, 0.5), rises(item["mel"].amax(1), 3)),
        }
        for what, (of_pitch, of_mel) in seen.items():
            if of_pitch is not None and 3 < of_pitch < 56:
                assert abs(of_pitch - of_mel) <= 2, what
                compared[what] += 1
    assert min(compared.values()) > 10


def test_pitch_behind_the_end_is_unvoiced(voices):
    """A shift of more than half a hop can put the last frame of the log-mel there."""
    entry = {"speaker_label": "p225", "pitch_path": voices[0] / "p225" / "p225_000.pitch.npy"}
    entry |= {"log_f0_mean": 5.0, "log_f0_std": 0.17}
    _, pitch, _ = SpeakerItems(SPEAKERS, pitch=True).items(entry, 130, 15)
    assert pitch.shape == (15, 2)
    assert pitch[:11, 1].all() and not pitch[11:].any()


def test_pitch_is_in_units_of_the_speaker_and_of_the_utterance_if_that_is_unknown(
    voices, tmp_path, features
):
    manifest = write_manifest(tmp_path, voices[1])
    speakers = SpeakerItems(SPEAKERS, pitch=True)
    dataset = utterance_dataset(manifest, voices[0], features, speakers=speakers)
    known, unknown = dataset[2], dataset[4]
    torch.testing.assert_close(known["f0_statistics"], torch.tensor([5.4, 0.1]))
    own = torch.tensor([voices[1]["p999_000"]["log_f0_mean"], 0.17])
    torch.testing.assert_close(unknown["f0_statistics"], own)
    for item, low in ((known, 420.0), (unknown, 360.0)):
        mean, std = item["f0_statistics"].tolist()
        pitch, voiced = item["pitch"].T
        assert voiced.tolist() == [0.0] * 20 + [1.0] * 121
        assert not pitch[:20].any()
        found = pitch[[20, STEP - 1, STEP, 140]] * std + mean
        expected = [math.log(low)] * 2 + [math.log(low * 2**0.5)] * 2
        assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_the_first_speaker_is_as_known_as_the_others(voices):
    """Whose number, 0, is neither the greatest nor below zero."""
    entry = {"speaker_label": SPEAKERS.labels[0], "log_f0_mean": 4.0, "log_f0_std": 0.05}
    entry["pitch_path"] = voices[0] / "p225" / "p225_000.pitch.npy"
    number, _, statistics = SpeakerItems(SPEAKERS, pitch=True).items(entry, 0, 15)
    assert number == 0 and torch.equal(statistics, SPEAKERS.f0_statistics[0])


def test_references_are_of_the_same_speaker(voices, tmp_path, features):
    """In training any utterance of that speaker, in evaluation the utterance itself."""
    torch.manual_seed(0)
    speakers = SpeakerItems(SPEAKERS, reference=True)
    dataset = segments_of(voices, tmp_path, features, speakers, context_frames=141)
    whole = utterance_dataset(
        write_manifest(tmp_path, voices[1]), voices[0], features, speakers=speakers
    )
    mels = [whole[i]["mel"] for i in range(5)]
    heard = [set() for _ in range(5)]
    for index in range(5):
        assert torch.equal(whole[index]["reference"], mels[index])
        for _ in range(8):
            reference = dataset[index]["reference"]
            errors = [float((reference - mel).abs().max()) for mel in mels]
            assert min(errors) < 1e-3
            heard[index].add(errors.index(min(errors)))
    assert heard == [{0, 1}, {0, 1}, {2, 3}, {2, 3}, {4}]


def write_nothing(path):
    pass


def write_empty(path):
    path.write_bytes(b"")


def write_text(path):
    path.write_text("5.1 5.2")


def write_truncated(path):
    numpy.save(path, numpy.zeros(100, numpy.float32))
    path.write_bytes(path.read_bytes()[:200])


def write_objects(path):
    numpy.save(path, numpy.array([{"f0": 5.1}]), allow_pickle=True)


def write_words(path):
    numpy.save(path, numpy.array(["high", "low"]))


def write_matrix(path):
    numpy.save(path, numpy.zeros((9, 2), numpy.float32))


def write_doubles(path):
    numpy.save(path, numpy.zeros(9))


def write_several(path):
    with open(path, "wb") as file:
        numpy.savez(file, a=numpy.zeros(9, numpy.float32))


@pytest.mark.parametrize(
    "write",
    [
        write_nothing,
        write_empty,
        write_text,
        write_truncated,
        write_objects,
        write_words,
        write_matrix,
        write_doubles,
        write_several,
    ],
)
def test_damaged_pitch_is_named(tmp_path, write):
    path = tmp_path / "p225_001.pitch.npy"
    write(path)
    with pytest.raises(UserError, match="p225_001.pitch.npy .*; prepare the corpus again"):
        read_pitch(path)


def test_damaged_pitch_is_named_in_training(voices, tmp_path, features):
    folder, entries = voices
    entries = {k: {**v, "pitch": "{data_root}/p225/none.npy"} for k, v in entries.items()}
    dataset = segments_of((folder, entries), tmp_path, features, SpeakerItems(SPEAKERS, pitch=True))
    with pytest.raises(UserError, match="none.npy cannot be read"):
        dataset[0]


def test_refuses_pitch_outside_of_the_corpus(voices, tmp_path, features):
    folder, entries = voices
    entries = {**entries, "p226_001": {**entries["p226_001"], "pitch": "/etc/passwd"}}
    for make in (segment_dataset, utterance_dataset):
        with pytest.raises(UserError, match="p226_001 names a file outside"):
            make(write_manifest(tmp_path, entries), folder, features)


@pytest.mark.parametrize("name", ["speaker", "pitch", "log_f0_mean", "log_f0_std"])
def test_refuses_entries_without_what_is_told_of_speakers(voices, tmp_path, features, name):
    folder, entries = voices
    damaged = {k: v for k, v in entries["p226_001"].items() if k != name}
    manifest = write_manifest(tmp_path, {**entries, "p226_001": damaged})
    for make in (segment_dataset, utterance_dataset):
        with pytest.raises(UserError, match=f"p226_001 has no {name}; prepare"):
            make(manifest, folder, features, speakers=SpeakerItems(SPEAKERS, pitch=True))
