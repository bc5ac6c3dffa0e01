import math

from waveglow_vq.audio.io import read_wav
from waveglow_vq.audio.pitch import track_f0
from waveglow_vq.evaluation.conversion import matrix as module
from waveglow_vq.evaluation.conversion.diagnosis_options import DiagnosisOptions
from waveglow_vq.evaluation.conversion.matrix import (
    Judges,
    Recordings,
    conversion_matrix,
    f0_moved,
)
from waveglow_vq.evaluation.conversion.summary import summarize
from waveglow_vq.evaluation.judges import ErrorCounts

import pytest
import torch

from tests.evaluation.signals import RATE, speech_like
from tests.evaluation.tiny_corpus import LABELS, SECONDS, UNSEEN, VOICES, tiny_model


class PitchJudge:
    """A voice is its pitch: unit vectors whose angle is an octave per radian."""

    def embed(self, wav, sample_rate):
        f0 = track_f0(wav, sample_rate).f0
        octaves = float(f0[f0 > 0].log2().median())
        return torch.tensor([math.cos(octaves), math.sin(octaves)])


class LoudnessJudge:
    """Understands two words of three of what is quieter than recordings are."""

    def __init__(self):
        self.heard = 0

    def errors(self, text, wav, sample_rate):
        self.heard += 1
        return ErrorCounts(int(wav.square().mean().sqrt() < 0.01), len(text.split()), 0, 13)


def matrix(found, sources=None, targets=LABELS, model=None, judges=None, folder=None, **options):
    sources = found["test"] + found["unseen"] if sources is None else sources
    everything = [u for name in ("train", "valid", "test", "unseen") for u in found[name]]
    return conversion_matrix(
        *(model or tiny_model()),
        LABELS,
        Recordings(sources, targets, found["train"], everything),
        DiagnosisOptions(**{"mode": "codes", "batch_size": 8} | options),
        judges or Judges(),
        folder,
    )


def perfect(*args, **kwargs):
    """A conversion that says what the target's pitch statistics ask for."""
    wavs, statistics = args[2], args[4].f0_statistics
    return torch.stack(
        [
            speech_like(SECONDS, math.exp(float(mean)), seed=99)[: wavs.shape[1]]
            for mean in statistics[:, 0]
        ]
    )


def test_perfect_conversion(found, monkeypatch):
    monkeypatch.setattr(module, "convert_utterances", perfect)
    # Pitch tracked for all: the files beside the clips say what it would be without its glide.
    train = [utterance._replace(pitch=None) for utterance in found["train"]]
    conversions, originals = matrix(found | {"train": train}, judges=Judges(PitchJudge()))
    # 6 + 2 sources; those that are a target themselves have two others.
    assert len(originals) == 8 and len(conversions) == 6 * 2 + 2 * 3
    assert not any(row["target"] == row["speaker"] for row in conversions)
    summary = summarize(conversions, originals)
    for group in ("all", "seen", "unseen"):
        similarity, moved = summary[group]["similarity"], summary[group]["f0_moved"]
        assert similarity["share_nearer_to_target"] == 1.0
        assert similarity["share_of_pairs_nearer_to_target"] == 1.0
        assert similarity["to_target"] > 0.98 > similarity["recording_to_target"]
        assert moved["median"] == pytest.approx(1.0, abs=0.05)
    assert summary["seen"]["speaker_pairs"] == 6 and summary["unseen"]["speaker_pairs"] == 3
    # low and near are less than two semitones apart: they say nothing about pitch.
    assert summary["seen"]["f0_moved"]["conversions"] == 12 - 4
    assert {(row["speaker"], row["target"]) for row in conversions if row["f0_moved"] is None} == {
        ("low", "near"),
        ("near", "low"),
    }


def test_conversion_that_does_nothing(found, monkeypatch):
    monkeypatch.setattr(module, "convert_utterances", lambda *args: args[2].clone())
    conversions, originals = matrix(found, judges=Judges(PitchJudge()))
    summary = summarize(conversions, originals)["all"]
    similarity = summary["similarity"]
    assert similarity["share_nearer_to_target"] < 0.2
    assert similarity["to_target"] == pytest.approx(similarity["recording_to_target"])
    assert similarity["recording_to_source"] == similarity["reconstruction_to_source"] > 0.98
    assert summary["f0_moved"]["median"] == pytest.approx(0.0, abs=1e-6)
    assert summary["mcd_to_reconstruction_db"] == 0.0 == summary["reconstruction_mcd_db"]
    voiced = summary["voiced"]
    assert voiced["reconstructions"] == voiced["recordings"] > 0.4
    assert voiced["share_of_pairs_within_a_tenth"] == voiced["least_over_recordings"] == 1.0


