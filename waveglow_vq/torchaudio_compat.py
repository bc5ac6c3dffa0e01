"""Lets torchaudio be imported beside a torch that was built without CUDA.

torchaudio's Linux wheel on the package index has an extension library that links CUDA, and
`import torchaudio` insists on loading it. Beside a CPU-only torch that ends in `OSError:
... libc10_cuda.so`, and so does nearly every `import speechbrain...`. What SpeechBrain uses of
torchaudio (resampling, STFT, mel filters) is plain Python and needs no extension.

So, before torchaudio is first imported, and only if torch has no CUDA and the extension really
cannot be loaded, a stand-in for the private module `torchaudio._extension` is put into
`sys.modules`. It tells the rest of torchaudio what that module itself reports on installations
without an extension. Where torchaudio works by itself, nothing is touched.
"""

import ctypes
import importlib.util
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


def stand_in_needed():
    """Tells whether `import torchaudio` would fail for want of CUDA libraries.

    Returns
    -------
    needed : bool
        False if torch has CUDA, if torchaudio is not installed or was imported already, or if its
        extension loads.
    """
    import torch

    if torch.version.cuda is not None or "torchaudio" in sys.modules:
        return False
    spec = importlib.util.find_spec("torchaudio")  # finds the package without importing it
    if spec is None or not spec.submodule_search_locations:
        return False
    return not extension_loads(spec.submodule_search_locations[0])


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
    """Puts the stand-in in place if it is needed; `import waveglow_vq` calls this.

    Returns
    -------
    installed : bool
        Whether the stand-in is in place after the call.

    Example
    -------
    >>> installed = install_stand_in()
    >>> import torchaudio
    >>> torchaudio.functional.create_dct(4, 8, norm=None).shape
    torch.Size([8, 4])
    """
    if _EXTENSION_MODULE not in sys.modules and stand_in_needed():
        sys.modules[_EXTENSION_MODULE] = _make_stand_in()
    module = sys.modules.get(_EXTENSION_MODULE)
    return module is not None and (module.__doc__ or "").startswith("Stand-in")
