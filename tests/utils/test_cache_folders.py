import os
import stat
import subprocess
import sys
import tempfile

from waveglow_vq.utils import cache_folders
from waveglow_vq.utils.cache_folders import VARIABLES, use_cache_folders, use_temporary_folder

import pytest

NO_HOME = "/proc/no/home"


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """Nobody's environment: no home, no caches, one folder for temporary files, which is given."""
    for name in (*VARIABLES, "TEMP", "TMP", "JOBLIB_MULTIPROCESSING"):
        monkeypatch.setenv(name, "")  # for monkeypatch to take away afterwards what is set now
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", NO_HOME)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(cache_folders, "PLACES", ())
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    return tmp_path


def waits_for_numba():
    return any(isinstance(finder, cache_folders._NumbaFinder) for finder in sys.meta_path)


def test_without_a_home_caches_are_in_a_private_temporary_folder(homeless, monkeypatch):
    monkeypatch.setenv("MPLCONFIGDIR", "/chosen")
    use_cache_folders()
    folder = homeless / f"waveglow-vq-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.environ["XDG_CACHE_HOME"] == str(folder)
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder / "numba")
    assert os.environ["MPLCONFIGDIR"] == "/chosen" and not waits_for_numba()
    # The next process finds the same one.
    monkeypatch.delenv("XDG_CACHE_HOME")
    use_cache_folders()
    assert os.environ["XDG_CACHE_HOME"] == str(folder)


def test_with_a_home_nothing_is_touched(homeless, monkeypatch):
    monkeypatch.setenv("HOME", str(homeless / "home"))
    before = dict(os.environ)
    use_cache_folders()
    assert dict(os.environ) == before and not waits_for_numba()
    assert os.listdir(homeless) == ["home"]


@pytest.mark.parametrize("damage", ["link", "open to all", "file"])
def test_a_folder_that_others_could_fill_is_not_used(homeless, monkeypatch, damage):
    folder = homeless / f"waveglow-vq-{os.getuid()}"
    if damage == "link":
        (homeless / "theirs").mkdir(0o700)
        folder.symlink_to(homeless / "theirs")
    elif damage == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    use_cache_folders()
    assert "NUMBA_CACHE_DIR" not in os.environ and waits_for_numba()
    # Another place is.
    other = homeless / "other"
    other.mkdir()
    monkeypatch.setattr(cache_folders, "PLACES", (str(other),))
    use_cache_folders()
    assert os.environ["NUMBA_CACHE_DIR"].startswith(str(other))


def test_where_nothing_can_be_written_numba_compiles_without_a_cache(homeless):
    """numba's own answer is `RuntimeError: cannot cache function ...: no locator available`, as it
    is for functions that are in no file."""
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('cache_folders', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "module.PLACES = ()\n"
        "module.use_cache_folders()\n"
        "import numba, numpy\n"
        "add = numba.njit(cache=True)(lambda a: a + 1)\n"
        "def body(a, out):\n"
        "    out[0] = a[0] + 3\n"
        "general = numba.guvectorize(['f8[:], f8[:]'], '(n)->(n)', cache=True)(body)\n"
        "print(add(1), general(numpy.ones(1))[0])"
    )
    environment = os.environ | {"TMPDIR": NO_HOME}
    command = [sys.executable, "-c", code, cache_folders.__file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("2 4.0\n", "")


def test_the_output_folder_serves_where_there_is_no_temporary_one(homeless, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(homeless))
    use_temporary_folder(homeless / "run")
    assert os.listdir(homeless) == []
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", _no_folder)
    use_temporary_folder(homeless / "run")
    assert os.environ["TMPDIR"] == str(homeless / "run" / "tmp")
    assert os.environ["NUMBA_CACHE_DIR"].startswith(os.environ["TMPDIR"])


def _no_folder():
    raise FileNotFoundError("No usable temporary directory found")
