from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners import mel_vq as module
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer

import pytest
import torch

from tests.lobes.conditioners.conditioner_base import (
    HOP,
    ConditionerContract,
    mels,
    ready,
    same,
    who_speaks,
)
from tests.lobes.flows.transform_base import random_tensor, tiny_features

# What speakers and conversion add, each alone and all together.
SWITCHES = {
    "none": {},
    "speaker": {"speaker_channels": 3},
    "instance norm": {"use_instance_norm": True},
    "jitter": {"jitter": 0.5},
    "warp": {"warp": 0.3},
    "quantize after": {"quantize_after": 5},
    "pitch": {"use_pitch": True},
    "fine pitch": {"use_pitch": True, "pitch_stride": 1, "pitch_levels": 7},
    "vectors as they are": {"normalize_vectors": False},
}
SWITCHES["all"] = {k: v for switch in SWITCHES.values() for k, v in switch.items()}


def mel_vq(stride, quantizer=SoftEMQuantizer, **options):
    torch.manual_seed(0)
    quantizer = quantizer(12, 6, initialization="normal")
    conditioner = MelVQConditioner(tiny_features(), quantizer, stride, channels=10, **options)
    return ready(conditioner)


def who(options, items, frames, seed=0):
    """As who_speaks, by the options."""
    channels = options.get("speaker_channels", 0)
    return who_speaks(mel_vq(1, **options), channels, items, frames, seed)


class TestMelVQ(ConditionerContract):
    cases = {
        f"{name}, stride {stride}": (
            lambda stride=stride, options=options: (
                mel_vq(stride, **options),
                options.get("speaker_channels", 0),
            )
        )
        for stride in (1, 3)
        for name, options in SWITCHES.items()
    }
    cases["stride 2"] = lambda: (mel_vq(2), 0)
    cases["ema, stride 5"] = lambda: (mel_vq(5, EMAQuantizer), 0)


# ---- codes


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padded_codes_decode_like_each_alone(stride):
    conditioner = mel_vq(stride)
    codes = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, -1, -1]])
    both, alone = conditioner.decode(codes), conditioner.decode(codes[1:, :3])
    frames = 3 * stride
    same(both.local[1:, :, :frames], alone.local)
    same(both.log_mel[1:, :, :frames], alone.log_mel)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_ragged_codes_decode_to_the_condition_of_forward(stride):
    """Codes do not say how many frames of the last of them are meant: the lengths do."""
    conditioner, mel = mel_vq(stride), mels(11, batch=2)
    lengths = torch.tensor([1.0, 7 / 11])
    condition = conditioner(mel, lengths)
    decoded = conditioner.decode(conditioner.encode(mel, lengths), 11, lengths)
    same(decoded.local, condition.local)
    same(decoded.log_mel[1, :, :7], condition.log_mel[1, :, :7])


# ---- who speaks, and at which pitch


def test_the_codes_do_not_know_the_target_and_the_condition_does():
    """Each of the three that say who is to speak is heard, in the predicted log-mel too."""
    switches = SWITCHES["all"]
    conditioner, mel = mel_vq(2, **switches), mels(12)
    source, other = who(switches, 1, 12), who(switches, 1, 12, seed=1)
    before = conditioner(mel, **source)
    for name in ("speaker", "pitch", "f0_statistics"):
        after = conditioner(mel, **{**source, name: other[name]})
        assert torch.equal(after.quantized.indices, before.quantized.indices)
        assert torch.equal(after.vectors, before.vectors)
        assert (after.local - before.local).abs().max() > 0.01, name
        assert (after.log_mel - before.log_mel).abs().max() > 0.01, name


def test_the_speaker_moves_every_frame_of_the_predicted_log_mel_alike():
    """The head's own part of it: a spectral tilt, as it were."""
    conditioner = mel_vq(2, speaker_channels=3)
    for stack in (conditioner.coarse, conditioner.fine):
        torch.nn.init.zeros_(stack.modulation.weight)
        torch.nn.init.zeros_(stack.modulation.bias)
    one, other = (conditioner(mels(12), speaker=random_tensor(1, 3, seed=s)) for s in (0, 1))
    difference = one.log_mel - other.log_mel
    assert difference.abs().max() > 0.01
    same(difference, difference[..., :1].expand_as(difference))


def test_at_first_neither_speaker_nor_harmonics_touch_the_log_mel_prediction():
    """Zero-initialized, so that a model begins as one without speakers; but not dead."""
    switches = {"speaker_channels": 3, "use_pitch": True}
    conditioner = MelVQConditioner(tiny_features(), SoftEMQuantizer(12, 6), 2, 10, **switches)
    for layer in (conditioner.speaker_head, conditioner.harmonics):
        assert not layer.weight.any()
    assert conditioner.coarse.modulation is not None and conditioner.fine.modulation is not None


