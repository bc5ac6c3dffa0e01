import importlib
import subprocess
import sys

from waveglow_vq import torchaudio_compat as compat

import pytest
import torch


@pytest.fixture
def imported(monkeypatch, tmp_path):
    """Imports `torchaudio._extension` of a made-up torchaudio, as in a process that has not
    imported torchaudio yet, and returns it; its own one says that it is `real`."""

    def run(extension):
        package = tmp_path / "torchaudio"
        (package / "lib").mkdir(parents=True)
        (package / "__init__.py").write_text("from . import _extension\n")
        (package / "_extension.py").write_text("real = True\n")
        if extension:
            (package / "lib" / "_torchaudio.abi3.so").write_bytes(b"no library")
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(str(tmp_path))
        # Also behind finders that others, such as pytest, have put first in the meantime.
        monkeypatch.setattr(sys, "meta_path", [compat.StandInFinder(), *sys.meta_path])
        importlib.import_module("torchaudio")
        return sys.modules["torchaudio._extension"]

    yield run
    # What the test itself put there; monkeypatch then restores what was there before.
    for name in ("torchaudio", "torchaudio._extension"):
        sys.modules.pop(name, None)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_in_place_where_the_extension_cannot_load(imported, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    stand_in = imported(extension=True)
    assert not hasattr(stand_in, "real") and stand_in.__doc__.startswith("Stand-in")
    assert stand_in._IS_TORCHAUDIO_EXT_AVAILABLE is False
    assert stand_in._check_cuda_version() is None
    with pytest.raises(RuntimeError, match="forced_align needs torchaudio's compiled extension"):

        @stand_in.fail_if_no_align
        def forced_align():
            pass

        forced_align()


def test_not_with_a_cuda_torch(imported, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert imported(extension=True).real


def test_not_where_torchaudio_has_no_extension(imported, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert imported(extension=False).real


def test_not_where_the_extension_loads(imported, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(compat.ctypes, "CDLL", lambda library: object())
    assert imported(extension=True).real


def test_one_finder_however_often_it_is_installed():
    compat.install_stand_in()
    compat.install_stand_in()
    assert sum(isinstance(finder, compat.StandInFinder) for finder in sys.meta_path) == 1
    assert compat.StandInFinder().find_spec("json") is None


def test_torchaudio_and_speechbrain_import_in_a_fresh_process():
    result = run_python(
        "import sys, waveglow_vq\n"
        "assert 'torch' not in sys.modules\n"
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
    result = run_python(
        "import waveglow_vq, torchaudio\n"
        "print(torchaudio._extension.__doc__ and 'Stand-in' in torchaudio._extension.__doc__)"
    )
    cpu_only = torch.version.cuda is None
    assert (result.stdout.strip() == "True") == (cpu_only and plain.returncode != 0), plain.stderr
