from tests.inference.conftest import (  # noqa: F401
    codec_folder,
    converter_folders,
    vocoder_folder,
    wav_codec_folder,
)
