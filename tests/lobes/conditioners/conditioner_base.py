"""What the tests of conditioners share."""

from waveglow_vq.lobes.conditioners.pitch_condition import normalize_pitch

import pytest
import torch

from tests.lobes.flows.transform_base import random_tensor, randomized, tiny_features

HOP = 16


def ready(conditioner):
    """With biases and codes that are not near zero, so that padding could be seen."""
    return randomized(conditioner, 0.1).eval()


def mels(frames, batch=1, seed=0):
    return 2 * random_tensor(batch, 8, frames, seed=seed) - 5


def same(found, expected, atol=1e-5):
    # The predicted log-mel is fp32 by contract.
    torch.testing.assert_close(found, expected, rtol=0, atol=atol, check_dtype=False)


def who_speaks(conditioner, speaker_channels, items, frames, seed=0):
    """Keyword arguments that say who speaks, and at which pitch, where the conditioner asks for
    it."""
    arguments = {}
    if speaker_channels:
        arguments["speaker"] = random_tensor(items, speaker_channels, seed=seed)
    if conditioner.uses_pitch:
        statistics = torch.tensor([[5.0, 0.2], [4.6, 0.1], [5.4, 0.3]]).double()
        statistics = statistics.roll(seed, 0).repeat(items, 1)[:items]
        log_f0 = 5.0 + 0.2 * random_tensor(items, frames, seed=seed + 1)
        log_f0 = log_f0 * (random_tensor(items, frames, seed=seed + 2) > -0.5)
        arguments["pitch"] = normalize_pitch(log_f0, statistics)
        arguments["f0_statistics"] = statistics
    return arguments


