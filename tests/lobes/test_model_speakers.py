"""The whole model with several speakers; what it does without them is in test_model.py."""

from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners import mel_vq
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.conditioners.pitch_condition import normalize_pitch
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.utils.masking import masked_l1

import pytest
import torch

from tests.lobes.flows.transform_base import random_tensor, randomized, tiny_features

HOP, CHANNELS = 16, 3
FULL = {
    "use_instance_norm": True,
    "jitter": 0.3,
    "warp": 0.1,
    "use_pitch": True,
    "pitch_stride": 2,
    "quantize_after": 1,
}


def build(local="mel_vq", source="table", switches=FULL, quantizer=None, dropout=0.0, **options):
    """A small model of four speakers, in fp64 and moved away from its start; ``source: None``
    for a model without speakers."""
    torch.manual_seed(0)
    features, channels = tiny_features(), CHANNELS if source else 0
    quantizer = (quantizer or SoftEMQuantizer)(10, 6)
    if local == "mel":
        conditioner = MelConditioner(features, channels=7, layers=1)
    elif local == "mel_vq":
        conditioner = MelVQConditioner(
            features, quantizer, 2, 7, 1, 1, speaker_channels=channels, **switches
        )
    else:
        conditioner = WaveVQConditioner(
            features, quantizer, (2, 4), 7, 1, True, speaker_channels=channels
        )
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
        use_film=True,
        speaker_channels=channels,
    )
    speakers = None
    if source:
        encoder = {"features": features, "encoder_channels": 6, "encoder_layers": 1}
        speakers = SpeakerCondition(4, channels, source, dropout, **encoder)
        speakers.set_f0_statistics([[4.7, 0.1], [5.3, 0.3], [5.0, 0.2], [5.1, 0.2]])
    model = randomized(WaveGlowVQ(conditioner, flows, speakers=speakers, **options), 0.2)
    if source == "encoder":
        model.speakers.set_centroids(random_tensor(4, channels, seed=3))
    return model


def batch(model, frames=8):
    """Two utterances with their log-mels and, where the model asks for it, their pitch."""
    wav = 0.1 * random_tensor(2, frames * HOP)
    mel = tiny_features()(wav.float()).double()[..., : frames + 1]
    inputs = {"wav": wav, "mel": mel}
    if model.uses_pitch:
        log_f0 = 5 + 0.2 * random_tensor(2, frames + 1, seed=9)
        log_f0 = log_f0 * (torch.arange(frames + 1) % 5 != 2)
        inputs["pitch"] = normalize_pitch(log_f0, torch.tensor([[5.0, 0.2]]).double())
    return inputs


def nll(model, speaker, **changes):
    ids = None if speaker is None else torch.tensor(speaker)
    with torch.no_grad():
        return float(model.eval()(**{**batch(model), "speaker": ids, **changes}).terms["nll"])


LOCALS = ["mel", "mel_vq", "wav_vq"]


@pytest.mark.parametrize("local", LOCALS)
@pytest.mark.parametrize("source", ["table", "encoder"])
def test_the_likelihood_depends_on_who_is_said_to_speak(local, source):
    model = build(local, source)
    one, wrong, unknown = nll(model, [1, 2]), nll(model, [2, 1]), nll(model, [-1, -1])
    assert abs(one - wrong) > 1e-4 and abs(one - unknown) > 1e-4
    assert nll(model, [1, 2]) == one
    # To say nothing is to say that they are unknown.
    assert nll(model, None) == unknown
    # Each item has its own speaker.
    assert nll(model, [1, 1]) not in (one, wrong)


@pytest.mark.parametrize("local", LOCALS)
def test_the_likelihood_depends_on_the_reference(local):
    model = build(local, "encoder")
    first, second = (2 * random_tensor(2, 8, 5, seed=s) - 5 for s in (1, 2))
    ids = [1, 2]
    assert abs(nll(model, ids, reference=first) - nll(model, ids, reference=second)) > 1e-5
    # Padding of the reference is no voice.
    padded = torch.nn.functional.pad(first, (0, 5), value=7.0)
    lens = torch.tensor([0.5, 0.5])
    found = nll(model, ids, reference=padded, reference_lens=lens)
    assert found == pytest.approx(nll(model, ids, reference=first), abs=1e-6)


