"""Exports that this version cannot build."""

import contextlib
import re
from pathlib import Path

import waveglow_vq
from waveglow_vq.errors import UserError

# What Python says of a call with arguments that do not fit: "WaveGlow.__init__() got an unexpected
# keyword argument 'warp'", "build_speakers() missing 1 required positional argument: 'features'".
_WRONG_CALL = re.compile(
    r"(?P<name>\w+)(\.__(init|new)__)?\(\) "
    r"(got an unexpected keyword argument '(?P<unknown>\w+)'|missing \d+ .*?: (?P<missing>'.*))"
)
# Top-level keys without which nothing can be loaded.
_NEEDED = ("modules", "pretrainer")


@contextlib.contextmanager
def build_errors(path):
    """Makes a UserError of what is raised where the YAML of an export does not fit this version.

    It has an argument that its class does not have, lacks one that its class needs, or names a
    class that is not there; and what classes say themselves of their arguments.

    Example
    -------
    >>> from hyperpyyaml import load_hyperpyyaml
    >>> with build_errors("export/hyperparams.yaml"):
    ...     load_hyperpyyaml("model: !new:torch.nn.Flatten {end: 3}")
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: export/hyperparams.yaml: Flatten has no 'end' in this version; ...
    """
    try:
        yield
    except UserError as error:
        if str(Path(path).parent) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error
    except TypeError as error:
        # HyperPyYAML's own word comes first; what else is wrong is not the YAML's fault.
        text = " ".join(map(str, error.args))
        found = _WRONG_CALL.search(text)
        if found is None or not text.startswith("Invalid argument to"):
            raise
        name, unknown, missing = found.group("name", "unknown", "missing")
        what = f"needs {missing}" if unknown is None else f"has no '{unknown}' in this version"
        raise UserError(f"{path}: {name} {what}; {_remedy()}") from error
    except ImportError as error:
        reason = " ".join(map(str, error.args))
        raise UserError(f"{path}: {reason}; {_remedy()}") from error
    except KeyError as error:
        if error.args[0] not in _NEEDED:
            raise
        raise UserError(f"{path} has no '{error.args[0]}'; {_remedy()}") from error


def _remedy():
    return (
        f"this is waveglow-vq {waveglow_vq.__version__}: load the export with the version that its "
        "first line names, or export the model again"
    )
