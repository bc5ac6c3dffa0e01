"""Mel-consistent iterations in windows equal those of the whole."""

from types import SimpleNamespace

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.inference.streaming import refining
from waveglow_vq.inference.streaming.refining import refined, refined_blocks
from waveglow_vq.lobes.conditioners.base import Condition
from waveglow_vq.lobes.mel_consistency import mel_consistent, reach

import pytest
import torch

from tests.inference.exports import speech_like

FEATURES = LogMel()
HOP = 256


class FakeReader:
    """A pitch that moves, voiced now and then; an end is held, as PitchReader does."""

    receptive_field = 5

    def __call__(self, log_mel):
        level = log_mel.mean(1)
        held = torch.nn.functional.pad(level[:, None], (5, 5), mode="replicate")[:, 0]
        around = torch.nn.functional.avg_pool1d(held, 11, stride=1)
        return 100 + 30 * around.sin(), (level > around).float()


VOCODER = SimpleNamespace(hop=HOP, sample_rate=22050)
FLOWS = SimpleNamespace(source="flows", uses_pitch=False)
READ = SimpleNamespace(
    source="pulses", uses_pitch=False, vocoder=VOCODER, pitch_reader=FakeReader()
)
GIVEN = SimpleNamespace(source="pulses", uses_pitch=True, vocoder=VOCODER, pitch_reader=None)


def f0_of(frames, batch=1):
    """Hz, unvoiced now and then."""
    time = torch.arange(frames).expand(batch, -1)
    return (90 + 20 * torch.sin(time / 7)) * (torch.sin(time / 5) > -0.3)


def signals(samples, batch=1):
    """Waveforms, and the log-mels of others."""
    wav = speech_like(batch * samples).view(batch, -1)
    return wav, FEATURES(speech_like(batch * samples, seed=1).view(batch, -1))


