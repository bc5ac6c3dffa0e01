import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.__main__ import main
from waveglow_vq.audio.io import write_wav

import pytest

from tests.inference.conftest import (  # noqa: F401
    codec_folder,
    converter_folders,
    recording,
    speech_folders,
    vocoder_folder,
    wav_codec_folder,
)
from tests.inference.exports import voiced_speech_like


@pytest.fixture
def clips(tmp_path):
    """A folder of two clips, one in a folder of its own, and something else."""
    folder = tmp_path / "clips"
    for index, name in enumerate(("one.wav", "more/two.WAV")):
        write_wav(folder / name, voiced_speech_like(3000 + index, seed=index), 22050)
    (folder / "notes.txt").write_text("nothing to hear")
    return folder


@pytest.fixture
def run(capsys):
    """Runs a command in this process: exit status, and what it said on stdout and stderr."""

    def command(*arguments):
        try:
            status = main([*map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


@pytest.fixture
def refused(run):
    """Runs a command that is to be refused in one sentence, which is returned."""

    def command(*arguments):
        status, out, error = run(*arguments)
        assert (status, out) == (2, ""), error
        assert error.startswith("error: ") and error.count("\n") == 1, error
        return error

    return command


def tree(folder):
    """The files of a folder, hidden ones too."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
