from waveglow_vq.audio.features import LogMel
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.speaker_condition import (
    LOG_F0_MEAN,
    LOG_F0_STD,
    SpeakerAdversary,
    SpeakerCondition,
    SpeakerEncoder,
    build_speakers,
    reverse_gradient,
)
from waveglow_vq.lobes.conditioners.speaker_embedding import shipped_speaker_embedding
from waveglow_vq.utils.masking import masked_moments

import pytest
import torch

from tests.lobes.conditioners.conditioner_base import mels
from tests.lobes.flows.transform_base import random_tensor, randomized, tiny_features


def by_table(**options):
    return SpeakerCondition(4, channels=5, **options)


def by_encoder(**options):
    options = {"features": tiny_features(), "encoder_channels": 6, "encoder_layers": 2, **options}
    return SpeakerCondition(4, channels=5, source="encoder", **options)


def by_pretrained(**options):
    return SpeakerCondition(4, channels=5, source="pretrained", features=LogMel(), **options)


def with_centroids():
    condition = by_encoder().eval()
    condition.set_centroids(torch.arange(15.0).view(3, 5))
    return condition


# ---- vectors


def test_every_speaker_has_a_vector_and_the_unknown_one_too():
    condition = by_table().eval()
    vectors = condition(torch.tensor([3, -1, 0, 3, -1]))
    assert vectors.shape == (5, 5)
    assert torch.equal(vectors[[0, 3]], condition.table.weight[[3, 3]])
    assert torch.equal(vectors[2], condition.table.weight[0])
    assert torch.equal(vectors[[1, 4]], condition.unknown.expand(2, -1))
    assert len({tuple(v.tolist()) for v in vectors}) == 3


def test_an_encoder_knows_its_speakers_by_their_means():
    condition = with_centroids()
    vectors = condition(torch.tensor([2, -1]))
    assert vectors[0].tolist() == [10, 11, 12, 13, 14]
    assert torch.equal(vectors[1], condition.unknown)
    assert "centroids" in condition.state_dict()


def test_an_encoder_hears_who_speaks():
    condition = randomized(by_encoder(), 0.2).eval()
    reference = mels(9, batch=2)
    vectors = condition(reference=reference)
    assert torch.equal(vectors, condition.encoder(reference))
    assert (vectors[0] - vectors[1]).abs().max() > 0.01
    # Whatever number is given beside it.
    assert torch.equal(condition(torch.tensor([-1, 2]), reference), vectors)


def test_references_of_a_padded_batch_equal_themselves_alone():
    condition = randomized(by_encoder(), 0.2).eval()
    frames, reference = (11, 7, 2), mels(11, batch=3)
    reference[1, :, 7:], reference[2, :, 2:] = 4.0, -30.0
    vectors = condition(None, reference, torch.tensor(frames) / 11)
    for b, count in enumerate(frames):
        alone = condition(reference=reference[b : b + 1, :, :count])
        torch.testing.assert_close(vectors[b : b + 1], alone, rtol=0, atol=1e-6)


def test_the_encoder_of_the_package_is_projected_and_stays_as_it_is():
    condition, shipped = by_pretrained().train(), shipped_speaker_embedding()
    log_mel = torch.randn(3, 80, 60) - 5
    vectors = condition(reference=log_mel, reference_lengths=torch.tensor([1.0, 0.5, 0.5]))
    heard = torch.cat([shipped(log_mel[:1]), shipped(log_mel[1:, :, :30])])
    assert torch.allclose(heard.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vectors, condition.encoder.end(heard * heard.shape[1] ** 0.5))
    vectors.sum().backward()
    trained = {name for name, p in condition.named_parameters() if p.grad is not None}
    assert trained == {"encoder.end.weight", "encoder.end.bias", "unknown"}
    # It is saved with the rest, and what is loaded counts, not what the package has.
    with torch.no_grad():
        condition.encoder.embedding.origin += 1
    other = by_pretrained()
    other.load_state_dict(condition.state_dict())
    assert torch.equal(other(reference=log_mel), condition(reference=log_mel))
    assert not torch.equal(other.encoder.embedding.origin, shipped.origin)
    condition.set_centroids(torch.arange(15.0).view(3, 5))
    assert condition.eval()(torch.tensor([2]))[0].tolist() == [10, 11, 12, 13, 14]


