"""How far modules say that they see is how far they see: no step more, and none less."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.quantizers.soft_em import SoftEMQuantizer

import pytest
import torch

from tests.lobes.flows.transform_base import random_tensor

STEPS = 60


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def reach(function, inputs, positions, per_step):
    """The farthest, in steps of ``per_step`` results or inputs each, that an input is felt.

    Arguments
    ---------
    function : callable
        ``[1, ..., n]`` to ``[1, ..., m]``.
    positions : iterable
        Inputs to change.
    per_step : tuple
        Inputs and results in a step.
    """
    farthest = 0
    with torch.no_grad():
        before = function(inputs)
        for position in positions:
            changed = inputs.clone()
            changed[..., position] += 1
            felt = (function(changed) != before).flatten(0, -2).any(0).nonzero()[:, 0]
            steps = felt // per_step[1] - position // per_step[0]
            farthest = max(farthest, int(steps.abs().max()))
    return farthest


def shaken(module, much=0.3):
    for parameter in module.parameters():
        parameter.data += much * torch.randn_like(parameter)
    return module.double().eval()


@pytest.mark.parametrize("options", [{"layers": 0}, {"layers": 1}, {"layers": 3, "kernel_size": 5}])
def test_mel_conditioner(options):
    conditioner = shaken(MelConditioner(LogMel(), channels=6, **options))
    mel = random_tensor(1, 80, STEPS)
    found = reach(lambda x: conditioner(x).local, mel, [30], (1, 1))
    assert found == conditioner.receptive_field


@pytest.mark.parametrize("stride", [1, 2, 3, 8])
@pytest.mark.parametrize("layers", [(1, 2), (2, 1), (0, 3)])
def test_mel_vq(stride, layers):
    encoder, decoder = layers
    conditioner = MelVQConditioner(
        LogMel(),
        SoftEMQuantizer(8, 6),
        stride=stride,
        channels=6,
        encoder_layers=encoder,
        decoder_layers=decoder,
        kernel_size=5,
    )
    conditioner = shaken(conditioner)
    frames = STEPS * stride
    mel = random_tensor(1, 80, frames)
    middle = range(30 * stride, 31 * stride)
    found = reach(lambda x: conditioner.encoder(x).transpose(1, 2), mel, middle, (stride, 1))
    assert found == conditioner.encoder_receptive_field
    vectors = random_tensor(1, 6, STEPS)
    for part in (0, 1):

        def decode(x, part=part):
            return conditioner.decoder(x.transpose(1, 2), frames)[part]

        assert reach(decode, vectors, [30], (1, stride)) == conditioner.receptive_field


@pytest.mark.parametrize("strides", [(8, 8), (4, 16), (16, 16)])
def test_wave_vq(strides):
    conditioner = WaveVQConditioner(
        LogMel(), SoftEMQuantizer(8, 6), strides, channels=6, layers=1, mel_head=True
    )
    conditioner = shaken(conditioner)
    hop = conditioner.hop
    wav = random_tensor(1, STEPS * hop)
    middle = range(30 * hop, 31 * hop)
    found = reach(lambda x: conditioner.encoder(x).transpose(1, 2), wav, middle, (hop, 1))
    # Counted in whole codes on either side, of which the outermost may not be reached.
    assert conditioner.encoder_receptive_field - 1 <= found <= conditioner.encoder_receptive_field
    vectors = random_tensor(1, 6, STEPS)
    found = reach(lambda x: conditioner.decoder(x.transpose(1, 2))[0], vectors, [30], (1, 1))
    assert found == conditioner.receptive_field


@pytest.mark.parametrize("options", [{}, {"kernel_size": 5, "group_size": 4, "early_every": 0}])
@pytest.mark.parametrize("geometry", ["frame", "group", "sample"])
def test_waveglow(options, geometry):
    options = {"flows": 3, "layers": 3, "channels": 6, "prior": "white", **options}
    flows = WaveGlow(LogMel(), 5, condition_geometry=geometry, use_film=True, **options)
    flows = shaken(flows, 0.1)
    frames, size = 9, flows.group_size
    groups = frames * 256 // size
    local = random_tensor(1, 5, frames)
    z = random_tensor(1, size, groups)
    found = reach(lambda x: flows.inverse_flows(x, local)[:, None], z, [groups // 2], (1, size))
    assert found * size == flows.receptive_field
    # The condition, at frame rate: what is felt without the flows' own reach.
    with torch.no_grad():
        changed = local.clone()
        changed[..., 4] += 1
        felt = (flows.inverse_flows(z, changed) != flows.inverse_flows(z, local))[0].nonzero()
        first, last = int(felt.min()), int(felt.max())
    before, after = flows.condition_reach
    # It enters a network behind the taps of its first layer, and with little weight at first.
    assert 0 <= first - ((4 - after) * 256 - flows.receptive_field) < 128
    assert 0 <= (5 + before) * 256 + flows.receptive_field - 1 - last < 128
