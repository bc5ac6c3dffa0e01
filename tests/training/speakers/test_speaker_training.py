from waveglow_vq.__main__ import main
from waveglow_vq.audio.features import LogMel
from waveglow_vq.audio.io import write_wav
from waveglow_vq.data.corpora.collection import scan_corpora
from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.speaker_embedding import read_speaker_embedding
from waveglow_vq.training.speakers import speaker_training
from waveglow_vq.training.speakers.speaker_training import (
    SpeakerExample,
    discriminants,
    speaker_examples,
    train_speaker_embedding,
)
from waveglow_vq.training.speakers.speaker_trials import (
    Part,
    embedded,
    equal_error_rate,
    speaker_scores,
    trial_parts,
)

import pytest
import torch


def voice(hertz, seconds, seed):
    """Noise around a formant: what tells one voice from another."""
    generator = torch.Generator().manual_seed(seed)
    wav = torch.randn(int(seconds * 22050), generator=generator)
    spectrum, bins = torch.fft.rfft(wav), torch.linspace(0, 11025, len(wav) // 2 + 1)
    shape = torch.exp(-(((bins / hertz).clamp_min(1e-3).log() / 0.4) ** 2)) + 1e-3
    wav = torch.fft.irfft(spectrum * shape, len(wav))
    return 0.05 * wav / wav.square().mean().sqrt()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips of each of six voices."""
    folder = tmp_path_factory.mktemp("voices")
    for place, hertz in enumerate((300, 500, 800, 1300, 2000, 3200)):
        (folder / f"v{place}").mkdir()
        for clip in range(2):
            wav = voice(hertz, 3.5, 10 * place + clip)
            write_wav(folder / f"v{place}" / f"{clip}.wav", wav, 22050)
    return folder


def test_each_speed_is_another_voice(folder, tmp_path, monkeypatch):
    utterances = scan_corpora([folder]).utterances
    (tmp_path / "silent").mkdir()
    write_wav(tmp_path / "silent" / "0.wav", torch.zeros(50000), 22050)
    utterances += scan_corpora([tmp_path]).utterances
    examples = speaker_examples(utterances, LogMel(), speeds=(0.8, 1.0))
    assert len(examples) == 24 and len({e.speaker for e in examples}) == 12
    slow, plain = examples[:2]
    assert (slow.speaker, plain.speaker) == ("v0 x0.8", "v0")
    assert slow.log_mel.shape[1] == pytest.approx(plain.log_mel.shape[1] / 0.8, abs=1)
    # Formants are at 0.8 of where they were.
    loudest = [int(e.log_mel.float().mean(1).argmax()) for e in examples[-2:]]
    assert loudest[0] < loudest[1]
    monkeypatch.setattr(speaker_training, "SPEAKER_SECONDS", 3)
    assert len(speaker_examples(utterances, LogMel(), speeds=(1.0,))) == 6


def test_voices_are_learned_and_others_told(folder):
    utterances, features = scan_corpora([folder]).utterances, LogMel()
    train = [u for u in utterances if u.speaker not in ("v1", "v4")]
    examples = speaker_examples(train, features, speeds=(1.0,))
    first, again = (train_speaker_embedding(examples, 6, components=4) for _ in range(2))
    other = train_speaker_embedding(examples, 6, seed=1, components=4)
    assert torch.equal(first.projection, again.projection)
    assert not torch.equal(first.projection, other.projection)
    # Those of recordings that were not trained on.
    parts = trial_parts([u for u in utterances if u not in train], 22050)
    scores = speaker_scores(embedded(first, parts, features), parts)
    assert scores["equal_error_rate"] < 0.1
    assert scores["cosine_of_one"] > scores["cosine_of_two"] + 0.3


def test_discriminants_are_where_voices_differ_for_how_they_differ_within():
    generator = torch.Generator().manual_seed(0)
    voices = torch.arange(400) % 20
    # Voices differ on the first axis; the second varies most, whoever speaks.
    vectors = torch.randn(400, 6, generator=generator) * torch.tensor([0.3, 3, 1, 1, 1, 1])
    vectors[:, 0] += torch.randn(20, generator=generator)[voices]
    mean, projection = discriminants(vectors, voices, 8, generator)
    torch.testing.assert_close(mean, vectors.mean(0))
    assert projection.shape == (6, 8) and not projection[:, 6:].any()
    assert projection[0, 0].abs() > 10 * projection[1:, 0].abs().max()
    moved = (vectors - mean) @ projection[:, :6]
    means = torch.stack([moved[voices == voice].mean(0) for voice in range(20)])
    within = (moved - means[voices]).square().mean(0)
    torch.testing.assert_close(within, torch.ones(6), rtol=0.05, atol=0)


def test_one_voice_cannot_be_told():
    with pytest.raises(UserError, match="two speakers at least"):
        train_speaker_embedding([SpeakerExample("a", torch.zeros(80, 200))])


def test_errors_where_they_are_equal():
    assert equal_error_rate(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2, 0.3])) == 0
    scores = torch.linspace(0, 1, 1001)
    assert equal_error_rate(scores, scores - 0.5) == pytest.approx(0.25, abs=0.01)
    assert equal_error_rate(scores - 0.5, scores) == pytest.approx(0.75, abs=0.01)


def test_parts_of_one_recording_are_not_compared():
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0, 1]]))
    names = [("a", "1"), ("a", "2"), ("b", "3"), ("b", "3")]
    parts = [Part(*name, torch.zeros(1)) for name in names]
    scores = speaker_scores(vectors, parts)
    assert scores["equal_error_rate"] == 0
    # Not the 1 of the last two.
    assert scores["cosine_of_one"] == pytest.approx(float(vectors[0] @ vectors[1]))
    assert speaker_scores(vectors[2:], parts[2:]) is None


def test_command(folder, tmp_path, capsys):
    output = tmp_path / "encoder.safetensors"
    arguments = ["train-speakers", str(folder), "--output", str(output), "--segments", "2"]
    assert main([*arguments, "--held_out", "v1", "v2"]) == 0
    assert output.stat().st_size < 2**20 and read_speaker_embedding(output).dimension == 128
    said = capsys.readouterr()
    assert "held out: 2 speakers, 4 parts, equal_error_rate" in said.out
    assert "8 recordings of 4 speakers" in said.err + said.out
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "exists" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--force", "--held_out", "p225"])
    assert "--held_out names p225" in capsys.readouterr().err