def test_the_encoder_of_the_package_hears_its_own_features_only():
    with pytest.raises(UserError, match="feature contract only"):
        SpeakerCondition(4, source="pretrained", features=tiny_features())


def test_an_encoder_of_one_frame_is_finite_with_its_gradient():
    encoder = SpeakerEncoder(tiny_features(), 3, channels=4, layers=1)
    encoder(mels(1).float()).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


@pytest.mark.parametrize("source", ["table", "encoder"])
def test_dropout_makes_known_speakers_unknown_in_training_only(source):
    torch.manual_seed(0)
    condition = (by_table if source == "table" else by_encoder)(dropout=0.3).train()
    who = {"ids": torch.full((2000,), 2)}
    if source == "encoder":
        who = {"reference": mels(3, batch=2000).float()}
    unknown = (condition(**who) == condition.unknown).all(1)
    assert abs(unknown.float().mean() - 0.3) < 0.05
    assert not (condition.eval()(**who) == condition.unknown).all(1).any()


@pytest.mark.parametrize("source", ["table", "encoder"])
@pytest.mark.parametrize("dropout", [0.0, 0.9])
def test_every_parameter_takes_part_in_every_step(source, dropout):
    """As DistributedDataParallel wants it, whoever speaks and whatever is dropped."""
    condition = (by_table if source == "table" else by_encoder)(dropout=dropout).train()
    reference = None if source == "table" else mels(9, batch=2).float()
    for ids in ([0, 1], [-1, -1], [3, -1]):
        condition.zero_grad()
        condition(torch.tensor(ids), reference).sum().backward()
        assert all(p.grad is not None for p in condition.parameters())


# ---- pitch of the speakers


def test_statistics_of_pitch_are_those_of_the_speaker_or_of_all():
    condition = by_table()
    before = condition.f0_statistics(torch.tensor([0, -1]))
    assert before.tolist() == [pytest.approx([LOG_F0_MEAN, LOG_F0_STD])] * 2
    condition.set_f0_statistics(torch.tensor([[4.7, 0.1], [5.3, 0.3]]))
    found = condition.f0_statistics(torch.tensor([1, -1, 0, -1]))
    expected = [[5.3, 0.3], [5.0, 0.2], [4.7, 0.1], [5.0, 0.2]]
    assert found.tolist() == [pytest.approx(row) for row in expected]
    # Numbers that nobody has are not worse than unknown.
    assert condition.f0_statistics(torch.tensor([3])).tolist() == [pytest.approx([5.0, 0.2])]
    assert "log_f0" in condition.state_dict()


def test_there_have_to_be_as_many_places_as_speakers():
    with pytest.raises(UserError, match="max_speakers: 4; the corpus has 5 speakers"):
        by_table().set_f0_statistics([[5.0, 0.2]] * 5)
    full = by_table()
    full.set_f0_statistics([[5.0 + n / 10, 0.2] for n in range(4)])
    assert full.f0_statistics(torch.tensor([-1])).tolist() == [pytest.approx([5.15, 0.2])]


# ---- moments


def test_moments_are_those_of_the_frames_that_are_there():
    x = random_tensor(2, 3, 8)
    mask = (torch.arange(8) < torch.tensor([[8], [5]]))[:, None]
    mean, variance = masked_moments(x, mask)
    for b, count in enumerate((8, 5)):
        own = x[b, :, :count]
        torch.testing.assert_close(mean[b, :, 0], own.mean(-1))
        torch.testing.assert_close(variance[b, :, 0], own.var(-1, unbiased=False))
        alone = masked_moments(own[None])
        torch.testing.assert_close(torch.cat([mean[b], variance[b]]), torch.cat(alone, 1)[0])


# ---- the adversary


