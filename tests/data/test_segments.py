from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.sound_files import SoundBytes
from waveglow_vq.data import segments
from waveglow_vq.data.segments import HALF_STEP, SegmentReader, dequantize, read_utterance
from waveglow_vq.errors import UserError

import numpy as np
import pytest
import soundfile
import torch

from tests.data.noise import HOP, RATE, speech_like, unshifted


@pytest.fixture
def utterance(tmp_path):
    path = tmp_path / "utterance.wav"
    soundfile.write(path, speech_like(60 * HOP + 77), RATE, subtype="PCM_16")
    return path


def on_disk(path):
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0])


def whole_mel(path):
    return LogMel()(on_disk(path)[None])[0].T


def place(item, path):
    """Where the item's mel begins within the utterance's mel, found by its values."""
    mel, count = whole_mel(path), len(item["mel"])
    errors = [
        (mel[first : first + count] - item["mel"]).abs().max()
        for first in range(len(mel) - count + 1)
    ]
    return int(torch.tensor(errors).argmin()), min(errors).item()


def draws(monkeypatch, *fractions):
    """Replaces chance: the draws are at these fractions of what is possible."""
    queue = list(fractions)
    monkeypatch.setattr(
        segments, "_random_below", lambda limit, _: min(int(queue.pop(0) * limit), limit - 1)
    )


# The segment at the start, within, and at the very end, and so the mel around it.
@pytest.mark.parametrize("where", [0.0, 0.02, 0.97, 1.0])
@pytest.mark.parametrize("around", [0.0, 1.0])
@pytest.mark.parametrize("context_frames", [5, 24, 100])
def test_item_is_cut_out_of_its_utterance(utterance, monkeypatch, where, around, context_frames):
    draws(monkeypatch, where, around)
    reader = unshifted(LogMel(), 4, context_frames, history=300)
    item = reader(utterance)
    first, error = place(item, utterance)
    assert error < 1e-5
    assert item["mel"].shape == (min(context_frames, 61), 80)
    # Consistent: the segment and the frame behind it lie within the mel.
    assert 0 <= item["start"] <= len(item["mel"]) - 4 - 1
    begin = first + item["start"]
    assert begin == min(int(where * 57), 56)
    wav = torch.nn.functional.pad(on_disk(utterance), (300, 0))
    expected = wav[begin * HOP : begin * HOP + 300 + 4 * HOP]
    found = torch.cat([item["history"], item["wav"]])
    assert item["wav"].shape == (4 * HOP,) and item["history"].shape == (300,)
    assert (found - expected).abs().max() <= HALF_STEP * 1.01
    if begin == 0:
        assert not item["history"].any()


def test_dequantized_by_one_step(utterance, monkeypatch):
    draws(monkeypatch, 0.5, 0.5)
    item = unshifted(LogMel(), 16, 40)(utterance)
    begin = sum((place(item, utterance)[0], item["start"])) * HOP
    noise = (item["wav"] - on_disk(utterance)[begin : begin + 16 * HOP]) / HALF_STEP
    assert noise.abs().max() <= 1.01
    # Uniform: variance 1 / 3.
    assert noise.mean().abs() < 0.05 and abs(noise.var().item() - 1 / 3) < 0.03
    assert torch.equal(
        dequantize(torch.zeros(9), torch.Generator().manual_seed(1)),
        dequantize(torch.zeros(9), torch.Generator().manual_seed(1)),
    )


def test_all_places_are_drawn(utterance):
    torch.manual_seed(0)
    reader = unshifted(LogMel(), 56, 58)
    items = [reader(utterance) for _ in range(60)]
    begins = {place(item, utterance)[0] + item["start"] for item in items}
    assert begins == {0, 1, 2, 3, 4}
    assert {item["start"] for item in items} == {0, 1}


def test_reproducible_by_seed(utterance):
    reader = unshifted(LogMel(), 4, 20, history=50)
    torch.manual_seed(3)
    first, second = reader(utterance), reader(utterance)
    torch.manual_seed(3)
    again = reader(utterance)
    assert first["start"] == again["start"]
    for key in ("wav", "history", "mel"):
        assert torch.equal(first[key], again[key])
    assert not torch.equal(first["wav"], second["wav"])


@pytest.mark.parametrize("audible_hop", [0, 700, 1399])
def test_never_silent_where_there_is_sound(tmp_path, audible_hop):
    """Sound in 1 of 1400 hops: chance alone would not find it in ten draws."""
    wav = np.zeros(1400 * HOP)
    wav[audible_hop * HOP : (audible_hop + 1) * HOP] = 2 * speech_like(HOP)
    soundfile.write(tmp_path / "a.wav", wav, RATE)
    torch.manual_seed(0)
    reader = unshifted(LogMel(), 4, 20)
    for _ in range(5):
        assert reader(tmp_path / "a.wav")["wav"].square().mean() > 1e-4