def test_conversion_that_whispers(found, monkeypatch):
    monkeypatch.setattr(module, "convert_utterances", lambda *args: torch.randn(args[2].shape))
    conversions, originals = matrix(found, found["test"][:1])
    (original,) = originals
    assert original["reconstruction_voiced"] < 0.1 < 0.4 < original["recording_voiced"]
    assert {row["source_voiced"] for row in conversions} == {original["recording_voiced"]}
    voiced = summarize(conversions, originals)["all"]["voiced"]
    assert voiced["conversions"] < 0.1 and voiced["share_of_pairs_within_a_tenth"] == 0


def test_content_is_compared_with_the_reconstruction(found, monkeypatch):
    noise = torch.Generator().manual_seed(0)

    def noisy_but_alike(*args):
        # The reconstruction is far from the recording, and conversions are the same as it.
        generator = torch.Generator().manual_seed(1)
        return (args[2] + 0.1 * torch.randn(args[2].shape[1], generator=generator)).clone()

    monkeypatch.setattr(module, "convert_utterances", noisy_but_alike)
    summary = summarize(*matrix(found, found["test"][:1]))["all"]
    assert summary["reconstruction_mcd_db"] > 3 and summary["mcd_to_reconstruction_db"] == 0.0

    def different(*args):
        return args[2] + 0.1 * torch.randn(args[2].shape, generator=noise)

    monkeypatch.setattr(module, "convert_utterances", different)
    summary = summarize(*matrix(found, found["test"][:1]))["all"]
    assert summary["mcd_to_reconstruction_db"] > 0.5


def test_words(found, monkeypatch):
    judge = LoudnessJudge()
    monkeypatch.setattr(module, "convert_utterances", lambda *args: 0.001 * args[2])
    sources = [found["test"][0], found["test"][1]._replace(text=""), found["unseen"][0]]
    conversions, originals = matrix(found, sources, judges=Judges(words=judge), word_targets=1)
    # Two sources with a text: recording, no model, reconstruction and one conversion each.
    assert judge.heard == 8
    assert sum(row["errors"] is not None for row in conversions) == 2
    words = summarize(conversions, originals)["all"]["words"]
    assert words["recordings"]["word_error"] == 0.0 and words["recordings"]["utterances"] == 2
    assert words["reconstructions"]["word_error"] == pytest.approx(1 / 3)
    assert words["no_model"]["word_error"] == 0.0
    assert words["conversions"] == {
        "word_error": pytest.approx(1 / 3), "character_error": 0.0, "words": 6, "utterances": 2,
        **{f"word_error_above_{row}": pytest.approx(1 / 3) for row in ("recordings", "no_model")},
        **{f"character_error_above_{row}": 0.0 for row in ("recordings", "no_model")},
        "word_error_above_reconstructions": 0.0, "character_error_above_reconstructions": 0.0,
    }  # fmt: skip
    conversions, originals = matrix(found, [sources[1]], judges=Judges(words=judge))
    assert "words" not in summarize(conversions, originals)["all"]


def test_content_is_compared_with_the_recording(found, monkeypatch):
    class Judge:
        def score(self, reference, estimate, sample_rate):
            return {"content_distance": float((reference - estimate).abs().max() > 1e-3)}

    monkeypatch.setattr(module, "convert_utterances", lambda *args: args[2].clone())
    rows = matrix(found, found["test"][:1], judges=Judges(content=Judge()))
    summary = summarize(*rows)["all"]
    assert summary["content"] == {"no_model": 1.0, "reconstructions": 0.0, "conversions": 0.0}
    assert summary["mcd_to_recording_db"] == 0.0 < summary["no_model_mcd_db"] < 2


def test_source_voice_is_that_of_other_recordings(found, monkeypatch):
    class Judge:
        """Every recording is a voice of its own."""

        def embed(self, wav, sample_rate):
            return torch.nn.functional.normalize(wav[:2000], dim=0)

    monkeypatch.setattr(module, "convert_utterances", lambda *args: args[2].clone())
    source = found["unseen"][0]
    _, originals = matrix(found, [source], ["low"], judges=Judges(Judge()))
    assert originals[0]["recording_to_source"] < 0.9999
    # Where it has no other recording, this one has to do.
    alone = found | {"unseen": [source]}
    _, originals = matrix(alone, [source], ["low"], judges=Judges(Judge()))
    assert originals[0]["recording_to_source"] == pytest.approx(1.0)