def joined(blocks):
    return torch.cat(list(blocks), dim=-1)


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("sizes", [(256, 1), (1000, 7), (4096, 16), (30000, 200), (100000, 1000)])
@pytest.mark.parametrize("samples", [120 * HOP, 100 * HOP + 77])
def test_blocks_equal_the_whole(iterations, sizes, samples):
    wav, log_mel = signals(samples)
    # With the frame at the end, and without.
    for given in (log_mel, log_mel[..., : samples // HOP]):
        blocks = refined_blocks(
            wav.split(sizes[0], 1), given.split(sizes[1], -1), FEATURES, iterations
        )
        whole = mel_consistent(wav, given, FEATURES, iterations)
        assert (whole - wav).abs().max() > 0.01
        torch.testing.assert_close(joined(blocks), whole, rtol=0, atol=1e-5)


def test_blocks_of_a_batch_and_long_blocks_in_windows(monkeypatch):
    monkeypatch.setattr(refining, "WINDOW_SAMPLES", 9 * HOP)
    wav, log_mel = signals(60 * HOP, batch=2)
    whole = mel_consistent(wav, log_mel, FEATURES, 3)
    blocks = list(refined_blocks([wav], [log_mel], FEATURES, 3))
    assert max(block.shape[1] for block in blocks) == 9 * HOP
    torch.testing.assert_close(joined(blocks), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 512, 513, 1024, 3 * 1024 + 1])
def test_short_utterances(samples):
    wav, log_mel = signals(4096)
    wav, log_mel = wav[:, :samples], log_mel[..., : 1 + samples // HOP]
    whole = wav if samples <= 512 else mel_consistent(wav, log_mel, FEATURES, 3)
    for size in (1, 200, 5000):
        blocks = refined_blocks(wav.split(size, 1), [log_mel], FEATURES, 3)
        torch.testing.assert_close(joined(blocks), whole, rtol=0, atol=1e-5)


def test_a_block_comes_as_soon_as_what_it_depends_on_is_known():
    wav, log_mel = signals(100 * HOP)
    taken, frames = 0, 0

    def blocks():
        nonlocal taken
        for block in wav.split(HOP, 1):
            taken += HOP
            yield block

    def log_mels():
        nonlocal frames
        for part in log_mel.split(1, -1):
            frames += 1
            yield part

    given = 0
    for block in refined_blocks(blocks(), log_mels(), FEATURES, 4):
        given += block.shape[1]
        assert taken == min(given + reach(FEATURES, 4), 100 * HOP)
        assert frames == 1 + taken // HOP
    assert given == 100 * HOP


def test_memory_is_constant(monkeypatch):
    """No window is longer than its block and the reach to both sides, whatever came before."""
    longest = 0

    def watched(wav, log_mel, *args):
        nonlocal longest
        longest = max(longest, wav.shape[1], log_mel.shape[-1] * HOP)
        return mel_consistent(wav, log_mel, *args)

    monkeypatch.setattr(refining, "refine_voiced", watched)
    wav, log_mel = signals(400 * HOP)
    joined(refined_blocks(wav.split(8 * HOP, 1), log_mel.split(8, -1), FEATURES, 2))
    assert longest == 8 * HOP + 2 * reach(FEATURES, 2) + HOP


def test_no_iterations_give_the_blocks_themselves():
    blocks = [torch.ones(1, 3), torch.ones(1, 5)]
    result = list(refined_blocks(blocks, [], FEATURES, 0))
    assert result[0] is blocks[0] and result[1] is blocks[1]


@pytest.mark.parametrize("model", [FLOWS, READ, GIVEN])
def test_an_item_of_a_batch_is_what_it_is_alone(model):
    frames = torch.tensor([80, 33, 3, 2, 1])
    wav, log_mel = signals(80 * HOP, batch=5)
    wav, log_mel = wav * (torch.arange(80 * HOP) < frames[:, None] * HOP), log_mel[..., :80]

    def condition(log_mel):
        return Condition(log_mel, HOP, None, log_mel, f0=f0_of(log_mel.shape[-1], len(log_mel)))

    together = refined(wav, condition(log_mel), model, FEATURES, 5, frames / 80)
    for item, (count, whole) in enumerate(zip(frames.tolist(), together, strict=True)):
        given = wav[item : item + 1, : count * HOP]
        alone = refined(given, condition(log_mel[item : item + 1, :, :count]), model, FEATURES, 5)
        torch.testing.assert_close(whole[: count * HOP], alone[0], rtol=0, atol=1e-5)
        assert not whole[count * HOP :].any()
        # Two frames are too short to reflect.
        assert torch.equal(alone, given) == (count <= 2)


@pytest.mark.parametrize("model", [READ, GIVEN])
@pytest.mark.parametrize("sizes", [(256, 1), (1000, 7), (4096, 16), (30000, 200)])
def test_streams_from_pulses_equal_the_whole(model, sizes, monkeypatch):
    wav, log_mel = signals(120 * HOP)
    f0 = f0_of(log_mel.shape[-1])
    whole = refined(wav, Condition(None, HOP, None, log_mel, f0=f0), model, FEATURES, 3)
    flows = refined(wav, Condition(None, HOP, None, log_mel, f0=f0), FLOWS, FEATURES, 3)
    assert (whole - flows).abs().max() > 0.01
    monkeypatch.setattr(refining, "stream_waveform", lambda *args: wav.split(sizes[0], 1))
    conditions = (
        Condition(None, HOP, None, part, f0=own)
        for part, own in zip(log_mel.split(sizes[1], -1), f0.split(sizes[1], -1), strict=True)
    )
    blocks = refining.stream_refined(model, FEATURES, conditions, 3)
    # Gains magnify rounding where pulses leave next to nothing between their harmonics.
    torch.testing.assert_close(joined(blocks), whole, rtol=0, atol=1e-3)


def test_pitch_is_read_off_the_contract_only():
    assert refining.pitch_reader(FLOWS, FEATURES) is None
    assert refining.pitch_reader(GIVEN, LogMel(n_mels=40)) is None
    with pytest.raises(UserError, match="source: pulses, but pitch is only read"):
        refining.pitch_reader(READ, LogMel(n_mels=40))