def test_silent_file_gives_finite_noise(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(40 * HOP), RATE)
    item = unshifted(LogMel(), 4, 20)(tmp_path / "a.wav")
    assert 0 < item["wav"].abs().max() <= HALF_STEP
    assert torch.isfinite(item["mel"]).all()


def test_file_of_exactly_one_segment(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like(4 * HOP), RATE, subtype="PCM_16")
    item = unshifted(LogMel(), 4, 20, history=50)(tmp_path / "a.wav")
    assert item["wav"].shape == (4 * HOP,) and item["mel"].shape == (5, 80)
    assert item["start"] == 0 and not item["history"].any()
    assert place(item, tmp_path / "a.wav")[1] < 1e-5


def test_reads_flac(tmp_path, utterance):
    soundfile.write(tmp_path / "a.flac", soundfile.read(utterance)[0], RATE, subtype="PCM_16")
    item = unshifted(LogMel(), 4, 20)(tmp_path / "a.flac")
    assert place(item, utterance)[1] < 1e-5


def test_context_has_to_hold_the_frame_behind_the_segment():
    with pytest.raises(UserError, match="context_frames: 16"):
        unshifted(LogMel(), 16, 16)


def test_read_utterance(utterance):
    item = read_utterance(utterance, LogMel(), torch.Generator().manual_seed(0))
    again = read_utterance(utterance, LogMel(), torch.Generator().manual_seed(0))
    assert item["wav"].shape == (60 * HOP,) and item["mel"].shape == (61, 80)
    assert torch.equal(item["wav"], again["wav"])
    assert (item["wav"] - on_disk(utterance)[: 60 * HOP]).abs().max() <= HALF_STEP * 1.01
    torch.testing.assert_close(item["mel"], whole_mel(utterance), rtol=0, atol=0)


def test_segment_is_off_the_edges_of_its_context_where_the_utterance_goes_on(utterance):
    reader = unshifted(LogMel(), segment_frames=4, context_frames=24)
    frames = soundfile.info(str(utterance)).frames // HOP + 1
    for begin in range(frames - 4):
        for _ in range(5):
            first, count = reader._context(begin, frames)
            assert 0 <= first <= begin and begin + 5 <= first + count <= frames
            assert first == 0 or begin - first >= 8
            assert first + count == frames or first + count - (begin + 5) >= 8


def test_all_places_of_the_context_are_drawn_and_all_of_a_reference(utterance, monkeypatch):
    """From the first to the last that keep the segment off the edges."""
    reader = unshifted(LogMel(), segment_frames=4, context_frames=24)
    limits = []
    monkeypatch.setattr(segments, "_random_below", lambda limit, _: limits.append(limit) or 0)
    firsts = []
    for fraction in ("first", "last"):
        if fraction == "last":
            monkeypatch.setattr(segments, "_random_below", lambda limit, _: limit - 1)
        firsts.append([reader._context(begin, 61)[0] for begin in (0, 8, 20, 30, 50, 56)])
    # 24 frames around [begin, begin + 5): 8 before it and after it, where there are so many.
    assert firsts == [[0, 0, 9, 19, 37, 37], [0, 0, 12, 22, 37, 37]]
    assert limits == [1, 1, 4, 4, 1, 1]
    assert torch.equal(reader.reference(utterance)[-1], whole_mel(utterance)[-1])


def test_shifted_item_is_cut_out_of_the_shifted_utterance(utterance, tmp_path, monkeypatch):
    """As if the samples before the shift were not in the file."""
    shift, shifted = 100, tmp_path / "shifted.wav"
    soundfile.write(shifted, soundfile.read(utterance)[0][shift:], RATE, subtype="PCM_16")
    for where in (0.0, 0.5, 1.0):
        draws(monkeypatch, shift / HOP, where, 0.5)
        item = SegmentReader(LogMel(), 4, 24, history=300)(utterance)
        draws(monkeypatch, where, 0.5)
        expected = unshifted(LogMel(), 4, 24, history=300)(shifted)
        assert item["start"] == expected["start"]
        assert (item["mel"] - expected["mel"]).abs().max() < 1e-5
        for key in ("wav", "history"):
            assert (item[key] - expected[key]).abs().max() <= 2.01 * HALF_STEP


