import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.data.audio import write_wav
from waveglow_vq.inference import SpeechCodec, WaveGlowVocoder

import pytest

from tests.inference.exports import export_tiny, speech_like

CPU = {"device": "cpu"}


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
