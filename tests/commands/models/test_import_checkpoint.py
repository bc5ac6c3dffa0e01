import json

import torch

from tests.checkpoints.published import random_tensors
from tests.commands.conftest import tree


def test_imports_describes_and_vocodes(tmp_path, run, refused):
    path, folder = tmp_path / "waveglow.pt", tmp_path / "export"
    torch.save(random_tensors(), path)
    status, said, error = run("import-checkpoint", path, folder, "--sigma", "0.6")
    assert (status, error) == (0, "")
    assert "NVIDIA/waveglow" in said and "sampling sigma  0.6\n" in said
    assert "--force" in refused("import-checkpoint", path, folder)
    report = json.loads(run("import-checkpoint", path, folder, "--force", "--json")[1])
    assert report["export_folder"] == str(folder) and report["sampling_sigma"] == 1.0
    described = json.loads(run("info", path, "--json")[1])
    assert described.pop("checkpoint") == str(path)
    assert described == {name: report[name] for name in described} and described["parameters"]
    torch.save(torch.zeros(4, 9), tmp_path / "mel.pt")
    status, said, _ = run("vocode", folder, tmp_path / "mel.pt", tmp_path / "out.wav")
    assert status == 0 and "0.10 s" in said


def test_refusals(tmp_path, refused):
    path = tmp_path / "damaged.pt"
    path.write_bytes(b"no checkpoint")
    assert "damaged.pt" in refused("import-checkpoint", path, tmp_path / "out")
    assert "nowhere.pt" in refused("import-checkpoint", tmp_path / "nowhere.pt", tmp_path / "out")
    assert "damaged.pt" in refused("info", path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    torch.save(random_tensors(), path)
    assert "mine" in refused("import-checkpoint", path, tmp_path / "mine", "--force")
    assert tree(tmp_path) == {"damaged.pt", "mine/thesis.tex"}
