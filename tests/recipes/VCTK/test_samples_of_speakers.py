"""The second stage of the vocoder of many speakers."""

import waveglow_vq  # noqa: F401  (before speechbrain)
from waveglow_vq.training.samples.samples_brain import SamplesBrain

import pytest

from tests.recipes.command_line import error_of, folder_of
from tests.recipes.VCTK.vctk_runs import assert_converts, assert_trained, results, run
from tests.training.samples.tiny_discriminator import TinyDiscriminator


@pytest.mark.parametrize("source", ["table", "encoder"])
def test_it_goes_on_from_a_finished_run(command, monkeypatch, capsys, tmp_path, source):
    monkeypatch.setattr(SamplesBrain, "make_discriminator", lambda self: TinyDiscriminator())
    options = ["--speaker_source", source]
    first = folder_of(run(command("mel", *options, output=tmp_path / "first")))
    options += ["--stage", "samples", "--init_from", first, "--adversary_after", 1]
    brain = run(command("mel", *options, "--number_of_epochs", 2))
    assert isinstance(brain, SamplesBrain)
    assert_trained(brain)
    assert_converts(brain)
    assert {"nll", "nll_at_start"} <= results(brain).keys()
    options += ["--max_speakers", 6, "--output_folder", tmp_path / "other"]
    assert "holds another model: its speakers." in error_of(capsys, run, command("mel", *options))
