"""Using a trained model: loading an exported folder, vocoding, coding, converting voices."""

from waveglow_vq.inference.codec import SpeechCodec
from waveglow_vq.inference.converter import VoiceConverter
from waveglow_vq.inference.interface import ExportedModel, load_export
from waveglow_vq.inference.vocoder import WaveGlowVocoder

__all__ = ["ExportedModel", "SpeechCodec", "VoiceConverter", "WaveGlowVocoder", "load_export"]
