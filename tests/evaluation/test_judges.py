import subprocess
import sys

from waveglow_vq.audio.io import read_wav_and_rate
from waveglow_vq.audio.resampling import resample
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.judges import (
    ASRScorer,
    ErrorCounts,
    SpeakerScorer,
    centroid,
    cosine,
    count_errors,
    error_rates,
    normalize_transcript,
)

import pytest
import torch

needs_speaker_judge = pytest.mark.skipif(not SpeakerScorer.available(), reason="needs make judges")
needs_word_judge = pytest.mark.skipif(not ASRScorer.available(), reason="needs make judges")


@pytest.fixture(scope="module")
def speech():
    """Utterances (text, samples at 22050 Hz) of two synthetic voices."""
    pytest.importorskip("espeakng_loader", reason="needs pip install waveglow-vq[demo]")
    from waveglow_vq.demo.corpus import speak_demo_texts
    from waveglow_vq.demo.texts import DEMO_TEXTS

    return [
        [
            (spoken or text, torch.from_numpy(clip).float() / 32768)
            for clip, (text, spoken) in zip(
                speak_demo_texts(speaker, 4, lambda: None), DEMO_TEXTS, strict=False
            )
        ]
        for speaker in range(2)
    ]


@pytest.mark.parametrize(
    "text,normalized",
    [
        ("Please call Stella.", "please call stella"),
        ("  It's  the speaker's; don't! ", "it's the speaker's don't"),
        ("'Quoted' \u201cwords\u201d, rock \u2018n\u2019 roll", "quoted words rock n roll"),
        ("well-known \u2014 and_so on", "well known and so on"),
        ("...", ""),
    ],
)
def test_normalized_text(text, normalized):
    assert normalize_transcript(text) == normalized


@pytest.mark.parametrize(
    "transcript,word_edits,character_edits",
    [
        ("one two three", 0, 0),
        ("ONE, two: three!", 0, 0),
        ("one three", 1, 4),
        ("one two two three", 1, 4),
        ("one to three", 1, 1),
        ("", 3, 13),
    ],
)
def test_errors_are_edits(transcript, word_edits, character_edits):
    assert count_errors("One two three.", transcript) == ErrorCounts(
        word_edits, 3, character_edits, 13
    )


def test_rates_weigh_utterances_by_their_length():
    rates = error_rates([ErrorCounts(0, 9, 1, 40), ErrorCounts(2, 1, 9, 10)])
    assert rates == {"word_error": 0.2, "character_error": 0.2, "words": 10, "utterances": 2}
    assert error_rates([]) == {}
    assert error_rates([count_errors("...", "what")]) == {}


def test_centroid_and_cosine():
    first, second = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert cosine(first, second) == 0.0
    assert cosine(first, -first) == -1.0
    assert cosine(first, torch.zeros(2)) == 0.0
    middle = centroid([torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])])
    assert middle.tolist() == pytest.approx([0.8944, 0.4472], abs=1e-4)


@pytest.mark.parametrize("judge", [SpeakerScorer, ASRScorer])
def test_absent_judge_says_how_to_get_it(judge, monkeypatch):
    monkeypatch.setattr(judge, "modules", ("no_such_module_anywhere",))
    assert not judge.available()
    with pytest.raises(UserError, match="needs .*: install it with make judges"):
        judge()


def test_judges_are_not_loaded_with_the_package():
    code = (
        "import sys, waveglow_vq.evaluation.judges as judges; judges.SpeakerScorer.available(); "
        "judges.ASRScorer.available(); "
        "sys.exit(any(name in sys.modules for name in ('resemblyzer', 'pocketsphinx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@needs_speaker_judge
def test_speaker_judge_tells_voices_apart(speech):
    judge = SpeakerScorer()
    first, second = ([judge.embed(wav, 22050) for _, wav in clips] for clips in speech)
    for own, other in ((first, second), (second, first)):
        assert own[0].norm() == pytest.approx(1.0, abs=1e-5)
        same, different = cosine(own[0], centroid(own[1:])), cosine(own[0], centroid(other))
        assert same > 0.8 > different + 0.1


@pytest.mark.slow
@needs_speaker_judge
def test_speaker_judge_and_odd_waveforms(speech):
    judge = SpeakerScorer()
    wav = speech[0][0][1]
    reference = judge.embed(wav, 22050)
    # At another rate, or shaped [1, N]: the same voice. The level matters a little, except for
    # quiet recordings, which are raised to one level.
    assert cosine(reference, judge.embed(0.05 * wav, 22050)) > 0.9
    assert cosine(judge.embed(0.1 * wav, 22050), judge.embed(0.05 * wav, 22050)) > 0.999
    assert cosine(reference, judge.embed(resample(wav, 22050, 44100), 44100)) > 0.99
    assert torch.equal(reference, judge.embed(wav[None], 22050))
    # Beyond full scale it is limited, as in a file.
    loud = resample(wav, 22050, 16000) * 20
    assert torch.equal(judge.embed(loud, 16000), judge.embed(loud.clamp(-1, 1), 16000))
    assert not judge.embed(torch.zeros(22050), 22050).any()
    for odd in (1e-4 * torch.randn(22050), 0.1 * torch.randn(100)):
        assert torch.isfinite(judge.embed(odd, 22050)).all()
    with pytest.raises(ValueError, match=r"\[N\] or \[1, N\]"):
        judge.embed(torch.zeros(2, 22050), 22050)


@pytest.mark.slow
@needs_speaker_judge
def test_speaker_judge_leaves_the_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    SpeakerScorer()
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.slow
@needs_word_judge
def test_word_judge_understands_and_forgets(speech):
    judge = ASRScorer()
    (text, wav), (_, other) = speech[0][:2]
    assert judge.transcribe(torch.zeros(8000), 22050) == ""
    first = judge.transcribe(wav, 22050)
    # What was heard before, loud or quiet, changes nothing.
    judge.transcribe(0.3 * torch.randn(30000), 22050)
    judge.transcribe(other, 22050)
    assert judge.transcribe(wav, 22050) == first
    assert judge.errors(text, wav, 22050) == count_errors(text, first)
    errors = error_rates([judge.errors(*clip, 22050) for clip in speech[0]])
    garbled = error_rates([judge.errors(text, wav.flip(0), 22050) for text, wav in speech[0]])
    assert errors["word_error"] < 0.8 < garbled["word_error"]
    assert errors["character_error"] < 0.6


@pytest.mark.slow
@needs_word_judge
@needs_speaker_judge
def test_judges_on_real_recordings(real_vctk):
    words, voices = ASRScorer(), SpeakerScorer()
    counts, embeddings = [], {}
    for path in sorted(real_vctk.glob("wav48/*/*.wav"))[:12]:
        wav, rate = read_wav_and_rate(path)
        text = real_vctk / "txt" / path.parent.name / f"{path.stem}.txt"
        counts.append(words.errors(text.read_text(encoding="utf-8"), wav, rate))
        embeddings.setdefault(path.parent.name, []).append(voices.embed(wav, rate))
    assert error_rates(counts)["word_error"] < 0.7
    first, second = list(embeddings.values())[:2]
    assert cosine(first[0], centroid(first[1:])) > 0.75 > cosine(first[0], centroid(second))
