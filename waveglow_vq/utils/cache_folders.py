"""Cache folders for libraries where the user has no home folder.

numba, librosa, matplotlib and Triton want a folder of the user for their caches, and some of them
cannot even be imported without one: in a container with a foreign user (``docker run --user``), on
a read-only image, in a function service. There a private temporary folder takes its place; where
nothing at all can be written, numba compiles without a cache. Where there is a home, and for every
variable that is set already, nothing is touched.
"""

import importlib.machinery
import os
import stat
import sys

# What the libraries ask for, and the folder that they are given below ours.
VARIABLES = {
    "XDG_CACHE_HOME": "",  # librosa's data, huggingface_hub, torch's kernels
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
}
# Where a temporary folder may be: not the working folder, in which nobody looks for it.
PLACES = ("/tmp", "/var/tmp", "/dev/shm")
# librosa asks for a folder's name only, and is told one that nobody can ever make.
NOWHERE = "/dev/null/cache"
_NUMBA_CACHING = "numba.core.caching"


def use_cache_folders():
    """Makes sure that libraries find a cache folder, ~/.cache or a temporary one;
    `import waveglow_vq` calls this.

    Example
    -------
    >>> use_cache_folders()
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home) and _can_be_written(home):
        return
    folder = _temporary_folder()
    if folder is None:
        os.environ.setdefault("XDG_CACHE_HOME", NOWHERE)
        if not any(isinstance(finder, _NumbaFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _NumbaFinder())
        return
    for variable, name in VARIABLES.items():
        os.environ.setdefault(variable, os.path.join(folder, name).rstrip(os.sep))
    if sys.platform == "linux" and not os.access("/dev/shm", os.W_OK):
        # joblib would say at each start that it has to do without processes.
        os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")


def use_temporary_folder(output_folder):
    """Keeps temporary files and caches in ``tmp`` below an output folder if no other place is
    writable; what is left there may be deleted.

    Example
    -------
    >>> use_temporary_folder("not needed")
    """
    import tempfile

    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        folder = os.path.abspath(os.path.join(output_folder, "tmp"))
        os.makedirs(folder, exist_ok=True)
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None
        use_cache_folders()


def _can_be_written(folder):
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _temporary_folder():
    """A private folder, the same in the next process; None if nothing is writable."""
    places = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    for place in [*places, *PLACES]:
        if not place or not os.path.isabs(place):
            continue
        folder = os.path.join(place, f"waveglow-vq-{os.getuid()}")
        try:
            if not os.path.lexists(folder):
                os.makedirs(folder, 0o700, exist_ok=True)
            found = os.lstat(folder)
        except OSError:
            continue
        # numba runs what it finds there: it must not be anybody else's.
        private = found.st_uid == os.getuid() and not found.st_mode & 0o022
        if private and stat.S_ISDIR(found.st_mode) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


class _NumbaFinder:
    """Imports numba's module for caching such that it needs no folder."""

    def find_spec(self, name, path=None, target=None):
        """What the import system asks every entry of `sys.meta_path`."""
        if name != _NUMBA_CACHING:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_adapt(module):
                execute(module)
                _cache_nothing(module)

            spec.loader.exec_module = execute_and_adapt
        return spec


def _cache_nothing(caching):
    """Functions with ``cache=True`` are compiled without a cache instead of an error."""

    def no_cache(py_func):
        return caching.NullCache()

    caching.FunctionCache = no_cache
    caching.make_library_cache = lambda prefix: no_cache
