"""Lets torchaudio be imported beside a torch that was built without CUDA.

torchaudio's Linux wheel on the package index has an extension library that links CUDA, and
`import torchaudio` insists on loading it. Beside a CPU-only torch that ends in `OSError:
... libc10_cuda.so`, and so does nearly every `import speechbrain...`. What SpeechBrain uses of
torchaudio (resampling, STFT, mel filters) is plain Python and needs no extension.

So when torchaudio is first imported, and only if torch has no CUDA and the extension really cannot
be loaded, a stand-in takes the place of the private module `torchaudio._extension`. It tells the
rest of torchaudio what that module itself reports on installations without an extension. Where
torchaudio works by itself, nothing is touched. The decision is made at that moment and not before,
since it needs torch, whose import takes a second that `waveglow-vq --help` does not have to wait.
"""

import ctypes
import importlib.machinery
import sys
import types
from pathlib import Path

_EXTENSION_MODULE = "torchaudio._extension"


def extension_loads(package_folder):
    """Tells whether torchaudio can load its own extension library.

    Arguments
    ---------
    package_folder : str or Path
        The folder of the installed torchaudio package.

    Returns
    -------
    loads : bool
        True also if there is no extension library at all: torchaudio copes with that by itself.

    Example
    -------
    >>> extension_loads("a folder that does not exist")
    True
    """
    import torch  # noqa: F401  (the extension links torch's libraries, so they come first)

    for library in sorted(Path(package_folder, "lib").glob("_torchaudio*")):
        try:
            ctypes.CDLL(str(library))
        except OSError:
            return False
    return True


def stand_in_needed(package_folder):
    """Tells whether `import torchaudio` would fail for want of CUDA libraries.

    Arguments
    ---------
    package_folder : str or Path
        The folder of the installed torchaudio package.

    Returns
    -------
    needed : bool
        False if torch has CUDA, or if torchaudio's extension loads.
    """
    import torch

    return torch.version.cuda is None and not extension_loads(package_folder)


class StandInFinder:
    """Finds the stand-in for `torchaudio._extension` where it is needed, and nothing else."""

    def find_spec(self, name, path=None, target=None):
        """What the import system asks every entry of `sys.meta_path`.

        Arguments
        ---------
        name : str
            Of the module that is imported.
        path : list of str
            For a module of a package, where the package is.
        target : module
            Not used.

        Returns
        -------
        importlib.machinery.ModuleSpec
            None: this finder has nothing for that name.
        """
        if name == _EXTENSION_MODULE and path and stand_in_needed(list(path)[0]):
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec):
        """The stand-in, for the import system."""
        return _make_stand_in()

    def exec_module(self, module):
        """Nothing is left to do."""


def _make_stand_in():
    def fail_if_no_align(function):
        def refuse(*args, **kwargs):
            raise RuntimeError(
                f"torchaudio.functional.{function.__name__} needs torchaudio's compiled extension,"
                " which does not load beside this CPU-only torch"
            )

        return refuse

    module = types.ModuleType(_EXTENSION_MODULE, "Stand-in, see waveglow_vq.torchaudio_compat.")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._check_cuda_version = lambda: None
    module.fail_if_no_align = fail_if_no_align
    return module


def install_stand_in():
    """Has the stand-in put in place when torchaudio is imported; `import waveglow_vq` calls this.

    Example
    -------
    >>> install_stand_in()
    >>> import torchaudio
    >>> torchaudio.functional.create_dct(4, 8, norm=None).shape
    torch.Size([8, 4])
    """
    if not any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, StandInFinder())
