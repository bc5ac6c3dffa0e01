import importlib.machinery
import importlib.util
import subprocess
import sys

from waveglow_vq import torchaudio_compat as compat

import pytest
import torch


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has not imported torchaudio yet; afterwards all is as before."""
    for name in ("torchaudio", compat._EXTENSION_MODULE):
        if name in sys.modules:
            monkeypatch.delitem(sys.modules, name)
    yield
    # What the test itself put there; monkeypatch then restores what was there before.
    for name in ("torchaudio", compat._EXTENSION_MODULE):
        sys.modules.pop(name, None)


def fake_torchaudio(monkeypatch, folder, extension):
    """Makes find_spec see a torchaudio in `folder`, with (a broken) or without an extension."""
    (folder / "lib").mkdir()
    if extension:
        (folder / "lib" / "_torchaudio.abi3.so").write_bytes(b"no library")
    spec = importlib.machinery.ModuleSpec("torchaudio", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_installed_where_the_extension_cannot_load(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", None)
    fake_torchaudio(monkeypatch, tmp_path, extension=True)
    assert compat.install_stand_in()
    stand_in = sys.modules["torchaudio._extension"]
    assert stand_in._IS_TORCHAUDIO_EXT_AVAILABLE is False
    assert stand_in._check_cuda_version() is None
    with pytest.raises(RuntimeError, match="forced_align needs torchaudio's compiled extension"):

        @stand_in.fail_if_no_align
        def forced_align():
            pass

        forced_align()
    assert compat.install_stand_in()  # a second call changes nothing
    assert sys.modules["torchaudio._extension"] is stand_in


def test_not_installed_with_a_cuda_torch(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    fake_torchaudio(monkeypatch, tmp_path, extension=True)
    assert not compat.install_stand_in()
    assert "torchaudio._extension" not in sys.modules


def test_not_installed_where_torchaudio_has_no_extension(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", None)
    fake_torchaudio(monkeypatch, tmp_path, extension=False)
    assert not compat.install_stand_in()


def test_not_installed_where_the_extension_loads(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", None)
    fake_torchaudio(monkeypatch, tmp_path, extension=True)
    monkeypatch.setattr(compat.ctypes, "CDLL", lambda library: object())
    assert not compat.install_stand_in()


def test_not_installed_without_torchaudio(fresh, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not compat.install_stand_in()


def test_not_installed_after_torchaudio_was_imported(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", None)
    fake_torchaudio(monkeypatch, tmp_path, extension=True)
    monkeypatch.setitem(sys.modules, "torchaudio", object())
    assert not compat.install_stand_in()


def test_torchaudio_and_speechbrain_import_in_a_fresh_process():
    result = run_python(
        "import waveglow_vq\n"
        "import torch, torchaudio, speechbrain\n"
        "from speechbrain.nnet import normalization\n"
        "wav = torchaudio.functional.resample(torch.zeros(1, 2000), 16000, 22050)\n"
        "mel = torchaudio.transforms.MelSpectrogram(22050, n_fft=512)(wav)\n"
        "print(tuple(wav.shape), mel.shape[0])"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "(1, 2757) 1"


def test_the_decision_agrees_with_what_torchaudio_does():
    """The stand-in is there exactly if a plain `import torchaudio` fails in this installation."""
    plain = run_python("import torchaudio")
    code = "import waveglow_vq.torchaudio_compat as c; print(c.install_stand_in())"
    installed = run_python(code).stdout.strip() == "True"
    cpu_only = torch.version.cuda is None
    assert installed == (cpu_only and plain.returncode != 0), plain.stderr
