import shutil

from waveglow_vq.errors import UserError
from waveglow_vq.inference import SpeechCodec, TextToSpeech, VoiceConverter, WaveGlowVocoder

import pytest

CPU = {"device": "cpu"}


@pytest.fixture
def refusal(vocoder_folder, tmp_path):
    """What is said of the export with one text of its YAML replaced."""

    def said(old, new, folder=vocoder_folder, interface=WaveGlowVocoder):
        copy = shutil.copytree(folder, tmp_path / "copy")
        path = copy / "hyperparams.yaml"
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")
        with pytest.raises(UserError) as error:
            interface.from_hparams(copy, run_opts=CPU)
        assert "\n" not in str(error.value) and str(path) in str(error.value)
        return str(error.value)

    return said


# What has arguments in the YAML, and what stands between its name and the first of them.
PLACES = {
    "waveglow_vq.lobes.flows.WaveGlow": "\n      ",
    "waveglow_vq.audio.features.LogMel": "\n      ",
    "waveglow_vq.lobes.model.WaveGlowVQ": "\n    ",
    "speechbrain.utils.parameter_transfer.Pretrainer": "\n  ",
}


@pytest.mark.parametrize("name", PLACES)
def test_an_argument_of_another_version_is_named(refusal, codec_folder, name):
    space = PLACES[name]
    said = refusal(f":{name}{space}", f":{name}{space}mood: sad{space}", codec_folder, SpeechCodec)
    assert (
        f"{name.rpartition('.')[2]} has no 'mood' in this version; this is waveglow-vq 0." in said
    )
    assert "load the export with the version that its first line names" in said


def test_options_that_are_handed_on_are_named_too(refusal):
    said = refusal("      order: 16\n", "      order: 16\n      mood: sad\n")
    assert "MelPredictor has no 'mood' in this version" in said


def test_options_of_functions(refusal, converter_folders):
    parts = converter_folders("codes"), VoiceConverter
    said = refusal("build_speakers\n    ", "build_speakers\n    mood: sad\n    ", *parts)
    assert "SpeakerCondition has no 'mood' in this version" in said


def test_what_classes_say_themselves(refusal):
    assert "kernel_size: 4; it must be odd" in refusal(
        "kernel_size: 3\n      c", "kernel_size: 4\n      c"
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "lobes.conditioners.MelCond",
            "lobes.conditioners.SunCond",
            "no such class as waveglow_vq",
        ),
        ("    vocoder: *id007\n", "", "WaveGlowVQ needs 'vocoder'"),
        ("\nmodules:", "\nparts:", "has no 'modules'"),
        ("\npretrainer:", "\nloader:", "has no 'pretrainer'"),
    ],
)
def test_what_is_missing_is_named(refusal, old, new, words):
    said = refusal(old, new)
    assert words in said and "this is waveglow-vq 0." in said


def test_of_text_to_speech_too(refusal, speech_folders):
    said = refusal("heads: 2", "heads: 2\n  tails: 2", speech_folders("plain"), TextToSpeech)
    assert "TextToCodes has no 'tails' in this version" in said


def test_arguments_of_the_call_are_not_the_files(vocoder_folder):
    with pytest.raises(TypeError, match="unexpected keyword argument 'mood'"):
        WaveGlowVocoder.from_hparams(vocoder_folder, mood="sad")
