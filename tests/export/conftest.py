from tests.inference.conftest import codec_folder, converter_folders, vocoder_folder  # noqa: F401
