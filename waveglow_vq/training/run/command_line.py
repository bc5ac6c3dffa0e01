"""The command line of a recipe as overrides of its YAML.

SpeechBrain joins the options to a YAML text, in which a folder's name may become a number, a date
or a list, or end at a ``#``. Here paths and names stay the text that was typed, and only what is no
text in the YAML is read as YAML. Nothing here imports torch.
"""

import copy
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from waveglow_vq.errors import UserError

import ruamel.yaml
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

# Keys that name a file or a folder, and keys that are, or may be, lists of texts.
_PATHS = re.compile(r".*_(folder|file|log)|codec|init_from")
# How SpeechBrain begins the YAML that a run saves, and which of its options may be given.
_SAVED = "# Generated "
_OUTSIDE = ("data_folder", "data_folders", "shards_folder", "codec", "num_workers")
_TEXT_LISTS = ("data_folders", "additional_folders", "use_speakers", "unseen_speakers")
_TEXT_LISTS += ("held_out_speakers", "held_out_clips")
# Mappings of a recipe's YAML whose keys are options as those beside them are: what recipes share.
SECTIONS = ("training", "segments", "samples", "log_mels")
INCLUDE = "!include:"
# The value of a key whose number the run chooses.
AUTO = "auto"


def is_path(name):
    """Whether a key of a recipe's YAML names a file or a folder.

    Example
    -------
    >>> is_path("output_folder"), is_path("codec"), is_path("codec_checksum")
    (True, True, False)
    """
    return bool(_PATHS.fullmatch(name))


def split_arguments(arguments, flags, valued):
    """Separates the YAML file, SpeechBrain's run options as they were typed, and the YAML's keys:
    texts of all other options by name, and of run options with a value, which may be keys of the
    YAML too. ``flags`` and ``valued`` are names of the run options without and with a value.

    Example
    -------
    >>> split_arguments(["vq.yaml", "--debug", "--data_folder", "/x/run=1"], ["debug"], [])
    ('vq.yaml', ['--debug'], {'data_folder': '/x/run=1'})
    """
    hparams_file, run_arguments, given, option = None, [], {}, None
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--"):
            if argument.startswith("-"):
                raise UserError(f"{argument} is not an option; options begin with two dashes")
            if hparams_file is not None:
                where = f" behind {option}" if option else ""
                raise UserError(
                    f"{argument!r}{where} belongs to no option; quote a value with spaces"
                )
            hparams_file = os.path.expanduser(argument)
            continue
        option, equals, value = argument.partition("=")
        name = option[2:]
        if name in flags:
            if equals:
                raise UserError(f"{option} is a switch and takes no value; write {option} alone")
            run_arguments.append(option)
            continue
        if not equals:
            value = next(rest, None)
            if value is None or value.startswith("--"):
                raise UserError(f"{option} needs a value: {option} VALUE")
        if name in given:
            raise UserError(f"{option} is given twice; give it once")
        given[name] = value
        if name in valued:
            run_arguments.append(f"{option}={value}")
    if hparams_file is None:
        raise UserError(
            "name the YAML file first, such as hparams/mel.yaml; --help lists the options"
        )
    return hparams_file, run_arguments, given


