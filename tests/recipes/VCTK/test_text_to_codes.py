"""What several speakers add to the recipe of text to codes."""

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.inference import TextToSpeech
from waveglow_vq.training.run import experiment

import pytest
import torch

from tests.data.corpora.vctk_tree import write_small
from tests.inference.exports import export_tiny
from tests.recipes.command_line import (
    RECIPES,
    command_line,
    error_of,
    folder_of,
    load_script,
    log_lines,
)
from tests.recipes.text_runs import QUICK, SMALL

train = load_script("VCTK", "train_text_to_codes")
KNOWN, UNKNOWN = ["p225", "p226"], "p227"


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """A corpus of three speakers, prepared, and a converter with pitch that knows two of them."""
    folder = tmp_path_factory.mktemp("voices")
    corpus = write_small(folder / "VCTK-Corpus", "0.80", dict.fromkeys([*KNOWN, UNKNOWN], 4), 1.1)
    train.prepare_vctk(
        corpus, folder / "audio", folder / "manifests", split_ratio=(50, 25, 25), num_workers=1
    )
    export_tiny(folder, "mel_vq", "codec", labels=KNOWN, use_pitch=True)
    return folder


@pytest.fixture
def command(voices, tmp_path):
    def build(*options):
        quick = QUICK | {
            "data_folder": voices / "VCTK-Corpus",
            "audio_folder": voices / "audio",
            "manifest_folder": voices / "manifests",
            "codec": voices / "codec",
            "codes_folder": voices / "codes",
            "output_folder": tmp_path / "run",
            "number_of_epochs": 1,
            "max_batch_codes": 100,
            "samples_per_epoch": 1,
            "preset": f"{{{SMALL}}}",
        }
        return command_line(RECIPES / "VCTK", "text_to_codes", quick, options)

    return build


def run(arguments):
    return experiment.run(train.VCTKTextBrain, train.prepare, arguments)


def test_speakers_are_chosen(command, capsys):
    brain = run(command())
    assert brain.labels == KNOWN and brain.model.max_speakers == 2
    for name, parameter in brain.model.named_parameters():
        assert brain.optimizer.state.get(parameter), f"{name} is never trained"
    log = (folder_of(brain) / "log.txt").read_text("utf-8")
    assert "of unknown speakers" in log
    assert "valid pitch_nll: " in log_lines(brain)[0]
    assert list((folder_of(brain) / "samples" / "epoch_0001").glob("*.wav"))
    tts = TextToSpeech.from_hparams(folder_of(brain) / "export", run_opts={"device": "cpu"})
    assert tts.speakers == KNOWN
    spoken = [tts.encode_text("Text of.", label, generator=0) for label in KNOWN]
    assert spoken[0].pitch is not None
    assert not torch.equal(spoken[0].attention, spoken[1].attention)
    # A codec that knows none of them.
    tiny = export_tiny(folder_of(brain) / "stranger", "mel_vq", labels=["x", "y"])[0]
    options = ["--codec", tiny, "--codes_folder", folder_of(brain) / "codes"]
    assert "knows none of the speakers" in error_of(capsys, run, command(*options))


@pytest.mark.slow
def test_a_codec_without_speakers_serves_all(command, codec, tmp_path):
    """The codes hold who speaks, and the text model chooses."""
    options = ["--codec", codec, "--codes_folder", tmp_path / "codes", "--test_utterances", 1]
    brain = run(command(*options))
    assert brain.labels == [*KNOWN, UNKNOWN]
    tts = TextToSpeech.from_hparams(folder_of(brain) / "export", run_opts={"device": "cpu"})
    assert tts.synthesize("Text of.", UNKNOWN, generator=0).shape[1] > 512
