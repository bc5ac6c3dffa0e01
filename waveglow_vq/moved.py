"""Names that modules had before they moved, which YAML files, exports and scripts hold."""

import importlib
import sys
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

from waveglow_vq.errors import say

# Old names and new ones, below waveglow_vq. The first six are in exports.
MODULES = {
    "data.features": "audio.features",
    "lobes.code_search": "lobes.text_to_codes.search",
    "lobes.mel_vq": "lobes.conditioners.mel_vq",
    "lobes.speakers": "lobes.conditioners.speaker_condition",
    "lobes.wave_vq": "lobes.conditioners.wav_vq",
    "lobes.flows.weight_norm": "lobes.flows.network.weight_norm",
    "lobes.waveglow": "lobes.flows.waveglow",
    "lobes.quantizer_statistics": "lobes.quantizers.statistics",
    "options": "utils.options",
    "data.audio": "audio.io",
    "evaluation.pitch": "evaluation.f0_accuracy",
    "inference.onnx": "export.onnx",
    "inference.onnx_graph": "export.onnx_graph",
    "training.export": "export.folder",
}
# What was run with "python -m", and the command that replaced it.
COMMANDS = {
    "data.demo_corpus": "demo-corpus",
    "evaluation.conversion": "diagnose-conversion",
    "evaluation.score": "evaluate",
    "evaluation.text_to_speech": "judge-speech",
    "inference.onnx": "export-onnx",
    "training.average": "average",
}
# What scripts of earlier recipes import first; their YAML files and runs go on with today's.
RECIPES = ("data.download", "data.preparation", "training.demo", "training.recipe_help")


def install_old_names():
    """Lets modules be imported by their old names; `import waveglow_vq` calls this.

    Raises
    ------
    SystemExit
        With status 2 where ``python -m`` names a module that is a command now.

    Example
    -------
    >>> from waveglow_vq.lobes.waveglow import WaveGlow
    >>> WaveGlow.__module__
    'waveglow_vq.lobes.flows.waveglow'
    """
    if not any(isinstance(finder, _OldNames) for finder in sys.meta_path):
        sys.meta_path.append(_OldNames())
    if "-m" in sys.orig_argv[:-1]:
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
        command = COMMANDS.get(module.removeprefix("waveglow_vq."))
        if command is not None:
            _end(f"python -m {module} is now: waveglow-vq {command}")


def _end(sentence):
    say(f"error: {sentence}")
    raise SystemExit(2)


class _OldNames(MetaPathFinder, Loader):
    def find_spec(self, fullname, path=None, target=None):
        name = fullname.removeprefix("waveglow_vq.")
        if name in RECIPES:
            _end(
                f"{sys.argv[0]} is a script of an earlier version: copy today's with 'waveglow-vq "
                "recipes NEW_FOLDER' and give them the same options; they resume earlier runs"
            )
        return ModuleSpec(fullname, self) if name in MODULES else None

    def exec_module(self, module):
        new = MODULES[module.__name__.removeprefix("waveglow_vq.")]
        # Whatever is asked for comes from the new module, which keeps its own name and spec.
        module.__getattr__ = partial(getattr, importlib.import_module(f"waveglow_vq.{new}"))
