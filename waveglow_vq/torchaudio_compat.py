"""Makes torchaudio importable beside a torch that was built without CUDA.

torchaudio's Linux wheel on the package index has an extension library that links CUDA, and
`import torchaudio` insists on loading it. Beside a CPU-only torch that ends in `OSError:
... libc10_cuda.so`, and so does nearly every `import speechbrain...`. What SpeechBrain uses of
torchaudio (resampling, STFT, mel filters) is plain Python and needs no extension.

So when torchaudio is first imported, and only if torch has no CUDA and the extension cannot be
loaded, a stand-in replaces the private module `torchaudio._extension`. It tells the rest of
torchaudio what that module reports on installations without an extension. Nothing is decided
before, since that takes importing torch, for which `waveglow-vq --help` should not have to wait.
"""

import ctypes
import importlib.machinery
import sys
import types
from pathlib import Path

_EXTENSION_MODULE = "torchaudio._extension"


def stand_in_needed(package_folder):
    """Whether the torchaudio in this folder lacks the CUDA libraries that its extension links."""
    import torch  # the extension links its libraries, so they are loaded first

    if torch.version.cuda is not None:
        return False
    for library in sorted(Path(package_folder, "lib").glob("_torchaudio*")):
        try:
            ctypes.CDLL(str(library))
        except OSError:
            return True
    return False  # without an extension, too, torchaudio works by itself


class StandInFinder:
    """Finds the stand-in for `torchaudio._extension` where it is needed, and nothing else."""

    def find_spec(self, name, path=None, target=None):
        """For the import system, which asks every entry of `sys.meta_path`."""
        if name == _EXTENSION_MODULE and path and stand_in_needed(list(path)[0]):
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec):
        """The stand-in, for the import system."""
        return _make_stand_in()

    def exec_module(self, module):
        """The stand-in is complete."""


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
    """Installs the finder of the stand-in; `import waveglow_vq` calls this.

    Example
    -------
    >>> install_stand_in()
    >>> import torchaudio
    >>> torchaudio.functional.create_dct(4, 8, norm=None).shape
    torch.Size([8, 4])
    """
    if not any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, StandInFinder())
