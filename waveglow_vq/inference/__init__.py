"""Using a trained model: loading exports, vocoding, coding, converting voices, speaking texts."""

from waveglow_vq.inference.codec import SpeechCodec
from waveglow_vq.inference.converter import VoiceConverter
from waveglow_vq.inference.exported_model import ExportedModel, load_export
from waveglow_vq.inference.text_to_speech import TextToSpeech
from waveglow_vq.inference.vocoder import WaveGlowVocoder

__all__ = [
    "ExportedModel",
    "SpeechCodec",
    "TextToSpeech",
    "VoiceConverter",
    "WaveGlowVocoder",
    "load_export",
]