def read_yaml(hparams_file):
    """Reads the YAML of a recipe with its tags and comments; builds nothing."""
    try:
        known = ruamel.yaml.YAML().load(Path(hparams_file).read_text("utf-8"))
    except OSError:
        raise UserError(f"{hparams_file}: no such hyperparameter file") from None
    except (ruamel.yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{hparams_file} cannot be read as YAML: {error}") from None
    if not isinstance(known, Mapping):
        raise UserError(f"{hparams_file} holds no hyperparameters")
    return known


def read_recipe(hparams_file):
    """Like :func:`read_yaml`, with what the sections include."""
    known = read_yaml(hparams_file)
    for name in SECTIONS:
        tag = tag_of(known.get(name))
        if tag.startswith(INCLUDE):
            included = read_yaml(Path(hparams_file).parent / tag.removeprefix(INCLUDE))
            known[name] = {**included, **known[name]}
    return known


def without_sections(mapping):
    """Hyperparameters with those of the sections among the others.

    Example
    -------
    >>> without_sections({"seed": 1, "training": {"learning_rate": 0.1}})
    {'learning_rate': 0.1, 'seed': 1}
    """
    inner, own = {}, {}
    for name, value in mapping.items():
        if name in SECTIONS and isinstance(value, Mapping):
            inner.update(value)
        else:
            own[name] = value
    return {**inner, **own}


def into_sections(overrides, known):
    """Overrides as the YAML has the keys.

    Example
    -------
    >>> into_sections({"seed": 1, "epochs": 7}, {"seed": 0, "training": {"epochs": 200}})
    {'seed': 1, 'training': {'epochs': 7}}
    """
    nested = {}
    for name, value in overrides.items():
        section = next((s for s in SECTIONS if name in (known.get(s) or ())), None)
        own = section is None or name in known
        (nested if own else nested.setdefault(section, {}))[name] = value
    return nested


def typed_overrides(hparams_file, given):
    """The overrides of a YAML, as YAML, from texts of the options by name. What is a path or a text
    in the file stays a text, ``~`` is expanded, also in paths of the file itself, and other values
    are what YAML reads.

    Example
    -------
    >>> file = getfixture("tmp_path") / "recipe.yaml"
    >>> _ = file.write_text("output_folder: results\\nseed: 1\\ncodec: null")
    >>> print(typed_overrides(file, {"output_folder": "0010", "seed": "0x2", "codec": "null"}))
    output_folder: "0010"
    seed: 0x2
    codec:
    """
    known = read_recipe(hparams_file)
    check_saved(hparams_file, given)
    defaults = without_sections(known)
    overrides = {name: _read_value(name, text, defaults.get(name)) for name, text in given.items()}
    overrides.update(_own_paths(hparams_file, known, overrides))
    yaml, stream = ruamel.yaml.YAML(), io.StringIO()
    if overrides:
        yaml.dump(into_sections(overrides, known), stream)
    return stream.getvalue().strip()


def check_saved(hparams_file, given):
    """Checks that the YAML that a run has saved is only used to repeat that run. Its values are
    resolved: an override would change one of several places, and a run with another folder would
    resume from the checkpoints of the first.
    """
    saved = Path(hparams_file).read_text("utf-8").startswith(_SAVED)
    changed = [name for name in given if name not in _OUTSIDE]
    if saved and changed:
        raise UserError(
            f"--{changed[0]}: {hparams_file} was saved by a run and repeats it; only "
            f"{', '.join(_OUTSIDE)} can be changed; for another run, give the recipe's YAML, which "
            "the second line of that file names"
        )


def _read_value(name, text, default):
    """The value of an option: of the kind that the YAML has there."""
    # A key that may be left open takes the YAML's own word for that.
    if text == "null" and default is None:
        return None
    if is_path(name):
        return _path(f"--{name}", text)
    if name in _TEXT_LISTS and not text.isdigit():
        return _texts(name, text)
    if isinstance(default, str) and default != AUTO:
        return _text(f"--{name}", text)
    try:
        value = ruamel.yaml.YAML().load(text)
        if text.strip() == "" and default is not None:
            raise UserError(f"--{name} is empty; omit it, or give a value")
    except ruamel.yaml.YAMLError as error:
        if default is not None:
            raise UserError(f"--{name} {text!r} cannot be read as YAML: {error}") from None
        return _text(f"--{name}", text)
    # Of what may be left open, nobody knows the kind: a number, a list, or else a text.
    brackets = text.lstrip().startswith(("[", "{"))
    if default is None and not brackets and not isinstance(value, (int, float)):
        return _text(f"--{name}", text)
    return value


def _text(option, text):
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{option} {os.fsencode(text)!r} is not UTF-8; give another name") from None
    return DoubleQuotedScalarString(text)


def _path(option, text):
    """A path as text, with ~ expanded. HyperPyYAML reads angle brackets as references, and breaks
    lines at spaces."""
    if not text.strip():
        raise UserError(f"{option} is empty; omit it, or name a file or folder")
    if re.search(r"<[^>]*>|  |[\x00-\x1f\x7f-\x9f]", text):
        raise UserError(
            f"{option} {text!r}: a path cannot contain angle brackets, control characters or two "
            "spaces in a row; give another name, or a link with another name"
        )
    return _text(option, os.path.expanduser(text))


def _texts(name, text):
    """A list of texts, [a, b], or a single text."""
    values = [text]
    if text.lstrip().startswith("["):
        try:
            values = ruamel.yaml.YAML(typ="base").load(text)
        except ruamel.yaml.YAMLError as error:
            raise UserError(f"--{name} {text!r} cannot be read as YAML: {error}") from None
    if not all(isinstance(value, str) for value in values):
        raise UserError(f"--{name} {text!r} must be a list of names, such as [one, two]")
    as_text = _path if name.endswith("_folders") else _text
    return [as_text(f"--{name}", value) for value in values]


def _own_paths(hparams_file, known, overrides):
    """The YAML's own paths with ``~``, and those that YAML reads as a number or a date."""
    # All scalars as the text that they are in the file.
    texts = ruamel.yaml.YAML(typ="base").load(Path(hparams_file).read_text("utf-8"))
    changed = {}
    for name, value in known.items():
        text = texts[name]
        if not is_path(name) or name in overrides or value is None or not isinstance(text, str):
            continue
        if tag_of(value):
            if text.startswith("~"):
                value = copy.deepcopy(value)
                value.value = os.path.expanduser(text)
                changed[name] = value
        elif text.startswith("~") or not isinstance(value, str):
            changed[name] = _path(name, text)
    return changed


def open_keys(known, overrides):
    """The values of the keys that a YAML leaves open (``!PLACEHOLDER``)."""
    names = [name for name in known if tag_of(known[name]) == "!PLACEHOLDER"]
    for name in names:
        if name not in overrides:
            raise UserError(f"--{name} must be given: the YAML leaves it open (!PLACEHOLDER)")
    return {name: overrides[name] for name in names}


def tag_of(value):
    """The tag of a value from :func:`read_yaml`, such as ``!ref``; "" without one."""
    tag = getattr(value, "tag", None)
    return str(getattr(tag, "value", None) or "")