def test_a_model_without_speakers_does_not_care():
    model = build("mel", source=None)
    assert nll(model, [1, 2]) == nll(model, [2, 1]) == nll(model, None)
    assert model.global_condition(torch.tensor([1])) == (None, None)


def test_pitch_is_placed_in_the_range_of_the_speaker_unless_it_is_given():
    model = build()
    statistics = model.speakers.f0_statistics(torch.tensor([1, -1]))
    assert nll(model, [1, -1]) == nll(model, [1, -1], f0_statistics=statistics)
    assert abs(nll(model, [1, -1]) - nll(model, [1, -1], f0_statistics=statistics + 0.3)) > 1e-6
    vectors, found = model.global_condition(torch.tensor([1, -1]))
    assert torch.equal(found, statistics)
    assert torch.equal(vectors, model.speakers(torch.tensor([1, -1])))
    other = torch.tensor([[5.0, 0.1]])
    assert model.global_condition(torch.tensor([1]), f0_statistics=other)[1] is other


def test_codes_decode_for_another_speaker():
    """What conversion does: through the model's own doors it is the same as at once."""
    model = build(switches={**FULL, "quantize_after": 0}).eval()
    inputs = batch(model)
    vectors, statistics = model.global_condition(torch.tensor([1, 3]))
    at_once = model.condition(inputs["mel"], None, vectors, inputs["pitch"], statistics)
    codes = model.conditioner.encode(inputs["mel"])
    decoded = model.decode(codes, 9, None, vectors, inputs["pitch"], statistics)
    torch.testing.assert_close(decoded.local, at_once.local, rtol=0, atol=1e-9)
    torch.testing.assert_close(decoded.log_mel, at_once.log_mel, rtol=0, atol=1e-9)
    one, other = (
        model.sample(decoded, speaker=model.speakers(torch.tensor(ids)), generator=0)
        for ids in ([1, 3], [2, 0])
    )
    assert one.shape == (2, 9 * HOP) and (one - other).abs().max() > 1e-3


# ---- training


@pytest.mark.parametrize("local", LOCALS)
@pytest.mark.parametrize("source", ["table", "encoder"])
@pytest.mark.parametrize("quantizer", [SoftEMQuantizer, EMAQuantizer])
@pytest.mark.parametrize("ids", [[1, 2], [-1, -1]])
def test_every_parameter_takes_part_in_every_step(local, source, quantizer, ids):
    """With every switch on, whoever speaks and from the first step on; in a step without it,
    DistributedDataParallel would stop."""
    options = {"adversary_weight": 0.5} if local != "mel" else {}
    model = build(local, source, FULL, quantizer, 0.4, condition_dropout=0.4, **options).train()
    inputs = {**batch(model), "speaker": torch.tensor(ids)}
    if source == "encoder":
        inputs["reference"] = 2 * random_tensor(2, 8, 5, seed=1) - 5
    for step in range(6):
        model.zero_grad()
        torch.manual_seed(step)
        output = model(**inputs)
        output.loss.backward()
        without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, f"step {step}: {without}"
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def condition_seen_by_the_flows(model, monkeypatch):
    seen = []
    to_noise = WaveGlowVQ.to_noise

    def noting(self, wav, mel, condition, *rest):
        seen.append(condition)
        return to_noise(self, wav, mel, condition, *rest)

    monkeypatch.setattr(WaveGlowVQ, "to_noise", noting)
    return seen


def test_condition_dropout_hides_whole_items_from_the_flows_in_training(monkeypatch):
    model = build(condition_dropout=0.25)
    inputs = {name: x.repeat_interleave(100, 0) for name, x in batch(model).items()}
    seen = condition_seen_by_the_flows(model, monkeypatch)
    model.train()(**inputs), model.eval()(**inputs)
    hidden = [(c.local == 0).flatten(1).all(1) for c in seen]
    assert 0.15 < hidden[0].double().mean() < 0.35 and not hidden[1].any()
    # Half an item is never hidden, and the envelope stays.
    shown = seen[0].local[~hidden[0]]
    assert (shown.abs().sum(1) > 0).all()
    assert (seen[0].log_mel.abs().flatten(1).sum(1) > 0).all()


