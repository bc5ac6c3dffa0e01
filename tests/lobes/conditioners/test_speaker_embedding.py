from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.speaker_embedding import (
    SpeakerEmbedding,
    read_speaker_embedding,
    save_speaker_embedding,
    shipped_speaker_embedding,
)

import pytest
import torch


def log_mels(frames, batch=1):
    return torch.randn(batch, 80, frames, generator=torch.Generator().manual_seed(0)) - 5


def test_padded_batches_hear_what_each_item_says():
    embedding = SpeakerEmbedding(components=5).double()
    frames, log_mel = (90, 47, 3), log_mels(90, 3).double()
    log_mel[1, :, 47:], log_mel[2, :, 3:] = 4.0, -30.0
    vectors = embedding(log_mel, torch.tensor(frames) / 90)
    for b, count in enumerate(frames):
        alone = embedding(log_mel[b : b + 1, :, :count])
        torch.testing.assert_close(vectors[b : b + 1], alone, rtol=0, atol=1e-9)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3


def test_weights_are_written_and_read(tmp_path):
    embedding, path = SpeakerEmbedding(components=5, dimension=7), tmp_path / "a.safetensors"
    save_speaker_embedding(embedding, path)
    state = torch.get_rng_state()
    again = read_speaker_embedding(path)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(again(log_mels(50)), embedding(log_mels(50)), rtol=0, atol=1e-2)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="encoder of speakers; export or copy it again"):
        read_speaker_embedding(path)


def test_level_does_not_count():
    embedding, log_mel = shipped_speaker_embedding(), log_mels(120)
    torch.testing.assert_close(embedding(log_mel + 2), embedding(log_mel), rtol=0, atol=1e-4)


def test_nothing_to_hear_is_no_error():
    vectors = shipped_speaker_embedding()(torch.full((1, 80, 1), -11.5))
    assert torch.isfinite(vectors).all()


def test_deviations_are_of_those_sounds_that_occur():
    """Of a component whose frames all lie a standard deviation beside its centre."""
    embedding = SpeakerEmbedding(components=2, dimension=3).double()
    embedding.centres[0], embedding.centres[1] = 0.0, 50.0
    embedding.variances.fill_(4.0)
    counts = torch.ones(1, 48).double()
    found = embedding.deviations(torch.full((1, 48, 40), 2.0).double(), counts)
    expected = 0.5**0.5 * 48 / (48 + 16)
    torch.testing.assert_close(found[0, :40], torch.full((40,), expected).double())
    assert found[0, 40:].abs().max() < 1e-9


def test_what_is_shipped():
    embedding = shipped_speaker_embedding()
    assert embedding is shipped_speaker_embedding() and not embedding.training
    assert not list(embedding.parameters())
    assert sum(buffer.numel() for buffer in embedding.buffers()) < 10**6
