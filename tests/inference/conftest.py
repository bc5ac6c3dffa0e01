import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.audio.io import write_wav
from waveglow_vq.inference import SpeechCodec, TextToSpeech, VoiceConverter, WaveGlowVocoder

import pytest

from tests.inference.exports import export_tiny, export_tiny_speech, speech_like

CPU = {"device": "cpu"}
LABELS = ["p225", "p226", "p330"]
# What can be converted with: name, preset and its options.
CONVERTERS = {
    "codes": ("mel_vq", {}),
    "pitch": ("mel_vq", {"use_pitch": True, "use_instance_norm": True}),
    "encoder": ("mel_vq", {"use_pitch": True, "speaker_source": "encoder"}),
    "pretrained": ("mel_vq", {"use_pitch": True, "speaker_source": "pretrained"}),
    "waves": ("wav_vq", {"prior": "envelope"}),
    "mel": ("mel", {"use_film": True}),
}
# What can be spoken with: the codec, "" for one without speakers, and what the text model has.
SPEECH = {
    "plain": ("", {}),
    "endless": ("", {"ends": False}),
    "voices": ("codes", {"labels": LABELS}),
    "pitch": ("pitch", {"labels": LABELS[:2], "pitch_levels": 63}),
    "encoder": ("encoder", {"pitch_levels": 63}),
    "waves": ("waves", {}),
}


@pytest.fixture(scope="session")
def vocoder_folder(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("vocoder"), "mel")[0]


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("codec"), "mel_vq")[0]


@pytest.fixture(scope="session")
def wav_codec_folder(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("wav_codec"), "wav_vq", prior="envelope")[0]


@pytest.fixture(scope="session")
def vocoder(vocoder_folder):
    return WaveGlowVocoder.from_hparams(vocoder_folder, run_opts=CPU)


@pytest.fixture(scope="session", params=["mel_vq", "wav_vq"])
def codec(request, codec_folder, wav_codec_folder):
    folder = codec_folder if request.param == "mel_vq" else wav_codec_folder
    return SpeechCodec.from_hparams(folder, run_opts=CPU)


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """A sound file of 5000 samples at 22050 Hz."""
    path = tmp_path_factory.mktemp("recording") / "recording.wav"
    write_wav(path, speech_like(5000), 22050)
    return path


@pytest.fixture(scope="session")
def converter_folders(tmp_path_factory):
    """Exports of the models of CONVERTERS, made when they are asked for."""
    made = {}

    def folder(name):
        if name not in made:
            preset, options = CONVERTERS[name]
            path = tmp_path_factory.mktemp(f"converter_{name}")
            made[name] = export_tiny(path, preset, labels=LABELS, **options)[0]
        return made[name]

    return folder


@pytest.fixture(scope="session")
def converters(converter_folders):
    """The models of CONVERTERS, loaded when they are asked for."""
    loaded = {}

    def converter(name):
        if name not in loaded:
            loaded[name] = VoiceConverter.from_hparams(converter_folders(name), run_opts=CPU)
        return loaded[name]

    return converter


@pytest.fixture(scope="session")
def speech_folders(codec_folder, converter_folders, tmp_path_factory):
    """Exports of SPEECH, made when they are asked for."""
    made = {}

    def folder(name):
        if name not in made:
            codec, options = SPEECH[name]
            codec = converter_folders(codec) if codec else codec_folder
            path = tmp_path_factory.mktemp(f"speech_{name}")
            made[name] = export_tiny_speech(path, codec, **options)
        return made[name]

    return folder


@pytest.fixture(scope="session")
def speeches(speech_folders):
    """The exports of SPEECH, loaded when they are asked for."""
    loaded = {}

    def speech(name):
        if name not in loaded:
            loaded[name] = TextToSpeech.from_hparams(speech_folders(name), run_opts=CPU)
        return loaded[name]

    return speech