def test_shifts_differ(utterance):
    torch.manual_seed(0)
    reader = SegmentReader(LogMel(), segment_frames=59, context_frames=60)
    wavs = torch.stack([reader(utterance)["wav"] for _ in range(8)])
    # Two segments would begin on two frames; shifted, they begin anywhere.
    assert len({round(float(wav[:100].square().sum()), 6) for wav in wavs}) > 3


# ---- what is aligned with the log-mel, and references


@pytest.mark.parametrize("shift", [0, 100, 127, 129, 200, 255])
def test_first_frame_is_the_nearest_one_of_the_file(utterance, monkeypatch, shift):
    """By it, what the preparation said of the file's frames is found again."""
    for where in (0.1, 0.5, 1.0):
        draws(monkeypatch, (shift + 0.5) / HOP, where, 0.5)
        item = SegmentReader(LogMel(), 4, 24)(utterance)
        draws(monkeypatch, where, 0.5)
        unshifted_first = unshifted(LogMel(), 4, 24)(utterance)["first_frame"]
        if shift == 0:
            assert item["first_frame"] == unshifted_first == place(item, utterance)[0]
        # Where the item begins, in samples of the file, found by its values.
        wav = on_disk(utterance)
        begins = torch.arange(len(wav) - 4 * HOP + 1)
        windows = wav.unfold(0, 50, 1)[: len(begins)]
        sample = int((windows - item["wav"][:50]).abs().amax(1).argmin())
        first_sample = sample - item["start"] * HOP
        assert first_sample % HOP == shift
        assert abs(item["first_frame"] * HOP - first_sample) <= HOP / 2


def test_reference_is_a_piece_of_the_log_mel(utterance):
    torch.manual_seed(0)
    reader = SegmentReader(LogMel(), 4, 24)
    firsts = set()
    for _ in range(40):
        mel = reader.reference(utterance)
        assert mel.shape == (24, 80)
        first, error = place({"mel": mel}, utterance)
        assert error < 1e-5
        firsts.add(first)
    # Anywhere in the 61 frames.
    assert len(firsts) > 15 and min(firsts) < 6 and max(firsts) > 31


def test_reference_of_a_short_file_is_all_of_it(utterance):
    mel = SegmentReader(LogMel(), 4, 100).reference(utterance)
    assert torch.allclose(mel, whole_mel(utterance), atol=1e-5)


def test_reference_takes_files_shorter_than_a_segment(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like(5 * HOP), RATE, subtype="PCM_16")
    assert SegmentReader(LogMel(), 16, 20).reference(tmp_path / "a.wav").shape == (6, 80)
    soundfile.write(tmp_path / "bad.wav", speech_like(2 * HOP), RATE)
    with pytest.raises(UserError, match="bad.wav: 512 samples are too short"):
        SegmentReader(LogMel(), 16, 20).reference(tmp_path / "bad.wav")


# ---- random numbers, and sound from memory


def seeded_items(reader, source, seed):
    generator = torch.Generator().manual_seed(seed)
    item = reader(source, generator)
    return {**item, "reference": reader.reference(source, generator)}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key])), key


# Where the first draw is loud enough, and where the whole clip is looked through.
@pytest.mark.parametrize("min_loudness_dbfs", [-60.0, 100.0, -16.0])
def test_all_random_numbers_are_those_of_the_generator(utterance, min_loudness_dbfs):
    reader = SegmentReader(LogMel(), 4, 20, 50, min_loudness_dbfs)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, other = (seeded_items(reader, utterance, seed) for seed in (5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert_same(first, seeded_items(reader, utterance, 5))
    assert not torch.equal(first["wav"], other["wav"])


def test_the_search_for_sound_draws_with_the_generator_too(tmp_path):
    wav = np.zeros(1400 * HOP)
    for hop in (100, 500, 900, 1300):
        wav[hop * HOP : (hop + 1) * HOP] = 2 * speech_like(HOP)
    soundfile.write(tmp_path / "a.wav", wav, RATE)
    # Drawn once, chance finds none of the four.
    reader = unshifted(LogMel(), 4, 20, attempts=1)
    for seed in range(4):
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        assert_same(*(reader(tmp_path / "a.wav", generator) for generator in generators))


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_bytes_are_cut_as_their_file_is(utterance, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, soundfile.read(utterance)[0], RATE, subtype="PCM_16")
    source = SoundBytes("shard.tar: a", path.read_bytes())
    reader = SegmentReader(LogMel(), 4, 20, history=50)
    for seed in range(5):
        assert_same(seeded_items(reader, path, seed), seeded_items(reader, source, seed))
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert_same(
        read_utterance(path, LogMel(), noise[0]), read_utterance(source, LogMel(), noise[1])
    )