def test_the_head_predicts_the_log_mel_that_was_given_not_the_warped_one(monkeypatch):
    seen = []

    def warp(log_mel, extent):
        seen.append(log_mel)
        return log_mel.flip(1)

    monkeypatch.setattr(mel_vq, "random_warp", warp)
    model = build(switches={"warp": 0.1}).train()
    inputs = batch(model)
    conditions = condition_seen_by_the_flows(model, monkeypatch)
    found = model(**inputs).terms["mel_l1"]
    assert len(seen) == 1
    expected = masked_l1(conditions[0].log_mel, inputs["mel"])
    assert float(found) == pytest.approx(float(expected.detach()), abs=1e-9)


@pytest.mark.parametrize("local", ["mel_vq", "wav_vq"])
def test_the_adversary_is_a_weighted_term_of_the_loss(local):
    model = build(local, adversary_weight=0.5).eval()
    inputs = {**batch(model), "speaker": torch.tensor([1, 3])}
    loss, terms, *_ = model(**inputs)
    vectors = model.conditioner.encoder(inputs["wav" if local == "wav_vq" else "mel"])
    expected = model.adversary(vectors, inputs["speaker"])
    assert float(terms["adversary"]) == pytest.approx(float(expected.detach()), abs=1e-9)
    others = terms["nll"] + terms["mel_l1"] + terms["codebook"] + terms["commitment"]
    torch.testing.assert_close(loss, others + 0.5 * expected, rtol=1e-6, atol=0)


def test_the_adversary_turns_the_encoder():
    """Its reversed gradient is added to that of everything else."""
    model = build(switches={}, adversary_weight=1.0, mel_weight=0.0, quantizer_weight=0.0).eval()
    inputs = {**batch(model), "speaker": torch.tensor([1, 3])}
    model(**inputs).loss.backward()
    weight = model.conditioner.to_code.weight
    with_it = weight.grad.clone()
    model.zero_grad()
    model.adversary_weight = 0.0
    model(**inputs).loss.backward()
    reversed_part = with_it - weight.grad
    vectors = model.conditioner.encoder(inputs["mel"])
    plain = torch.autograd.grad(
        model.adversary(vectors, inputs["speaker"]), weight, retain_graph=True
    )[0]
    torch.testing.assert_close(reversed_part, plain, rtol=1e-6, atol=1e-9)
    # `plain` is reversed already: along it, the classifier errs more.
    with torch.no_grad():
        before = model.adversary(model.conditioner.encoder(inputs["mel"]), inputs["speaker"])
        weight -= 1e-4 * plain
        after = model.adversary(model.conditioner.encoder(inputs["mel"]), inputs["speaker"])
    assert after > before


# ---- options


def test_bad_options():
    with pytest.raises(UserError, match="condition_dropout: 1.0"):
        build("mel", condition_dropout=1.0)
    with pytest.raises(UserError, match="adversary_weight: it needs codes"):
        build("mel", adversary_weight=0.1)
    with pytest.raises(UserError, match="adversary_weight: .*global_condition"):
        build("mel_vq", source=None, switches={}, adversary_weight=0.1)
    model = build("mel")
    with pytest.raises(UserError, match="speaker_channels: the vocoder expects 3, .* has 0"):
        WaveGlowVQ(model.conditioner, model.vocoder)
    with pytest.raises(UserError, match="speaker_channels: the vocoder expects 3, .* has 5"):
        WaveGlowVQ(model.conditioner, model.vocoder, speakers=SpeakerCondition(4, channels=5))


def test_a_table_refuses_references():
    with pytest.raises(UserError, match="reference"):
        nll(build("mel"), [0, 1], reference=torch.zeros(2, 8, 5).double())


def test_pitch_that_is_missing_is_named():
    model = build()
    with pytest.raises(UserError, match="pitch"):
        model(**{**batch(model), "pitch": None}, speaker=torch.tensor([0, 1]))