def test_model_is_given_the_right_voices(found, monkeypatch):
    model, features = tiny_model()
    asked = []

    def spy(*args):
        asked.append([tensor.clone() for tensor in (*args[4], *args[6])])
        return args[2].clone()

    monkeypatch.setattr(module, "convert_utterances", spy)
    seen = next(u for u in found["test"] if u.speaker == "high")
    matrix(found, [seen, found["unseen"][0]], ["low", "near"], (model, features), batch_size=1)
    low, near, high = (LABELS.index(label) for label in ("low", "near", "high"))
    for call, target, source in zip(asked, [low, near, high, low, near], [high] * 3, strict=False):
        expected = [
            model.speakers(torch.tensor([target])),
            model.speakers.f0_statistics(torch.tensor([target])),
            model.speakers(torch.tensor([source])),
            model.speakers.f0_statistics(torch.tensor([source])),
        ]
        assert all(torch.equal(given, e) for given, e in zip(call, expected, strict=True))
    # Nobody knows the last one: the vector for unknown voices, and its own pitch.
    vectors, statistics = asked[-1][:2]
    assert torch.equal(vectors, model.speakers(torch.tensor([-1])))
    assert math.exp(statistics[0, 0]) == pytest.approx(UNSEEN["new"], rel=0.1)
    assert math.exp(asked[0][1][0, 0]) == pytest.approx(VOICES["low"], rel=1e-5)


def test_unseen_voice_is_known_to_an_encoder_by_its_recording(found, monkeypatch):
    model, features = tiny_model(source="encoder")
    asked = []
    monkeypatch.setattr(
        module, "convert_utterances", lambda *args: asked.append(args[4].vector) or args[2].clone()
    )
    source = found["unseen"][0]
    matrix(found, [source], ["low"], (model, features))
    expected = model.speakers(reference=features(read_wav(source.path)[None]))
    assert torch.allclose(asked[-1], expected)


@pytest.mark.parametrize("kind", ["mel_vq", "wav_vq", "mel"])
def test_real_conversion_is_the_same_one_by_one_and_together(found, kind, tmp_path):
    model = tiny_model(kind)
    options = {"mode": "latent_swap" if kind == "mel" else "codes", "samples": 1}
    folders = [tmp_path / "one", tmp_path / "many"]
    for folder, batch_size in zip(folders, (1, 3), strict=True):
        matrix(
            found, found["test"][:1], model=model, batch_size=batch_size, folder=folder,
            **options,
        )  # fmt: skip
    files = sorted(path.relative_to(folders[0]) for path in folders[0].rglob("*.wav"))
    name = found["test"][0].name
    targets = [label for label in LABELS if label != found["test"][0].speaker]
    assert [str(file) for file in files] == sorted(
        f"{name}/{word}.wav"
        for word in ("recording", "reconstruction", *(f"to_{t}" for t in targets))
    )
    for file in files:
        one, many = (read_wav(folder / file) for folder in folders)
        assert len(one) == int(SECONDS * RATE)
        assert torch.allclose(one, many, atol=2e-3)
    wavs = [read_wav(folders[0] / name / f"to_{target}.wav") for target in targets]
    assert not torch.equal(*wavs)
    recording = read_wav(folders[0] / name / "recording.wav")
    assert torch.equal(recording, read_wav(found["test"][0].path))
    if kind == "mel":
        # To one's own latents and back.
        reconstruction = read_wav(folders[0] / name / "reconstruction.wav")
        assert torch.allclose(reconstruction, recording, atol=1e-3)


def test_how_far_pitch_has_moved():
    low, high = math.log(100), math.log(200)
    assert f0_moved(low, high, high) == 1.0 and f0_moved(low, high, low) == 0.0
    assert f0_moved(high, low, math.log(100 * 2**0.25)) == pytest.approx(0.75)
    assert f0_moved(low, high, math.log(50)) == pytest.approx(-1.0)
    assert f0_moved(low, math.log(100 * 2 ** (1.9 / 12)), high) is None
    assert f0_moved(low, math.log(100 * 2 ** (2.1 / 12)), high) is not None
    assert f0_moved(None, high, high) is None and f0_moved(low, None, high) is None
    # A conversion that whispers has not moved.
    assert f0_moved(low, high, None) == 0.0