def test_pitch_is_rounded_before_it_is_used():
    """Beside the codes there are no more bits than is said."""
    switches = {"use_pitch": True, "pitch_stride": 4, "pitch_levels": 7}
    conditioner, mel = mel_vq(2, **switches), mels(12)
    arguments = who(switches, 1, 12)
    before = conditioner(mel, **arguments)
    nudged = {**arguments, "pitch": arguments["pitch"] + torch.tensor([1e-6, 0.0])}
    same(conditioner(mel, **nudged).local, before.local, atol=0)
    # Of one block, what it is rounded to says the same as itself.
    block = arguments["pitch"][:, :4]
    rounded = conditioner.pitch.quantize(block)
    assert (block - rounded).abs().max() > 0.1
    one, other = ({**arguments, "pitch": pitch} for pitch in (block, rounded))
    same(conditioner(mel[..., :4], **one).local, conditioner(mel[..., :4], **other).local, 1e-9)


def test_pitch_longer_than_the_log_mel_is_cut():
    switches = {"use_pitch": True}
    conditioner, arguments = mel_vq(2, **switches), who(switches, 1, 15)
    long = conditioner(mels(12), **arguments)
    short = conditioner(mels(12), **{**arguments, "pitch": arguments["pitch"][:, :12]})
    assert torch.equal(long.local, short.local)


def test_it_says_what_pitch_it_needs_and_what_that_costs():
    assert not mel_vq(2).uses_pitch and mel_vq(2).pitch_bits_per_second == 0
    conditioner = mel_vq(2, use_pitch=True, pitch_stride=5, pitch_levels=15)
    assert conditioner.uses_pitch
    assert conditioner.pitch_bits_per_second == pytest.approx(8000 / HOP / 5 * 4)
    with pytest.raises(UserError, match="pitch: this model was trained with pitch"):
        conditioner(mels(12))


# ---- in training


def test_instance_norm_takes_away_what_is_constant():
    """A microphone's response and gain: what is quantized of the same speech is the same."""
    mel, microphone = mels(40), random_tensor(1, 8, 1, seed=5)
    for switch in (True, False):
        conditioner = mel_vq(2, use_instance_norm=switch)
        first, second = (conditioner.encoder(x) for x in (mel, mel + microphone))
        assert bool((first - second).abs().max() < 1e-6) is switch


def test_instance_norm_is_there_before_and_after_the_stride(monkeypatch):
    """On the log-mel, on the layers at frame rate, and on those at the rate of the codes."""
    frames = []
    norm = module.instance_norm
    monkeypatch.setattr(
        module, "instance_norm", lambda x, mask: frames.append(x.shape[-1]) or norm(x, mask)
    )
    mel_vq(3, use_instance_norm=True).encoder(mels(12))
    assert frames == [12, 12, 4]


def train(conditioner, mel, **arguments):
    torch.manual_seed(0)
    return conditioner.train()(mel, **arguments)


def test_jitter_and_warp_are_off_in_evaluation():
    mel = mels(12)
    plain = mel_vq(2)(mel)
    for switch, changes in (({"jitter": 0.5}, "local"), ({"warp": 0.3}, "vectors")):
        conditioner = mel_vq(2, **switch)
        found = conditioner(mel)
        same(found.local, plain.local, atol=0)
        same(found.vectors, plain.vectors, atol=0)
        trained = getattr(train(conditioner, mel), changes)
        assert (trained - getattr(plain, changes)).abs().max() > 0.01


def test_jitter_is_behind_the_quantizer():
    """What the quantizer learns from, and says, is in order."""
    conditioner = mel_vq(2, jitter=0.9)
    mel = mels(24)
    in_order, jittered = conditioner(mel), train(conditioner, mel)
    same(jittered.vectors, in_order.vectors, atol=0)
    assert torch.equal(jittered.quantized.indices, in_order.quantized.indices)
    decoded = conditioner.decode(jittered.quantized.indices, 24)
    assert (decoded.local - jittered.local).abs().max() > 0.01


def test_jitter_does_not_reach_padding():
    conditioner = mel_vq(2, jitter=0.99).train()
    lengths = torch.tensor([1.0, 0.5])
    seen = []
    conditioner.from_code.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for seed in range(20):
        torch.manual_seed(seed)
        quantized = conditioner(mels(12, batch=2), lengths).quantized.quantized
        codes = {tuple(vector.tolist()) for vector in quantized[1, :3]}
        assert {tuple(vector.tolist()) for vector in seen[-1][1].T[:3]} <= codes


def test_only_the_encoder_sees_the_warped_log_mel(monkeypatch):
    """Its input is not changed in place either: it is what the head has to predict."""
    seen = []

    def warp(log_mel, extent):
        seen.append((log_mel, extent))
        return log_mel.flip(1)

    monkeypatch.setattr(module, "random_warp", warp)
    conditioner, mel = mel_vq(2, warp=0.3), mels(12)
    before = mel.clone()
    warped = train(conditioner, mel)
    assert seen[0][0] is mel and seen[0][1] == 0.3 and torch.equal(mel, before)
    same(warped.vectors, conditioner.eval().encoder(mel.flip(1)), atol=0)


