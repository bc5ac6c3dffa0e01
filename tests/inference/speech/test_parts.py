import shutil

from waveglow_vq.errors import UserError
from waveglow_vq.inference import SpeechCodec, TextToSpeech, load_export
from waveglow_vq.inference.speech.parts import change_search, check_speech_parts, voices_of
from waveglow_vq.lobes.text_to_codes.search import SearchOptions
from waveglow_vq.text.tokenizer import train_tokenizer

import pytest
import torch
from speechbrain.utils.fetching import FetchFrom, FetchSource

from tests.inference.conftest import CPU, LABELS
from tests.inference.exports import TEXTS


@pytest.fixture
def copy(speech_folders, tmp_path):
    """A copy of an export, to be damaged."""
    return shutil.copytree(speech_folders("plain"), tmp_path / "copy")


def refuses(folder, *words, interface=TextToSpeech):
    with pytest.raises(UserError) as error:
        interface.from_hparams(folder, run_opts=CPU)
    assert "\n" not in str(error.value)
    for word in words:
        assert str(word) in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tokenizer.model", "has no tokenizer.model: the tokenizer is missing"),
        ("model.ckpt", "has no model.ckpt: the weights"),
        ("hyperparams.yaml", "has no hyperparams.yaml"),
        ("codec", "has no folder codec: the codec is missing"),
        ("codec/model.ckpt", "codec has no model.ckpt: the weights"),
        ("codec/hyperparams.yaml", "codec is not an export folder"),
    ],
)
def test_what_is_missing(copy, name, words):
    path = copy / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    refuses(copy, words)


@pytest.mark.parametrize("name", ["tokenizer.model", "model.ckpt", "codec/model.ckpt"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_what_is_cut_off(copy, name, keep):
    path = copy / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    refuses(copy, path)


def test_another_tokenizer_of_the_same_size(copy, tmp_path):
    swapped = str.maketrans("ab", "ba")
    path = copy / "tokenizer.model"
    size = load_export(copy, run_opts=CPU).tokenizer.vocabulary_size
    texts = [text.translate(swapped) for text in TEXTS]
    assert train_tokenizer(texts * 2, path).vocabulary_size == size
    refuses(copy, path, "another tokenizer", "checksum")


def test_a_codec_that_does_not_belong(copy, converter_folders, vocoder_folder):
    path = copy / "codec" / "model.ckpt"
    weights = torch.load(path, weights_only=True)
    name = next(name for name, value in weights.items() if value.is_floating_point())
    weights[name] = weights[name] + 1e-3
    torch.save(weights, path)
    refuses(copy, copy / "codec", "another codec", "checksum")
    shutil.rmtree(copy / "codec")
    shutil.copytree(converter_folders("codes"), copy / "codec")
    refuses(copy, copy / "codec", "another codec", "checksum")
    shutil.rmtree(copy / "codec")
    shutil.copytree(vocoder_folder, copy / "codec")
    refuses(copy, copy / "codec", "for WaveGlowVocoder, which has no codes")
    shutil.rmtree(copy / "codec")
    shutil.copytree(converter_folders("mel"), copy / "codec")
    refuses(copy, copy / "codec", "without codes")
    # Nor is it its own codec.
    shutil.rmtree(copy / "codec")
    shutil.copytree(copy, copy.parent / "again")
    shutil.copytree(copy.parent / "again", copy / "codec")
    refuses(copy, copy / "codec", "for TextToSpeech, which has no codes")


def test_a_yaml_without_checksums(copy):
    path = copy / "hyperparams.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "codec_checksum" not in line))
    refuses(copy, "another codec")


def test_the_wrong_interface(copy, codec_folder):
    refuses(copy, "for TextToSpeech, not for SpeechCodec", interface=SpeechCodec)
    refuses(codec_folder, "for SpeechCodec, not for TextToSpeech")


def test_labels_have_to_be_there(speech_folders, tmp_path):
    folder = shutil.copytree(speech_folders("voices"), tmp_path / "copy")
    (folder / "speakers.ckpt").unlink()
    refuses(folder, "has no speakers.ckpt")


def test_nothing_is_fetched(monkeypatch):
    def download(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    refuses("results/expotr", "results/expotr does not exist")
    refuses(FetchSource(FetchFrom.HUGGING_FACE, "some/model"), "download it first")


def test_parts_that_do_not_belong_together(speeches):
    plain, pitch, voices = speeches("plain"), speeches("pitch"), speeches("voices")
    tokenizer, codec, model = plain.tokenizer, plain.codec, plain.mods.model
    check_speech_parts(model, tokenizer, codec, [])

    class Larger:
        vocabulary_size, codebook_size, pitch_levels, max_speakers = 99, 64, 0, 0

    for arguments, words in (
        ((Larger, tokenizer, codec, []), "its vocabulary_size is 99, not"),
        ((model, tokenizer, pitch.codec, []), "its pitch_levels is 0, not 63"),
        ((model, tokenizer, codec, ["p225"]), "1 labels for a model with room for 0"),
        ((voices.mods.model, tokenizer, codec, []), "0 labels for a model with room for 3"),
        ((voices.mods.model, tokenizer, codec, LABELS + ["x"]), "4 labels for a model"),
        ((voices.mods.model, tokenizer, voices.codec, ["a", "b"]), "none of the model's, such as"),
    ):
        with pytest.raises(UserError, match=words):
            check_speech_parts(*arguments)
    with pytest.raises(UserError, match="TextToSpeech needs both"):
        TextToSpeech(modules={"model": model}, hparams={}, codec=codec)
    with pytest.raises(UserError, match="'model' is missing"):
        TextToSpeech(modules={}, hparams={}, tokenizer=tokenizer, codec=codec)


def test_whose_voices_there_are(speeches):
    plain, voices = speeches("plain").codec, speeches("voices").codec
    assert voices_of([], plain) == []
    assert voices_of(["a"], plain) == ["a"]
    assert voices_of([], voices) == LABELS
    assert voices_of(["p330", "held out", "p225"], voices) == ["p330", "p225"]


def test_changes_of_the_search():
    default = SearchOptions("beam", beam_size=7)
    assert change_search(default) == change_search(default, {}) == default
    assert change_search(default, {"beam_size": 2}) == SearchOptions("beam", beam_size=2)
    assert change_search(default, SearchOptions()) == SearchOptions()
    for changes, words in (
        ({"beams": 2}, "'beams' is not one of method"),
        (SearchOptions("best"), "'best' is not one of"),
        ({"top_p": 2.0}, "top_p: 2.0"),
    ):
        with pytest.raises(UserError, match=words):
            change_search(default, changes)


def test_what_needs_flows_refuses_it(speech_folders):
    from waveglow_vq.export.onnx_graph import model_of

    with pytest.raises(UserError, match="the model has codes"):
        model_of(load_export(speech_folders("plain"), run_opts=CPU))
