import json

from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.conversion import diagnosis as module
from waveglow_vq.evaluation.conversion.diagnosis import diagnose_conversion
from waveglow_vq.evaluation.conversion.diagnosis_options import DiagnosisOptions
from waveglow_vq.evaluation.judges import ASRScorer, SpeakerScorer
from waveglow_vq.evaluation.sound_quality import JUDGES

import pytest
import torch

from tests.evaluation.tiny_corpus import LABELS, tiny_model

pytest.importorskip("matplotlib", reason="needs pip install waveglow-vq[metrics]")

QUICK = {
    "min_train_clips": 3, "max_utterances": 3, "max_likelihoods": 2, "samples": 1,
    "use_judges": False,
}  # fmt: skip
QUIET = DiagnosisOptions(**QUICK), False


def diagnose(corpus, output, kind="mel_vq", **options):
    audio, manifests = corpus
    options = DiagnosisOptions(**QUICK | options)
    return diagnose_conversion(
        *tiny_model(kind), LABELS, manifests, audio, output, options, progress=False
    )


class PitchlessJudge:
    """All voices are alike."""

    @staticmethod
    def available():
        return True

    def embed(self, wav, sample_rate):
        return torch.tensor([1.0, 0.0])


class AbsentJudge:
    @staticmethod
    def available():
        return False

    def __init__(self):
        raise UserError("the judge needs a package: install it with make judges")


def strict(text):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("kind", ["mel_vq", "wav_vq", "mel"])
def test_everything_is_written(corpus, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(module, "SpeakerScorer", PitchlessJudge)
    monkeypatch.setattr(module, "ASRScorer", AbsentJudge)
    audio, manifests = corpus
    results = diagnose(corpus, tmp_path, kind, use_judges=True)
    assert strict((tmp_path / "diagnostics.json").read_text()) == json.loads(json.dumps(results))
    report = (tmp_path / "diagnostics.txt").read_text("utf-8")
    assert "nats per sample" in report and "not installed; 'make judges'" in report
    assert (tmp_path / "conversion.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "samples").rglob("*.wav"))) >= 4
    # Without codes nothing is said of codes, and latents are swapped.
    assert ("codes" in results) == ("linear probe" in report) == (kind != "mel")
    assert results["settings"]["mode"] == ("latent_swap" if kind == "mel" else "codes")
    if kind != "mel":
        leak = results["codes"]
        rate = 22050 / (512 if kind == "mel_vq" else 64)
        assert leak["codes_per_second"] == pytest.approx(rate)
        bits = leak["bits_per_second"]
        assert bits["uniform"] == pytest.approx(4 * rate)
        assert (bits["pitch"] > 0) == (kind == "mel_vq")
        # 18 utterances of 78 log-mel frames each; waves are padded to whole frames.
        assert bits["codes"] == 18 * (39 if kind == "mel_vq" else 78 * 4)
        assert leak["probe_encoder"]["utterances"] == 18 == leak["probe_codes"]["utterances"]
    assert results["conversion"]["all"]["similarity"]["to_target"] == pytest.approx(1.0)
    assert results["conversion"]["all"]["utterances"] == 3


def test_same_seed_same_figures(corpus, tmp_path):
    first = diagnose(corpus, tmp_path / "a")
    torch.rand(3)
    assert first == diagnose(corpus, tmp_path / "b")
    assert first["conversions"] != diagnose(corpus, tmp_path / "c", seed=1)["conversions"]
    one, other = (tmp_path / name / "samples" for name in "ab")
    for path in one.rglob("*.wav"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def test_without_judges_their_rows_are_missing(corpus, tmp_path):
    results = diagnose(corpus, tmp_path)
    assert "matrix" not in results and not (tmp_path / "conversion.png").exists()
    summary = results["conversion"]["all"]
    assert "similarity" not in summary and "words" not in summary
    assert summary["f0_moved"]["conversions"] > 0 and summary["mcd_to_reconstruction_db"] > 0
    report = (tmp_path / "diagnostics.txt").read_text("utf-8")
    assert "cosine" not in report and "word error" not in report
    assert "Skipped as requested: similarity of voices" in report


def test_model_is_left_in_its_mode_and_as_it_was(corpus, tmp_path):
    audio, manifests = corpus
    model, features = tiny_model()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    diagnose_conversion(model, features, LABELS, manifests, audio, tmp_path, *QUIET)
    assert model.training and model.conditioner.training
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert after.keys() == before.keys()


def test_limits(corpus, tmp_path):
    results = diagnose(corpus, tmp_path, max_targets=1, max_utterances=None, max_sources=1)
    assert len({row["target"] for row in results["conversions"]}) == 1
    # One speaker of either kind, with two utterances each.
    assert len(results["originals"]) == 4
    assert results["likelihoods"]["utterances"] == 2


def test_model_without_speakers(corpus, tmp_path):
    audio, manifests = corpus
    with pytest.raises(UserError, match="trained without speakers.*global_condition: speaker"):
        diagnose_conversion(
            *tiny_model(speakers=False), [], manifests, audio, tmp_path / "out", *QUIET
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options,sentence",
    [
        ({"min_train_clips": 4}, "min_train_clips: no speaker has 4 training clips"),
        ({"kind": "mel", "mode": "codes"}, "has no codes to convert through"),
        ({"mode": "magic"}, "mode: 'magic'"),
        ({"use_judges": "perhaps"}, "use_judges: expected .*, got 'perhaps'"),
        ({"max_utterances": 0}, "no utterance to convert"),
    ],
)
def test_impossible_wishes(corpus, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        diagnose(corpus, tmp_path, **options)


def test_foreign_manifests(corpus, tmp_path):
    audio, manifests = corpus
    with pytest.raises(UserError, match="speakers.json lists the speaker near, unknown"):
        diagnose_conversion(*tiny_model(), ["high", "low"], manifests, audio, tmp_path, *QUIET)
    with pytest.raises(UserError, match="train.json cannot be read"):
        diagnose_conversion(*tiny_model(), LABELS, tmp_path, audio, tmp_path, *QUIET)


def test_judges_can_be_required(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SpeakerScorer", AbsentJudge)
    with pytest.raises(UserError, match="make judges"):
        diagnose(corpus, tmp_path, use_judges="required")


@pytest.mark.slow
@pytest.mark.skipif(
    not (SpeakerScorer.available() and ASRScorer.available()), reason="needs make judges"
)
def test_with_the_real_judges(corpus, tmp_path):
    results = diagnose(
        corpus, tmp_path, use_judges="required", max_utterances=2, word_targets=1, max_targets=2
    )
    summary = results["conversion"]["all"]
    assert -1 <= summary["similarity"]["to_target"] <= 1
    # Recordings of one synthetic voice are alike, noise of a random model is like none.
    assert summary["similarity"]["recording_to_source"] > 0.95
    assert summary["similarity"]["reconstruction_to_source"] < 0.8
    assert summary["words"]["conversions"]["words"] == 6
    assert results["notes"] == [] or not JUDGES["content"].available()