@pytest.mark.parametrize("name", list(SWITCHES))
@pytest.mark.parametrize("quantizer", [SoftEMQuantizer, EMAQuantizer])
def test_gradient_reaches_every_parameter(name, quantizer):
    switches = SWITCHES[name]
    conditioner = mel_vq(2, quantizer, **switches)
    if conditioner.quantize_after:
        conditioner.steps += conditioner.quantize_after
    # Not the sum of the whole condition: what is the same in every frame is lost by then.
    condition = train(conditioner, mels(8), **who(switches, 1, 8))
    weights = random_tensor(*condition.local.shape, seed=7)
    ((condition.local * weights).sum() + condition.log_mel.square().sum()).backward()
    for parameter_name, parameter in conditioner.named_parameters():
        gradient = parameter.grad
        assert gradient is not None and gradient.abs().max() > 0, parameter_name


def test_predicted_log_mel_is_fp32_under_autocast():
    switches = SWITCHES["all"]
    conditioner = mel_vq(2, **switches).float()
    arguments = {name: value.float() for name, value in who(switches, 1, 8).items()}
    with torch.autocast("cpu", torch.bfloat16):
        condition = conditioner(mels(8).float(), **arguments)
    assert condition.log_mel.dtype == torch.float32
    assert condition.local.dtype == torch.bfloat16


# ---- a start without codes


def test_the_decoder_sees_what_is_not_quantized_until_the_start_step():
    conditioner, mel = mel_vq(2, quantize_after=3), mels(12)
    expected = conditioner.decoder(conditioner.encoder(mel), 12)
    codes = conditioner.decode(conditioner.encode(mel), 12)
    for step in range(5):
        condition = train(conditioner, mel)
        with_codes = step >= 3
        same(condition.local, codes.local if with_codes else expected[0])
        assert (condition.local - codes.local).abs().max() > 0.01 or with_codes
        # Meanwhile the codes are drawn towards the vectors.
        assert condition.quantized.losses and (condition.quantized.indices >= 0).all()
    assert int(conditioner.steps) == 5


def test_evaluation_is_always_through_the_codes_and_no_step():
    """Else the best checkpoint would be one of before the start step."""
    conditioner, mel = mel_vq(2, quantize_after=2), mels(12)
    for steps in (0, 1, 2, 3):
        assert int(conditioner.steps) == steps
        codes = conditioner.eval().encode(mel)
        same(conditioner(mel).local, conditioner.decode(codes, 12).local)
        train(conditioner, mel)


def test_the_gradient_passes_the_quantizer_by_before_the_start_step():
    conditioner, mel = mel_vq(2, quantize_after=3, normalize_vectors=False), mels(12)
    train(conditioner, mel).local.sum().backward()
    assert conditioner.to_code.weight.grad.any()
    assert not conditioner.quantizer.codebook.grad.any()  # the decoder has not seen it
    sum(train(conditioner, mel).quantized.losses.values()).backward()
    assert conditioner.quantizer.codebook.grad.any()


def test_steps_are_saved_and_resumed(tmp_path):
    conditioner = mel_vq(2, quantize_after=3)
    train(conditioner, mels(12)), train(conditioner, mels(12))
    torch.save(conditioner.state_dict(), tmp_path / "model.ckpt")
    resumed = mel_vq(2, quantize_after=3)
    resumed.load_state_dict(torch.load(tmp_path / "model.ckpt", weights_only=True))
    assert int(resumed.steps) == 2
    train(resumed, mels(12))
    assert int(resumed.steps) == 3 and int(conditioner.steps) == 2


def test_without_switches_it_has_the_parameters_it_always_had():
    """So that models trained before there were speakers can be loaded."""
    conditioner = mel_vq(2, encoder_layers=1, decoder_layers=1)
    stacks = ("before", "after", "coarse", "fine")
    layers = ["start", "down", "to_code", "from_code", "up", "mel_head"]
    layers += [f"{stack}.{layer}.0" for stack in stacks for layer in ("wide", "narrow")]
    names = {name for name in conditioner.state_dict() if not name.startswith("quantizer.")}
    assert names == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


# ---- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride: 0"),
        ({"kernel_size": 2}, "kernel_size: 2"),
        ({"jitter": 1.0}, "jitter: 1.0"),
        ({"jitter": -0.1}, "jitter: -0.1"),
        ({"warp": 1.0}, "warp: 1.0"),
        ({"quantize_after": -1}, "quantize_after: -1"),
        ({"use_pitch": True, "pitch_levels": 1}, "pitch_levels: 4 and 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        mel_vq(**{"stride": 2, **options})
