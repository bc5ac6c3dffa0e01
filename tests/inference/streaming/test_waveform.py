"""Streams of waveforms equal what is computed at once."""

import math

from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.inference.streaming.waveform import (
    AfterFlows,
    condition_blocks,
    stream_noise,
    stream_waveform,
)
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer

import pytest
import torch

HOP, FRAMES = 256, 23
# The flows: options of WaveGlow. With these layers they see three or four frames to either side.
FLOWS = {
    "envelope": {},
    "white": {"prior": "white", "use_film": True},
    "group geometry": {"condition_geometry": "group"},
    "sample geometry": {"prior": "white", "condition_geometry": "sample", "group_size": 16},
    "speaker": {"speaker_channels": 4, "use_film": True, "use_weight_norm": False},
}
CONDITIONERS = {
    "mel": lambda f: MelConditioner(f, channels=16),
    "mel as it is": lambda f: MelConditioner(f, layers=0),
    "codes": lambda f: MelVQConditioner(f, SoftEMQuantizer(32, 16), stride=3, channels=16),
    "codes of waves": lambda f: WaveVQConditioner(
        f, SoftEMQuantizer(32, 16), channels=16, mel_head=True
    ),
}
SMALL = {"flows": 3, "early_every": 2, "layers": 5, "channels": 8, "envelope": {"order": 16}}


