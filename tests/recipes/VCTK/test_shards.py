"""Training on several speakers from tar shards."""

import pytest
import torch

from tests.recipes.VCTK.vctk_runs import run, train


@pytest.mark.parametrize("source", ["table", "encoder"])
def test_several_speakers_with_pitch(prepared, command, tmp_path, source):
    folder = tmp_path / "shards"
    train.prepare_vctk(
        None, prepared / "audio", prepared / "manifests", skip_prep=True, shards_folder=folder
    )
    # Neither audio nor manifests but those of the shards.
    options = ["--shards_folder", folder, "--manifest_folder", "/nowhere"]
    options += ["--audio_folder", "/nowhere", "--speaker_source", source]
    options += ["--diagnose", True, "--diagnose_min_clips", 1]
    brain = run(command("vq", *options))
    assert all(torch.isfinite(value).all() for value in brain.model.parameters())
    assert (tmp_path / "run" / "diagnostics").is_dir()
    assert (tmp_path / "run" / "export" / "model.ckpt").is_file()