class ConditionerContract:
    """What every conditioner has to hold to. Subclasses name their ``cases``: functions that return
    a conditioner of ``tiny_features()`` and its number of channels of the speaker."""

    cases = {}

    def pytest_generate_tests(self, metafunc):
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.cases))

    def build(self, case):
        torch.manual_seed(0)
        conditioner, speaker_channels = self.cases[case]()
        return ready(conditioner), speaker_channels

    def features(self, conditioner, wav):
        blocks = conditioner.input_blocks(tiny_features(), wav.float().split(37))
        return torch.cat(list(blocks), dim=-1).double()

    def test_lacks_nothing_and_is_described(self, case):
        conditioner, _ = self.build(case)
        assert conditioner.lacks() == [] and conditioner.reads in conditioner.description
        assert conditioner.description.startswith("codes") is (conditioner.quantizer is not None)

    @pytest.mark.parametrize("samples", [9 * HOP, 9 * HOP + 1, 10 * HOP - 1])
    def test_counts_are_those_of_what_it_computes(self, case, samples):
        conditioner, speaker_channels = self.build(case)
        features = self.features(conditioner, random_tensor(samples))
        assert features.shape[-1] == conditioner.step_count(samples)
        frames = conditioner.frame_count(samples)
        who = who_speaks(conditioner, speaker_channels, 1, frames)
        condition = conditioner(features, **who)
        assert condition.local.shape[:2] == (1, conditioner.channels)
        assert condition.hop == conditioner.hop
        assert condition.local.shape[-1] * condition.hop == frames * HOP
        assert (condition.log_mel is not None) is conditioner.gives_log_mel
        if condition.log_mel is not None:
            assert condition.log_mel.shape == (1, 8, frames)
        if conditioner.quantizer is None:
            assert condition.quantized is None and conditioner.is_vocoder
            return
        codes = conditioner.code_count(samples)
        assert condition.quantized.indices.shape == (1, codes)
        whole = -(-codes // conditioner.code_unit) * conditioner.code_unit
        longest = conditioner.sample_count(whole)
        assert longest >= samples
        assert conditioner.code_count(longest) == whole < conditioner.code_count(longest + 1)

    def test_a_segment_within_its_log_mel(self, case):
        """What is read, what it is compared with, and what belongs to the waveform."""
        conditioner, speaker_channels = self.build(case)
        mel, wav, starts = mels(9, batch=2), random_tensor(2, 4 * HOP), torch.tensor([2, 5])
        inputs = conditioner.inputs(mel, wav, starts=starts)
        frames = inputs.log_mel.shape[-1]
        who = who_speaks(conditioner, speaker_channels, 2, frames)
        condition = conditioner(inputs.features, inputs.lengths, **who)
        if condition.log_mel is not None:
            assert condition.log_mel.shape == inputs.log_mel.shape
        part = condition.cropped(inputs.frames, inputs.starts, inputs.lengths)
        assert 0 <= part.local.shape[-1] * condition.hop - 4 * HOP <= HOP
        for item, start in enumerate(starts.tolist()):
            begin = start if inputs.starts is not None else 0
            own = condition.local[item, :, begin : begin + part.local.shape[-1]]
            same(part.local[item, :, : own.shape[-1]], own, atol=0)
            begin = start - begin
            same(inputs.log_mel[item, :, :4], mel[item, :, begin : begin + 4], atol=0)

    def test_item_of_a_padded_batch_equals_itself_alone(self, case):
        """The batch is padded with values that would be heard if they were used."""
        conditioner, speaker_channels = self.build(case)
        steps = [conditioner.step_count(frames * HOP) for frames in (12, 7, 10, 5)]
        longest = max(steps)
        items = [
            random_tensor(1, n, seed=n) if conditioner.input_hop == 1 else mels(n, seed=n)
            for n in steps
        ]
        batch = torch.cat(
            [torch.nn.functional.pad(x, (0, longest - x.shape[-1]), value=3.0) for x in items]
        )
        lengths = torch.tensor([n / longest for n in steps])
        per_frame = conditioner.frame_hop // conditioner.input_hop
        who = who_speaks(conditioner, speaker_channels, 4, longest // per_frame)
        both = conditioner(batch, lengths, **who)
        for b, (item, n) in enumerate(zip(items, steps, strict=True)):
            own = {name: value[b : b + 1] for name, value in who.items()}
            if "pitch" in own:
                own["pitch"] = own["pitch"][:, : n // per_frame]
            alone = conditioner(item, **own)
            same(both.local[b, :, : alone.local.shape[-1]], alone.local[0])
            if alone.log_mel is not None:
                same(both.log_mel[b, :, : alone.log_mel.shape[-1]], alone.log_mel[0])
            if alone.quantized is None:
                continue
            codes = alone.quantized.indices.shape[1]
            # The codes hide small differences, the vectors before them do not.
            same(both.vectors[b, :codes], conditioner.encoder(item)[0], atol=1e-12)
            indices = both.quantized.indices[b]
            assert torch.equal(indices[:codes], alone.quantized.indices[0])
            assert (indices[codes:] == -1).all()
            assert torch.equal(conditioner.encode(batch, lengths)[b], indices)

    def test_codes_decode_to_the_condition_of_forward(self, case):
        conditioner, speaker_channels = self.build(case)
        if conditioner.quantizer is None:
            pytest.skip("no codes")
        steps, frames = conditioner.step_count(10 * HOP), conditioner.frame_count(10 * HOP)
        wave = conditioner.input_hop == 1
        features = random_tensor(2, steps) if wave else mels(steps, batch=2)
        who = who_speaks(conditioner, speaker_channels, 2, frames)
        valid = 6
        for lengths in (None, torch.tensor([1.0, valid / frames])):
            condition = conditioner(features, lengths, **who)
            codes = conditioner.encode(features, lengths)
            assert codes.dtype == torch.int64
            assert torch.equal(codes, condition.quantized.indices)
            decoded = conditioner.decode(codes, frames, lengths, **who)
            same(decoded.local, condition.local)
            assert decoded.hop == condition.hop and decoded.quantized is None
            if condition.log_mel is not None:
                same(decoded.log_mel[0], condition.log_mel[0])
                same(decoded.log_mel[1, :, :valid], condition.log_mel[1, :, :valid])