def test_the_gradient_is_reversed_and_nothing_else():
    x = torch.randn(3, 4, requires_grad=True)
    assert torch.equal(reverse_gradient(x), x)
    reverse_gradient(x).square().sum().backward()
    assert torch.equal(x.grad, -2 * x)


def test_the_classifier_descends_and_the_encoder_ascends():
    """By what the length of the gradient promises of a small step."""
    adversary = randomized(SpeakerAdversary(6, max_speakers=4, channels=12), 0.1)
    encoder = randomized(torch.nn.Linear(5, 6))
    features, ids = random_tensor(8, 20, 5), torch.arange(8) % 4

    def cross_entropy():
        return adversary(encoder(features), ids)

    before = cross_entropy()
    before.backward()
    for module, direction in ((adversary, -1), (encoder, 1)):
        rise = 0.0
        with torch.no_grad():
            for p in module.parameters():
                p -= 1e-3 * p.grad
                rise += 1e-3 * float(p.grad.square().sum())
            after = cross_entropy()
            for p in module.parameters():
                p += 1e-3 * p.grad
        assert float(after - before.detach()) == pytest.approx(direction * rise, rel=0.1)


def test_the_classifier_learns_who_speaks():
    """Unless the encoder resists: here the speaker is a constant, which it tells by."""
    torch.manual_seed(0)
    adversary = SpeakerAdversary(3, max_speakers=4, channels=12)
    ids = torch.arange(16) % 4
    vectors = 0.3 * torch.randn(16, 20, 3) + torch.randn(4, 3)[ids][:, None]
    optimizer = torch.optim.Adam(adversary.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        loss = adversary(vectors, ids)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2


def test_unknown_speakers_do_not_count():
    adversary = SpeakerAdversary(6, max_speakers=4, channels=12)
    vectors = torch.randn(4, 20, 6, requires_grad=True)
    known = adversary(vectors[:2], torch.tensor([3, 1]))
    mixed = adversary(vectors, torch.tensor([3, 1, -1, -1]))
    torch.testing.assert_close(mixed, known)
    mixed.backward()
    assert vectors.grad[:2].any() and not vectors.grad[2:].any()
    nobody = adversary(vectors, torch.full((4,), -1))
    nobody.backward()
    assert float(nobody.detach()) == 0 and all(p.grad is not None for p in adversary.parameters())


def test_the_classifier_does_not_hear_padding():
    adversary = randomized(SpeakerAdversary(6, max_speakers=4, channels=12), 0.1)
    vectors, frames = random_tensor(3, 11, 6), (11, 6, 1)
    vectors[1, 6:], vectors[2, 1:] = 30.0, -30.0
    ids = torch.tensor([2, 0, 3])
    mixed = adversary(vectors, ids, torch.tensor(frames) / 11)
    alone = [adversary(vectors[b : b + 1, :n], ids[b : b + 1]) for b, n in enumerate(frames)]
    torch.testing.assert_close(mixed, sum(alone) / 3, rtol=0, atol=1e-6)


# ---- options


def test_the_switch():
    assert build_speakers("none", max_speakers=0, source="anything") is None
    condition = build_speakers("speaker", max_speakers=3, channels=7, source="table", dropout=0.1)
    assert (condition.count, condition.channels, condition.source) == (3, 7, "table")
    assert condition.dropout == 0.1
    with pytest.raises(UserError, match="global_condition: 'speakers' is not one of none, speaker"):
        build_speakers("speakers", max_speakers=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "lookup"}, "speaker_source: 'lookup' is not one of table, encoder, pretrained"),
        ({"max_speakers": 0}, "max_speakers: 0; it must be a whole number of at least 1"),
        ({"dropout": 1.0}, "speaker_dropout: 1.0"),
        ({"dropout": -0.1}, "speaker_dropout: -0.1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        SpeakerCondition(**{"max_speakers": 3, "features": LogMel(), **options})


def test_a_table_knows_no_references():
    with pytest.raises(UserError, match="reference: .*--speaker_source encoder"):
        by_table()(reference=mels(9).float())