def model_of(conditioner="mel", **options):
    features = LogMel()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        conditioner = CONDITIONERS[conditioner](features)
        vocoder = WaveGlow(features, conditioner.channels, conditioner.hop, **{**SMALL, **options})
        count = vocoder.speaker_channels
        speakers = SpeakerCondition(2, channels=count) if count else None
        model = WaveGlowVQ(conditioner, vocoder, speakers=speakers)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def inputs_of(model, batch=1, frames=FRAMES):
    """What a conditioner decodes, codes or log-mels, so that the condition has these frames."""
    generator = torch.Generator().manual_seed(2)
    if model.quantizer is None:
        drift = torch.randn(batch, 80, frames, generator=generator).cumsum(-1) / 3
        return drift - 5, model.conditioner, 1
    count = frames * HOP // model.conditioner.samples_per_code
    codes = torch.randint(32, (batch, count), generator=generator)
    return codes, model.conditioner.decode, max(1, HOP // model.conditioner.samples_per_code)


def joined(blocks):
    return torch.cat(list(blocks), dim=-1)


@torch.no_grad()
def one_shot(model, condition_of, inputs, **options):
    return model.sample(condition_of(inputs), **options)


def close(one, other):
    assert one.shape == other.shape
    assert other.abs().max() > 0.01
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
@pytest.mark.parametrize("flows", FLOWS)
def test_a_stream_is_the_whole(flows, chunk):
    model = model_of(**FLOWS[flows])
    mel, condition_of, _ = inputs_of(model)
    speaker = torch.randn(1, 4) if flows == "speaker" else None
    whole = one_shot(model, condition_of, mel, speaker=speaker, generator=3)
    reach = model.conditioner.receptive_field
    conditions = condition_blocks(condition_of, mel.split(chunk, dim=-1), reach)
    blocks = list(
        stream_waveform(model, conditions, speaker, generator=3, chunk_frames=max(chunk, 2))
    )
    close(joined(blocks), whole)
    assert len(blocks) > 1 or chunk == 64


@pytest.mark.parametrize("conditioner", CONDITIONERS)
@pytest.mark.parametrize("frames", [1, 2, 7, 24])
def test_every_conditioner_and_short_inputs(conditioner, frames):
    model = model_of(conditioner)
    if conditioner == "codes":
        frames = math.ceil(frames / 3) * 3
    inputs, condition_of, unit = inputs_of(model, batch=2, frames=frames)
    whole = one_shot(model, condition_of, inputs, generator=4, sigma=0.7)
    reach = model.conditioner.receptive_field
    conditions = condition_blocks(condition_of, inputs.split(3, dim=-1), reach, unit)
    blocks = stream_waveform(model, conditions, sigma=0.7, generator=4, chunk_frames=3)
    close(joined(blocks), whole)


def test_windows_are_no_wider_than_the_layers_see():
    # In fp64, where no rounding hides the little that the outermost taps contribute.
    model = model_of(kernel_size=65, layers=1).double()
    mel, condition_of, _ = inputs_of(model)
    mel = mel.double()
    reach = math.ceil(model.vocoder.receptive_field / HOP)
    assert reach == 3
    condition = condition_of(mel)
    whole = one_shot(model, condition_of, mel, generator=0)

    def error(overlap):
        blocks = stream_waveform(
            model, condition, generator=0, overlap_frames=overlap, chunk_frames=4
        )
        return float((joined(blocks) - whole).abs().max())

    assert error(None) < 1e-12 and error(reach) < 1e-12 and error(100) < 1e-12
    assert error(0) > error(1) > error(reach - 1) > 1e-9


def test_chunks_come_as_soon_as_they_are_known():
    model = model_of()
    mel, condition_of, _ = inputs_of(model, frames=40)
    taken = []

    def chunks():
        for t in range(mel.shape[-1]):
            taken.append(t)
            yield mel[..., t : t + 1]

    conditions = condition_blocks(condition_of, chunks(), model.conditioner.receptive_field)
    blocks = stream_waveform(model, conditions, generator=0, chunk_frames=4)
    assert not taken
    assert next(blocks).shape == (1, 4 * HOP)
    # The chunk, what the flows see behind it, the frame that follows, what the conditioner sees.
    assert len(taken) == 4 + 3 + 1 + model.conditioner.receptive_field
    next(blocks)
    assert len(taken) == 4 + 4 + 3 + 1 + model.conditioner.receptive_field


@pytest.mark.parametrize("source", ["seed", "generator", "global"])
def test_noise_is_that_of_the_whole(source):
    model = model_of()
    mel, condition_of, _ = inputs_of(model)

    def generator():
        torch.manual_seed(5)
        return {"seed": 5, "generator": torch.Generator().manual_seed(5), "global": None}[source]

    whole = one_shot(model, condition_of, mel, generator=generator())
    condition = condition_of(mel)
    close(joined(stream_waveform(model, condition, generator=generator(), chunk_frames=2)), whole)


def test_items_of_a_batch_have_noise_of_their_own():
    model = model_of()
    mel, condition_of, _ = inputs_of(model)
    condition = condition_of(mel.expand(2, -1, -1))
    for generator in (None, torch.Generator().manual_seed(1)):
        first, second = joined(stream_waveform(model, condition, generator=generator))
        assert not torch.equal(first, second)
    first, second = joined(stream_waveform(model, condition, generator=1))
    assert torch.equal(first, second)


@pytest.mark.parametrize("hop", [16, 40, 256])
def test_draws_in_parts_are_one_draw(hop):
    from waveglow_vq.inference.streaming.noise import Noise
    from waveglow_vq.inference.streaming.waveform import _Place

    frames, noise, parts = 13, Noise(7), []
    for begin in range(0, frames, 3):
        end = min(begin + 5, frames)
        place = _Place(begin, end, begin, end, end == frames, torch.zeros(1, 1, 1), None)
        parts.append((begin * hop, noise.take(place, hop)))
        if end == frames:
            break
    whole = torch.randn(frames * hop, generator=torch.Generator().manual_seed(7))
    for begin, part in parts:
        assert torch.equal(part[0], whole[begin : begin + part.shape[1]])


@pytest.mark.parametrize("unit", [96, 256, 384])
def test_what_is_done_after_the_flows(unit):
    # A moving sum over blocks: right only in slices that begin on a block and show a block to
    # either side.
    def apply(signal):
        blocks = torch.nn.functional.pad(signal, (0, -signal.shape[1] % unit))
        blocks = blocks.unflatten(1, (-1, unit)).mean(2)
        smooth = torch.nn.functional.avg_pool1d(blocks, 3, 1, 1)
        return signal - smooth.repeat_interleave(unit, dim=1)[:, : signal.shape[1]]

    model = model_of(prior="white")
    mel, condition_of, _ = inputs_of(model)
    whole = apply(one_shot(model, condition_of, mel, generator=0))
    blocks = stream_waveform(
        model,
        condition_of(mel),
        generator=0,
        chunk_frames=2,
        after_flows=AfterFlows(apply, 2 * unit - 1, unit),
    )
    close(joined(blocks), whole)


@pytest.mark.parametrize("flows", FLOWS)
def test_to_noise_and_back(flows):
    model = model_of(**FLOWS[flows])
    mel, condition_of, _ = inputs_of(model, frames=FRAMES + 1)
    speaker = torch.randn(1, 4) if flows == "speaker" else None
    generator = torch.Generator().manual_seed(0)
    wav = 0.1 * torch.randn(1, FRAMES * HOP, generator=generator)
    condition = condition_of(mel)
    with torch.no_grad():
        z, _, _ = model.to_noise(wav, mel, condition, speaker=speaker)
    noise = list(
        stream_noise(model, condition, wav.split(700, dim=1), FRAMES, speaker, chunk_frames=4)
    )
    flat = z.transpose(1, 2).flatten(1)
    torch.testing.assert_close(joined(noise), flat, atol=1e-5 * float(flat.abs().max()), rtol=0)
    back = stream_waveform(
        model, condition, speaker, noise=iter(noise), frames=FRAMES, chunk_frames=4
    )
    torch.testing.assert_close(joined(back), wav, atol=1e-4, rtol=0)


def test_gradients_and_modes_stay_with_whoever_takes_the_blocks():
    model = model_of()
    mel, condition_of, _ = inputs_of(model)

    def chunks():
        assert torch.is_grad_enabled()
        yield from mel.split(4, dim=-1)

    conditions = condition_blocks(condition_of, chunks(), model.conditioner.receptive_field)
    for block in stream_waveform(model, conditions, generator=0, chunk_frames=2):
        assert torch.is_grad_enabled() and not block.requires_grad


@pytest.mark.parametrize(
    "options",
    [
        {"overlap_frames": -1},
        {"overlap_frames": 1.5},
        {"chunk_frames": 0},
        {"chunk_frames": True},
        {"chunk_frames": "8"},
    ],
)
def test_bad_options(options):
    model = model_of()
    with pytest.raises(UserError, match=f"{next(iter(options))}: .*whole number of at least"):
        stream_waveform(model, [], **options)
