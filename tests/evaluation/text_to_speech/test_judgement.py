import json
import math

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.audio.io import write_wav
from waveglow_vq.errors import UserError
from waveglow_vq.evaluation.judges import ASRScorer
from waveglow_vq.evaluation.metrics import mel_cepstral_distortion
from waveglow_vq.evaluation.text_to_speech import judgement as judged
from waveglow_vq.evaluation.text_to_speech.judgement import judge_text_to_speech
from waveglow_vq.evaluation.text_to_speech.report import FIGURES, format_report
from waveglow_vq.inference import SpeechCodec
from waveglow_vq.inference.speech.spoken_text import SpokenSentence, SpokenText
from waveglow_vq.inference.text_to_speech import TextToSpeech
from waveglow_vq.lobes.text_to_codes.model import TextToCodes
from waveglow_vq.text.tokenizer import train_tokenizer

import pytest
import torch

from tests.evaluation.signals import RATE, speech_like
from tests.evaluation.tiny_corpus import tiny_model

TEXTS = {
    "a1": "One small cat sat here.",
    "b2": "The dog went out of town!",
    "c3": "She saw it, and he did not.",
    "d4": "Who is there?",
}


class Scripted(TextToSpeech):
    """Says what the script has for a text: a waveform, and how it came about."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.script, self.searches = {}, []

    def say(self, text, wav, places=None, codes=None, stopped=True):
        ids = self.tokenizer.encode(text)
        places = torch.arange(3 * len(ids)) // 3 if places is None else torch.as_tensor(places)
        if codes is None:
            codes = torch.randint(16, places.shape, generator=torch.Generator().manual_seed(0))
        attention = torch.eye(len(ids))[places]
        pieces = self.tokenizer.pieces(ids)
        sentence = SpokenSentence(text.lower(), pieces, codes, None, attention, stopped)
        self.script[text] = SpokenText([sentence]), wav

    def encode_text(self, text, speaker=None, generator=None, search=None):
        self.searches.append(search)
        return self.script[text][0]

    def decode_text(self, spoken, speaker=None, generator=None, sigma=None, pause=0.0):
        return next(wav for known, wav in self.script.values() if known is spoken)[None]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    wavs, entries = {}, {}
    for number, (name, text) in enumerate(TEXTS.items()):
        # Of different length and rhythm.
        wavs[name] = speech_like(0.8 + 0.15 * number, 100.0 + 30 * number, number).roll(
            9000 * number
        )
        write_wav(folder / f"{name}.wav", wavs[name], RATE)
        entries[name] = {"wav": f"{{data_root}}/{name}.wav", "text": text}
    (folder / "test.json").write_text(json.dumps(entries))
    return folder, wavs


def make_tts(folder, kind=TextToSpeech):
    tokenizer = train_tokenizer(TEXTS.values(), folder / "tokenizer.model")
    model, features = tiny_model(speakers=False)
    codec = SpeechCodec(modules={"model": model, "features": features}, hparams={})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_model = TextToCodes(
            tokenizer.vocabulary_size, 16, channels=16, heads=2, encoder_layers=1, decoder_layers=1
        )
    text_model.fit_statistics([(20, torch.arange(30) % 16, None)])
    modules = {"model": text_model.eval()}
    return kind(modules=modules, hparams={}, tokenizer=tokenizer, codec=codec)


@pytest.fixture
def tts(tmp_path, corpus):
    """One that says everything as it was recorded, a little noisily."""
    tts = make_tts(tmp_path, Scripted)
    for name, wav in corpus[1].items():
        noise = torch.randn(len(wav), generator=torch.Generator().manual_seed(1))
        tts.say(TEXTS[name], wav + 1e-4 * noise)
    return tts


def judge(tts, corpus, **options):
    options = {"use_word_judge": False, "progress": False} | options
    return judge_text_to_speech(tts, corpus[0] / "test.json", corpus[0], **options)


def test_speech_like_the_recordings(tts, corpus):
    results = judge(tts, corpus, others=2)
    summary = results["summary"]
    assert summary["utterances"] == 4 and list(results["utterances"]) == sorted(TEXTS)
    for name in ("nearer_to_own", "diagonal", "stopped", "duration_ratio"):
        assert summary[name] == 1.0
    for name in ("truncated", "looping", "duration_deviation", "duration_deviation_most"):
        assert summary[name] == 0.0
    assert 0 < summary["mcd_speech_db"] < 1 < summary["mcd_reconstruction_db"]
    ratio = summary["mcd_speech_db"] / summary["mcd_reconstruction_db"]
    assert summary["mcd_ratio"] == pytest.approx(ratio)
    assert "word_error_speech" not in summary
    assert results["notes"] == [
        "Skipped as requested: word and character errors (speech recognizer)."
    ]
    assert summary.keys() - {"utterances"} <= FIGURES.keys()
    json.dumps(results, allow_nan=False)


def test_distortions_are_those_of_the_metric(tts, corpus):
    row = judge(tts, corpus, utterances=None, others=10)["utterances"]["c3"]
    _, wavs = corpus
    speech = tts.script[TEXTS["c3"]][1]
    expected = {name: mel_cepstral_distortion(wav, speech) for name, wav in wavs.items()}
    assert row["speech"]["mcd_db"] == pytest.approx(expected.pop("c3"), abs=1e-2)
    assert row["speech"]["others"] == 3
    nearest = min(expected, key=expected.get)
    assert row["speech"]["nearest_other"] == nearest
    # Files have 16 bits, and the speech here has more.
    assert row["speech"]["nearest_other_mcd_db"] == pytest.approx(expected[nearest], abs=1e-2)
    codes = tts.codec.to_code_file(corpus[0] / "c3.wav")
    again = torch.cat(list(tts.codec.decode_stream(codes, generator=0)))
    own = mel_cepstral_distortion(wavs["c3"], again)
    assert row["reconstruction"]["mcd_db"] == pytest.approx(own, abs=1e-2)
    assert row["mcd_ratio"] == pytest.approx(row["speech"]["mcd_db"] / own, rel=0.05)


def test_speech_of_another_sentence(tts, corpus):
    tts.say(TEXTS["a1"], corpus[1]["d4"])
    results = judge(tts, corpus)
    row = results["utterances"]["a1"]
    assert not row["speech"]["nearer_to_own"] and row["speech"]["nearest_other"] == "d4"
    assert results["summary"]["nearer_to_own"] == 0.75
    expected = len(corpus[1]["d4"]) / len(corpus[1]["a1"])
    assert row["duration_ratio"] == pytest.approx(expected)
    assert results["summary"]["duration_deviation"] == pytest.approx((expected - 1) / 4)
    assert results["summary"]["duration_deviation_most"] == pytest.approx(expected - 1)


def test_every_sentence_says_the_one_before(tts, corpus):
    names = sorted(TEXTS)
    for name, before in zip(names, names[-1:] + names[:-1], strict=True):
        tts.say(TEXTS[name], corpus[1][before])
    results = judge(tts, corpus)
    assert results["summary"]["nearer_to_own"] == 0.0
    found = [results["utterances"][name]["speech"]["nearest_other"] for name in names]
    assert found == names[-1:] + names[:-1]


def test_truncated_and_looping(tts, corpus):
    wavs, places = (
        corpus[1],
        {name: torch.arange(3 * len(text)) // 3 for name, text in TEXTS.items()},
    )
    tts.say(TEXTS["a1"], wavs["a1"], places["a1"][:40])
    tts.say(TEXTS["b2"], wavs["b2"], torch.cat([places["b2"][:40], places["b2"][20:]]))
    loop = torch.tensor([1, 2, 3, 4]).repeat(60)
    tts.say(TEXTS["c3"], wavs["c3"], torch.linspace(0, 27, 240).long(), loop)
    tts.say(TEXTS["d4"], wavs["d4"], stopped=False)
    results = judge(tts, corpus)
    rows, summary = results["utterances"], results["summary"]
    assert [name for name, row in rows.items() if row["truncated"]] == ["a1"]
    assert not rows["a1"]["looping"] and not rows["a1"]["diagonal"]
    assert rows["b2"]["loop_signs"] == ["goes back"] and not rows["b2"]["diagonal"]
    assert rows["c3"]["loop_signs"] == ["repeats itself"] and rows["c3"]["diagonal"]
    assert rows["c3"]["alignments"][0]["longest_repetition"] == 240
    assert rows["d4"]["loop_signs"] == ["does not end"] and not rows["d4"]["stopped"]
    assert (summary["truncated"], summary["looping"]) == (0.25, 0.75)
    assert (summary["diagonal"], summary["stopped"]) == (0.5, 0.75)
    table = format_report(results)
    for words in ("not diagonal, truncated", "goes back", "repeats itself", "does not end"):
        assert words in table


def test_limits_of_loops_are_those_of_the_recordings(tts, corpus):
    settings = judge(tts, corpus)["settings"]
    most = settings["most_stall"] / judged.LOOP_MARGIN
    forced = [
        row["teacher_forced"]["longest_stall"] for row in judge(tts, corpus)["utterances"].values()
    ]
    assert most == max(forced)
    length = int(settings["most_stall"])
    text, wav = TEXTS["d4"], corpus[1]["d4"]
    for stall, signs in ((length, []), (length + 1, ["stands still"])):
        places = torch.cat([torch.arange(13), torch.full((stall - 1,), 12)])
        tts.say(text, wav, places)
        assert judge(tts, corpus)["utterances"]["d4"]["loop_signs"] == signs


def test_teacher_forced_figures_are_the_models(tts, corpus):
    results = judge(tts, corpus)
    nll = accuracy = codes = 0.0
    for name, text in TEXTS.items():
        found = tts.codec.to_code_file(corpus[0] / f"{name}.wav").codes[None]
        tokens, one = torch.tensor([tts.tokenizer.encode(text)]), torch.ones(1)
        terms = tts.mods.model(tokens, one, found, one).terms
        row = results["utterances"][name]["teacher_forced"]
        assert row["nll"] == pytest.approx(float(terms["nll"]))
        count = found.shape[1] + 1
        nll, codes = nll + count * float(terms["nll"]), codes + count
        accuracy += count * float(terms["accuracy"])
    summary = results["summary"]
    assert summary["nll"] == pytest.approx(nll / codes)
    assert summary["perplexity"] == pytest.approx(math.exp(nll / codes))
    assert summary["accuracy"] == pytest.approx(accuracy / codes)


def test_draws_depend_on_the_seed_only(tts, corpus):
    first = judge(tts, corpus, utterances=2, others=1, seed=3)
    assert len(first["utterances"]) == 2
    assert first == judge(tts, corpus, utterances=2, others=1, seed=3)
    drawn = {tuple(judge(tts, corpus, utterances=2, seed=seed)["utterances"]) for seed in range(6)}
    assert len(drawn) > 1
    judge(tts, corpus, utterances=1, search={"method": "sample"})
    assert tts.searches[-1] == {"method": "sample"}


def test_what_cannot_be_spoken_is_left_out_and_said(tts, corpus, tmp_path):
    folder = corpus[0]
    entries = json.loads((folder / "test.json").read_text())
    entries["e5"] = entries["a1"] | {"text": "\u4f60\u597d"}
    entries["f6"] = {"wav": "{data_root}/a1.wav"}
    path = tmp_path / "more.json"
    path.write_text(json.dumps(entries))
    results = judge_text_to_speech(tts, path, folder, use_word_judge=False, progress=False)
    assert results["summary"]["utterances"] == 4
    assert results["notes"][0].startswith("Left out: 2 of 6 utterances, such as e5: ")
    path.write_text(json.dumps({name: entries[name] for name in ("e5", "f6")}))
    with pytest.raises(UserError, match="more.json has no utterance that the model can speak"):
        judge_text_to_speech(tts, path, folder, progress=False)


def test_a_single_utterance_has_nothing_to_be_told_from(tts, corpus, tmp_path):
    # The same sentence once more is no other one.
    entry = json.loads((corpus[0] / "test.json").read_text())["a1"]
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"a1": entry, "again": entry}))
    results = judge_text_to_speech(tts, path, corpus[0], use_word_judge=False, progress=False)
    assert results["utterances"]["a1"]["speech"].keys() == {"mcd_db", "others"}
    assert "nearer_to_own" not in results["summary"]
    assert "2 utterances" in format_report(results)


def test_words(tts, corpus, monkeypatch):
    class Deaf:
        heard = 0

        @classmethod
        def available(cls):
            return True

        def transcribe(self, wav, rate):
            assert rate == RATE and wav.ndim == 1
            Deaf.heard += 1
            return "who was" if Deaf.heard == 3 else "who is there"

    monkeypatch.setattr(judged, "ASRScorer", Deaf)
    entry = {"d4": json.loads((corpus[0] / "test.json").read_text())["d4"]}
    path = corpus[0] / "d4.json"
    path.write_text(json.dumps(entry))
    results = judge_text_to_speech(tts, path, corpus[0], progress=False)
    words = results["utterances"]["d4"]["words"]
    assert words["speech"]["transcript"] == "who was" and words["speech"]["word_edits"] == 2
    assert results["summary"]["word_error_recording"] == 0.0
    assert results["summary"]["word_error_speech"] == pytest.approx(2 / 3)
    assert results["summary"]["word_error_speech_above_reconstruction"] == pytest.approx(2 / 3)
    assert results["summary"]["word_error_no_model"] == 0.0 and Deaf.heard == 4
    assert "word error of the speech" in format_report(results)


def test_missing_recognizer_is_a_note(tts, corpus, monkeypatch):
    monkeypatch.setattr(ASRScorer, "available", classmethod(lambda cls: False))
    results = judge(tts, corpus, utterances=1, use_word_judge=True)
    assert "the speech recognizer is not installed; 'make judges'" in results["notes"][0]
    assert "word_error_speech" not in results["summary"]
