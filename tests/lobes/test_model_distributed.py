"""The whole model over processes, steps that are not taken, and what a resumed training needs."""

import math

from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer

import pytest
import torch

from tests.lobes.flows.transform_base import randomized, tiny_features
from tests.lobes.quantizers.quantizer_tools import assert_same

HOP, SEGMENT, ITEMS, STEPS = 16, 4, 4, 9
# The step in which one item of one process is not finite.
BAD = 4
BOTH = pytest.mark.parametrize("quantizer_class", [SoftEMQuantizer, EMAQuantizer])


def build(quantizer_class=SoftEMQuantizer, local="mel_vq"):
    """A small model in fp64; nothing in its training is drawn from torch's own random numbers."""
    features = tiny_features()
    quantizer = quantizer_class(10, 6, restart_after=3) if quantizer_class else None
    speakers = SpeakerCondition(4, 3) if local == "mel_vq" else None
    if local == "mel_vq":
        conditioner = MelVQConditioner(
            features, quantizer, 2, 7, 1, 1, speaker_channels=3, quantize_after=2
        )
    elif local == "wave_vq":
        conditioner = WaveVQConditioner(features, quantizer, (2, 4), 7, 1, True)
    else:
        conditioner = MelConditioner(features, channels=7, layers=1)
    flows = WaveGlow(
        features,
        condition_channels=7,
        condition_hop=conditioner.hop,
        group_size=4,
        flows=2,
        early_every=1,
        early_size=1,
        layers=2,
        channels=6,
        envelope={"order": 6},
        speaker_channels=3 if speakers else 0,
    )
    weight = 0.1 if speakers else 0.0
    return randomized(
        WaveGlowVQ(conditioner, flows, speakers=speakers, adversary_weight=weight), 0.2
    )


def batch(step, rank=0, world=1):
    """One process's items of a step's: segments, and log-mels of different lengths around them."""
    generator = torch.Generator().manual_seed(step)
    lengths = torch.tensor([9, 13, 10, 12])
    wav = 0.1 * torch.randn(ITEMS, SEGMENT * HOP, generator=generator, dtype=torch.float64)
    mel = torch.randn(ITEMS, 13, tiny_features().n_mels, generator=generator, dtype=torch.float64)
    speaker = torch.tensor([0, 3, -1, 2]) if step % 2 else torch.tensor([-1, 1, -1, 2])
    starts = torch.tensor([2, 5, 0, 3])
    if step == BAD:
        mel[3, 4] = math.nan
    mine = slice(rank, None, world)
    longest = int(lengths[mine].max())
    return {
        "wav": wav[mine],
        "mel": mel[mine, :longest].transpose(1, 2) - 5.0,
        "mel_lens": lengths[mine].double() / longest,
        "starts": starts[mine],
        "speaker": speaker[mine],
    }


def train(quantizer_class, rank=0, world=1):
    torch.manual_seed(rank)
    model = wrapped = build(quantizer_class)
    if world > 1:
        # As SpeechBrain wraps it.
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        assert not wrapped.modules_buffers
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    restarted = 0
    for step in range(STEPS):
        optimizer.zero_grad()
        output = wrapped(**batch(step, rank, world))
        output.loss.backward()
        if step != BAD:
            optimizer.step()
        restarted += model.after_optimizer_step(optimizer, taken=step != BAD)
    model.eval()(**batch(0))
    state = {name: value.detach() for name, value in model.state_dict().items()}
    return {"state": state, "restarted": restarted}


def train_in_process(rank, world, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    for quantizer_class in (SoftEMQuantizer, EMAQuantizer):
        result = train(quantizer_class, rank, world)
        torch.save(result, f"{folder}/{quantizer_class.__name__}_{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
    torch.multiprocessing.spawn(train_in_process, args=(2, str(tmp_path)), nprocs=2)
    for quantizer_class in (SoftEMQuantizer, EMAQuantizer):
        alone = train(quantizer_class)
        first, second = (
            torch.load(tmp_path / f"{quantizer_class.__name__}_{rank}.pt", weights_only=True)
            for rank in (0, 1)
        )
        assert_same(first["state"], second["state"])
        assert first["restarted"] == second["restarted"] == alone["restarted"] > 0
        assert int(alone["state"]["conditioner.steps"]) == STEPS - 1
        for name, value in alone["state"].items():
            assert value.isfinite().all()
            torch.testing.assert_close(first["state"][name], value, rtol=1e-7, atol=1e-9)


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def inputs(step, local):
    values = batch(step)
    if local == "wave_vq":
        # Codes of waves hear the wave alone, which is not finite then.
        del values["mel_lens"], values["starts"]
        if step == BAD:
            values["wav"][1, 7] = math.nan
    return values


@BOTH
@pytest.mark.parametrize("local", ["mel_vq", "wave_vq"])
def test_a_step_that_is_not_taken_leaves_the_model_as_it_was(quantizer_class, local):
    model = build(quantizer_class, local)
    for step in range(6):
        before = copied(model)
        # Gradients of two batches, of which one is not finite.
        model(**inputs(step, local))
        assert not model(**inputs(BAD, local)).loss.isfinite()
        if local == "mel_vq":
            assert int(model.conditioner.steps) == step + 2
        assert model.after_optimizer_step(taken=False) == 0
        assert_same(before, model.state_dict())
        model(**inputs(step if step != BAD else 0, local))
        model.after_optimizer_step()
        assert int(model.quantizer.steps) == step + 1


@BOTH
def test_a_saved_model_goes_on_bit_for_bit(quantizer_class, tmp_path):
    model, resumed = build(quantizer_class), build(quantizer_class)
    for step in range(4):
        model(**batch(step))
        model.after_optimizer_step()
    # A forward whose step never came, and could still be put back.
    model(**batch(5))
    torch.save([model.state_dict(), model.training_state()], tmp_path / "model.pt")
    state, training_state = torch.load(tmp_path / "model.pt", weights_only=True)
    resumed.load_state_dict(state)
    resumed.load_training_state(training_state)
    for step in range(5, 9):
        restarted = []
        for other in (model, resumed):
            other(**batch(step))
            restarted.append(other.after_optimizer_step(taken=step != 5))
        assert restarted[0] == restarted[1]
        assert_same(model.state_dict(), resumed.state_dict())
    assert int(model.conditioner.steps) == 7


def test_without_a_quantizer_nothing_follows_a_step():
    model = build(None, "mel")
    assert model.after_optimizer_step() == model.after_optimizer_step(taken=False) == 0
    assert model.training_state() == {}
    model.load_training_state({})
