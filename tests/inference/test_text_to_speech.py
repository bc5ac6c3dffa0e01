import itertools
import logging

from waveglow_vq.audio.io import read_wav
from waveglow_vq.errors import UserError
from waveglow_vq.inference import TextToSpeech, load_export, text_to_speech
from waveglow_vq.inference.speech import spoken_text as sentences
from waveglow_vq.inference.streaming.noise import Noise

import pytest
import torch

from tests.inference.conftest import CPU, LABELS, SPEECH

LONG = "The quick fox? It jumps over! So, who. Go; me: yes."
SEARCHES = [
    {"method": "greedy"},
    {"method": "sample", "temperature": 1.5, "top_p": 0.95},
    {"method": "beam", "beam_size": 3},
]


def someone(tts):
    return tts.speakers[0] if tts.speakers else None


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-3 * float(other.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("name", SPEECH)
def test_loads_and_speaks(speech_folders, name):
    tts = load_export(speech_folders(name), run_opts=CPU)
    assert isinstance(tts, TextToSpeech) and tts.sample_rate == 22050
    text = tts.encode_text("Yes!", someone(tts), generator=0)
    per_code = tts.codec.mods.model.conditioner.samples_per_code
    assert text.text == "yes!" and text.pieces == list("▁yes!")
    assert text.attention.shape == (len(text.codes), 5)
    wav = tts.synthesize("Yes!", someone(tts), generator=0)
    assert wav.shape[0] == 1 and bool(wav.isfinite().all()) and float(wav.std()) > 0
    # Of log-mels, the last code's last sample would be the first of another code.
    assert per_code * len(text.codes) - wav.shape[1] == (name != "waves")
    assert torch.equal(wav, tts.decode_text(text, someone(tts), generator=0))


def test_what_is_said_are_the_codes(speeches):
    tts = speeches("plain")
    text = tts.encode_text("Yes!", generator=0)
    wav = tts.codec.decode_batch(text.codes[None], generator=0)[0]
    close(tts.synthesize("Yes!", generator=0), wav[:, : len(text.codes) * 512 - 1])


@pytest.mark.parametrize("name", ["voices", "pitch", "encoder", "waves"])
def test_a_codec_with_speakers_gets_the_voice_and_the_pitch(speeches, name):
    tts = speeches(name)
    text = tts.encode_text("Yes!", "p226", generator=0)
    codec, model = tts.codec, tts.codec.mods.model
    code_file = sentences.spoken_code_file(codec, text.codes, text.pitch, "p226")
    assert (text.pitch is not None) == model.uses_pitch
    expected = torch.cat(list(codec.decode_stream(code_file, speaker="p226", generator=3)))
    assert torch.equal(tts.decode_text(text, "p226", generator=3)[0], expected)
    # In its own voice, as far as the file says, it is the same one.
    if model.speakers.source == "encoder":
        own = torch.cat(list(codec.decode_stream(code_file, generator=3)))
        assert torch.allclose(own, expected, atol=1e-5)
    other = tts.decode_text(text, "p225", generator=3)[0]
    assert (other - expected).std() > 0.05 * expected.std()
    if model.uses_pitch:
        flat = text.sentences[0]._replace(pitch=torch.zeros_like(text.pitch))
        unvoiced = tts.decode_text(sentences.SpokenText([flat]), "p226", generator=3)[0]
        assert not torch.allclose(unvoiced, expected)


@pytest.mark.parametrize("name", ["voices", "pitch"])
def test_the_text_model_is_told_who_speaks(speeches, name):
    tts = speeches(name)
    one, other = (
        tts.encode_text("The quick brown fox.", label, search={"method": "greedy"})
        for label in LABELS[:2]
    )
    assert not torch.equal(one.attention, other.attention)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", ["plain", "pitch"])
def test_a_batch_is_what_each_text_is_alone(speeches, monkeypatch, name, search):
    tts = speeches(name)
    monkeypatch.setattr(text_to_speech, "SENTENCES_AT_ONCE", 3)
    texts = ["Go.", "The lazy dog. It jumps!", "Who, me?"]
    speakers = ["p226", "p225", "p226"] if tts.speakers else None
    wavs, samples = tts.synthesize_batch(texts, speakers, generator=5, search=search)
    assert wavs.shape == (3, 1, int(samples.max())) and len(samples.unique()) > 1
    for item, text in enumerate(texts):
        speaker = None if speakers is None else speakers[item]
        alone = tts.synthesize(text, speaker, generator=5, search=search)
        assert alone.shape[1] == samples[item]
        close(wavs[item, :, : samples[item]], alone)
        assert not wavs[item, :, samples[item] :].any()


@pytest.mark.parametrize("generator", [7, None, "torch"])
def test_the_stream_is_the_whole(speeches, generator):
    tts = speeches("plain")

    def source():
        torch.manual_seed(2)
        return torch.Generator().manual_seed(2) if generator == "torch" else generator

    whole = tts.synthesize(LONG, generator=source())
    blocks = list(tts.stream(LONG, generator=source()))
    assert len(blocks) == len(tts.sentences(LONG)) == 4
    assert torch.equal(torch.cat(blocks)[None], whole)


def test_sentences_are_spoken_in_order_with_a_pause_between_them(speeches):
    tts = speeches("plain")
    blocks = list(tts.stream(LONG, generator=4, pause=0.5))
    texts = [text for text, _ in tts.sentences(LONG)]
    assert texts == ["the quick fox?", "it jumps over!", "so, who.", "go; me: yes."]
    silence = round(0.5 * 22050)
    for number, (text, block) in enumerate(zip(texts, blocks, strict=True)):
        alone = tts.synthesize(text, generator=4)[0]
        assert torch.equal(block[: len(alone)], alone)
        assert len(block) - len(alone) == (silence if number < 3 else 0)
        assert not block[len(alone) :].any()
    no_pause = tts.synthesize(LONG, generator=4, pause=0)
    assert no_pause.shape[1] == sum(map(len, blocks)) - 3 * silence


def test_a_very_long_text_is_spoken_sentence_by_sentence(speeches, monkeypatch):
    tts, made, generate = speeches("plain"), [], speeches("plain").mods.model.generate

    def counted(tokens, *rest):
        made.append(tuple(tokens.shape))
        return generate(tokens, *rest)

    monkeypatch.setattr(tts.mods.model, "generate", counted)
    text = "The quick brown fox jumps over the lazy dog and so on, " * 200
    stream = tts.stream(text, generator=0)
    assert made == []
    blocks = list(itertools.islice(stream, 3))
    # Nothing is written ahead, and nothing longer than the export says.
    assert len(made) == 3 and tts.max_characters == 40
    assert all(shape[0] == 1 and shape[1] <= 42 for shape in made)
    assert all(len(block) < 5 * 22050 for block in blocks)
    said = " ".join(text for text, _ in tts.sentences(text))
    assert said.replace(".", "") == " ".join(text.lower().split())


def test_a_text_is_closed_as_those_of_training_are(speeches):
    tts = speeches("plain")
    said = [text for text, _ in tts.sentences("Who? The dog")]
    assert said == ["who?", "the dog."]
    for closed in ("The dog.", "the dog!", "the dog,"):
        assert tts.sentences(closed)[0][0][:-1] == "the dog"
    tts.hparams.closing_mark = ""
    assert tts.sentences("The dog")[0][0] == "the dog"
    tts.hparams.closing_mark = "."


def test_encoded_text_holds_all_sentences(speeches):
    tts = speeches("plain")
    text = tts.encode_text(LONG, generator=4)
    assert len(text.sentences) == 4 and text.text == " ".join(x for x, _ in tts.sentences(LONG))
    assert text.attention.shape == (len(text.codes), len(text.pieces))
    codes, pieces = len(text.sentences[0].codes), len(text.sentences[0].pieces)
    sums = text.attention[:codes, :pieces].sum(1)
    assert torch.allclose(sums, torch.ones(codes), atol=1e-3)
    assert not text.attention[:codes, pieces:].any() and not text.attention[codes:, :pieces].any()
    assert torch.equal(tts.decode_text(text, generator=4), tts.synthesize(LONG, generator=4))


def test_seeds(speeches):
    tts, search = speeches("plain"), {"method": "sample"}
    one, again, other = (
        tts.synthesize("The lazy dog.", generator=seed, search=search) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert one.shape != other.shape or not torch.allclose(one, other, atol=1e-3)
    codes = [
        tts.encode_text("The lazy dog.", generator=seed, search=search).codes.tolist()
        for seed in range(5)
    ]
    assert len(set(map(tuple, codes))) > 1
    greedy = [
        tts.encode_text("The lazy dog.", generator=seed, search={"method": "greedy"}).codes.tolist()
        for seed in range(3)
    ]
    assert greedy[0] == greedy[1] == greedy[2]
    # The noise of the codec follows the seed too.
    text = tts.encode_text("The lazy dog.", generator=1)
    noises = [tts.decode_text(text, generator=seed) for seed in (1, 1, 2)]
    assert torch.equal(noises[0], noises[1]) and not torch.equal(noises[0], noises[2])


def test_sigma_is_the_codecs(speeches, monkeypatch):
    tts = speeches("plain")
    assert tts.sampling_sigma == tts.codec.sampling_sigma == 0.9
    text = tts.encode_text("Go.", generator=1)
    default = tts.decode_text(text, generator=1)
    assert torch.equal(default, tts.decode_text(text, generator=1, sigma=0.9))
    monkeypatch.setattr(Noise, "_draw", staticmethod(lambda source, count: torch.ones(count) * 9))
    silent = tts.decode_text(text, generator=1, sigma=0.0)
    assert torch.equal(silent, tts.decode_text(text, generator=2, sigma=0.0))


def test_the_search_of_the_export_and_of_a_call(speeches):
    tts = speeches("plain")
    assert (tts.search.method, tts.search.temperature) == ("sample", 0.8)
    text, given = "The lazy dog.", {"generator": 3}
    own = tts.encode_text(text, **given).codes
    assert torch.equal(own, tts.encode_text(text, search=tts.search, **given).codes)
    assert torch.equal(own, tts.encode_text(text, search={"temperature": 0.8}, **given).codes)
    hot = tts.encode_text(text, search={"temperature": 50.0}, **given).codes
    assert not torch.equal(own, hot)


def test_a_bound_on_the_length_is_warned_of_once(speeches, caplog):
    tts = speeches("endless")
    with caplog.at_level(logging.WARNING):
        text = tts.encode_text("The fox. It jumps!", generator=0)
    assert not text.stopped and [x.stopped for x in text.sentences] == [False, False]
    said = [x.getMessage() for x in caplog.records if x.levelno == logging.WARNING]
    assert len(said) == 2 and "'the fox.' did not end by itself" in said[0]
    assert "'it jumps!' did not end by itself" in said[1] and "0.8 s" in said[1]
    limits = tts.mods.model.limits(torch.tensor([len(text.sentences[0].pieces)]))
    assert len(text.sentences[0].codes) == int(limits.most)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert speeches("plain").encode_text("The fox.", generator=0).stopped
    assert not caplog.records


def refusal(call, *arguments, **options):
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("text", ["", "  \n\t ", "?! ... --", "«…»", "***"])
def test_nothing_to_say(speeches, text):
    tts = speeches("plain")
    for call in (tts.synthesize, tts.stream, tts.encode_text, tts.sentences):
        assert "nothing to say" in refusal(call, text)
    assert "nothing to say" in refusal(tts.synthesize_batch, ["Go.", text])


def test_signs_without_words_are_named_once(speeches, caplog, tmp_path):
    tts = speeches("plain")
    text = "Yes 👋🏾, so | no. Yes 👋🏾☂️!"
    said = "left out of what is spoken, since there are no words for it: "
    said += "'👋🏾', '☂️', '|' (vertical line)"
    (tmp_path / "text.txt").write_text(text, "utf-8")
    calls = {
        "synthesize": lambda: tts.synthesize(text, generator=0),
        "synthesize_batch": lambda: tts.synthesize_batch([text, "Yes.", "☂️ no"], generator=0),
        "encode_text": lambda: tts.encode_text(text, generator=0),
        "synthesize_file": lambda: tts.synthesize_file(
            tmp_path / "text.txt", tmp_path / "speech.wav", generator=0
        ),
    }
    for name, call in calls.items():
        caplog.clear()
        call()
        assert [x.getMessage() for x in caplog.records if "words for it" in x.msg] == [said], name
    caplog.clear()
    tts.synthesize("Yes, so: (no) – “yes”?", generator=0)
    assert not [x for x in caplog.records if "words for it" in x.msg]


def test_lines_of_marks_within_a_text_are_no_obstacle(speeches):
    tts = speeches("plain")
    assert [x for x, _ in tts.sentences("Go.\n\n***\n\nYes!")] == ["go.", "yes!"]


@pytest.mark.parametrize(("text", "symbol"), [("Go to 北京.", "北"), ("Да.", "д"), ("α", "α")])
def test_unknown_symbols_are_named(speeches, text, symbol):
    tts = speeches("plain")
    assert repr(symbol) in refusal(tts.synthesize, text)
    # However far behind: before anything is sentences.
    assert repr(symbol) in refusal(tts.stream, "Go. " * 50 + text)
    # Accents are only left out.
    assert tts.sentences("Fé.")[0][0] == "fe."


def test_wrong_options(speeches):
    plain, voices = speeches("plain"), speeches("voices")
    for call in (plain.synthesize, plain.stream):
        assert "single voice" in refusal(call, "Go.", "p225")
        assert "'tempreature' is not one of" in refusal(call, "Go.", search={"tempreature": 1})
        assert "'best' is not one of" in refusal(call, "Go.", search={"method": "best"})
        assert "temperature" in refusal(call, "Go.", search={"temperature": 0.0})
        assert "sigma: -1" in refusal(call, "Go.", sigma=-1)
        assert "pause: -1" in refusal(call, "Go.", pause=-1)
        assert "generator: 'x'" in refusal(call, "Go.", generator="x")
        assert "text: expected a string" in refusal(call, ["Go."])
    for call in (voices.synthesize, voices.stream, voices.encode_text):
        assert "3 voices, such as 'p225'" in refusal(call, "Go.")
        sentence = refusal(call, "Go.", "p22")
        assert "'p22' is not one of the 3 speakers" in sentence and "TextToSpeech" in sentence
    assert "['p225'] is not one of" in refusal(voices.synthesize, "Go.", ["p225"])
    assert "2 labels for 1 texts" in refusal(voices.synthesize_batch, ["Go."], ["p225", "p226"])
    assert "at least one text" in refusal(plain.synthesize_batch, [])
    assert "at least one text" in refusal(plain.synthesize_batch, "Go.")


def test_a_text_file(speeches, tmp_path):
    tts, path, out = speeches("plain"), tmp_path / "story.txt", tmp_path / "deep" / "story.wav"
    path.write_bytes(b"\xef\xbb\xbf" + LONG.encode())
    assert tts.synthesize_file(path, out, generator=2) == out
    expected = tts.synthesize(LONG, generator=2)[0].clamp(-1, 1)
    torch.testing.assert_close(read_wav(out), expected, atol=1e-4, rtol=0)


def test_nothing_is_left_half_written(speeches, tmp_path, monkeypatch):
    tts, path, out = speeches("plain"), tmp_path / "story.txt", tmp_path / "story.wav"
    path.write_text("Go. " * 5 + "Да.", "utf-8")
    assert str(path) in refusal(tts.synthesize_file, path, out)
    path.write_bytes(b"\xff\xfe\x00")
    assert f"{path} is not text in UTF-8" in refusal(tts.synthesize_file, path, out)
    assert "cannot be read" in refusal(tts.synthesize_file, tmp_path / "no.txt", out)
    path.write_text(LONG)
    out.write_bytes(b"what was there")
    write, written = tts._write, []

    def fails_in_the_middle(*arguments):
        written.append(arguments)
        if len(written) == 3:
            raise RuntimeError("out of memory")
        return write(*arguments)

    monkeypatch.setattr(tts, "_write", fails_in_the_middle)
    with pytest.raises(RuntimeError, match="out of memory"):
        tts.synthesize_file(path, out)
    assert out.read_bytes() == b"what was there"
    assert {each.name for each in tmp_path.iterdir()} == {"story.txt", "story.wav"}


def test_precision_is_the_codecs(speech_folders):
    tts = TextToSpeech.from_hparams(speech_folders("plain"), run_opts=CPU)
    exact = tts.synthesize("Go.", generator=0)
    assert tts.prepare_inference("bf16") is tts
    rough = tts.synthesize("Go.", generator=0)
    assert not torch.equal(exact, rough)
    assert (exact - rough).std() < 0.1 * exact.std()
    with pytest.raises(UserError, match="dtype"):
        tts.prepare_inference("int8")


def test_sentences_that_are_written_at_once(speeches):
    tts = speeches("plain")
    given = [*tts.sentences("Go."), *tts.sentences("The quick brown fox.")]
    model, tokenizer = tts.mods.model, tts.tokenizer
    both = sentences.write_sentences(model, tokenizer, given, None, tts.search, 1)
    for sentence, own in zip(both, given, strict=True):
        alone = sentences.write_sentences(model, tokenizer, [own], None, tts.search, 1)[0]
        assert sentence.text == own[0] and torch.equal(sentence.codes, alone.codes)
        assert sentence.attention.shape == (len(sentence.codes), len(sentence.pieces))
        torch.testing.assert_close(sentence.attention, alone.attention)
