"""The options of a recipe, from its YAML and what that includes: ``--help``, and errors for unknown
options. Nothing here imports torch, which takes longer than reading the help.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.errors import UserError, cli_errors
from waveglow_vq.training.run.command_line import INCLUDE, SECTIONS, read_yaml, tag_of

# Run options of SpeechBrain that people use; its documentation has the others.
RUN_OPTIONS = {
    "device": "cpu, cuda or cuda:1 (default: a GPU if there is one)",
    "precision": "fp32, bf16 or fp16 (fp16 on a GPU only)",
    "eval_precision": "the same for validation and test",
    "grad_accumulation_factor": "batches per optimizer step",
    "optimizer_step_limit": "stop after so many optimizer steps",
    "test_only": "do not train, test the best checkpoint",
    "debug": "a few batches of two epochs, to see that everything works",
    "noprogressbar": "no progress bars",
    "compile": "compile the model with torch.compile",
    "distributed_backend": "nccl or gloo (torchrun on CPUs)",
}
_CHOICE = "!apply:waveglow_vq.utils.options.choose"
_LINE = re.compile(r"\s*[^:]+:\s*(?:!ref )?(.*?)(?:\s*(?<!\S)#\s*(.*))?")
_HEADING = re.compile(r"#\s*-{3,}\s*(.*)")
_COLUMN = 34


class Option(NamedTuple):
    """A key that can be set on the command line; texts are from the YAML."""

    keys: tuple  # its name; within a preset, the names that lead to it
    default: str
    comment: str  # behind it
    above: list  # headings and remarks


def read_options(hparams_file):
    """The options of a recipe, without what builds objects and what only passes a value on.

    Example
    -------
    >>> file = getfixture("tmp_path") / "recipe.yaml"
    >>> _ = file.write_text("batch_size: 8 # segments\\nmodel: !ref <preset>\\n")
    >>> read_options(file)
    [Option(keys=('batch_size',), default='8', comment='segments', above=[])]
    """
    return list(_options_of_file(Path(hparams_file), (), ()))


def _options_of_file(file, keys, given):
    known = read_yaml(file)
    lines = file.read_text("utf-8").splitlines()
    yield from _options(known, lines, file.parent, keys, given)


def _options(mapping, lines, folder, keys=(), given=None):
    """Those of a mapping, for which a file that includes it has ``given`` defaults: name: text and
    comment, or None for what it only hands on."""
    above, given = [], given or {}
    for name, value in mapping.items():
        if name not in (mapping.lc.data or {}):
            continue  # merged from elsewhere
        number = mapping.lc.key(name)[0]
        default, comment = _default(mapping, name, lines)
        above += _remarks(lines, number)
        tag = tag_of(value)
        path = keys if name in SECTIONS and not keys else (*keys, str(name))
        if tag.startswith(INCLUDE):
            here = {}
            for key in value if isinstance(value, Mapping) else ():
                handed_on = tag_of(value[key]) == "!ref"
                here[key] = None if handed_on else _default(value, key, lines)
            yield from _options_of_file(folder / tag.removeprefix(INCLUDE), path, here)
        elif isinstance(value, Mapping) and not tag:
            yield from _options(value, lines, folder, path)
        elif given.get(name, ()) is not None and _is_settable(str(name), value, tag, comment):
            if tag == _CHOICE:
                default, choices = f"by {value[0]}", value[2].items()
                comment = ", ".join(f"{choice} {number}" for choice, number in choices)
            if name in given:
                default, comment = given[name][0], given[name][1] or comment
            yield Option(path, default, comment, above)
            above = []
            continue
        # A heading is for more than the next key.
        above = [line for line in above if line.startswith("\n")]


def _default(mapping, name, lines):
    """What stands in the line of a key, and the comment behind it."""
    line = lines[mapping.lc.key(name)[0]]
    return (_LINE.fullmatch(line) or _LINE.fullmatch(":")).groups("")


def _is_settable(name, value, tag, comment):
    if name.startswith("__") or comment.startswith("filled in"):
        return False
    if tag == "!ref":
        # What only passes the value of another on is no option.
        return not re.fullmatch(r"<[^>]*>", value.value)
    if tag == _CHOICE:
        return not any(map(tag_of, value[2].values()))
    return tag in ("", "!PLACEHOLDER")


def _remarks(lines, number):
    """The comments directly above a line, and the heading above them."""
    remarks = []
    for line in reversed(lines[:number]):
        if not line.lstrip().startswith("#"):
            break
        heading = _HEADING.fullmatch(line.strip())
        remarks.insert(0, f"\n{heading[1]}" if heading else line.strip().lstrip("# "))
    return remarks


# ---- help


def show_help(arguments=None, what=""):
    """Answers ``--help`` and ends the program. A recipe calls it before it imports what takes long,
    and tqdm, which hides its bars with ``--noprogressbar``.

    Arguments
    ---------
    arguments : list of str
        The command line, without the program's name; None: that of this program.
    what : str
        What the program does.

    Raises
    ------
    SystemExit
        With status 0, or 2 if the YAML cannot be read.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        if "--noprogressbar" in arguments:
            os.environ["TQDM_DISABLE"] = "1"
    if not {"-h", "--help"} & set(arguments):
        return
    files = [a for a in arguments if a.endswith((".yaml", ".yml")) and not a.startswith("-")]
    with cli_errors():
        print(help_text(files[0] if files else None, what))
    raise SystemExit(0)


def help_text(hparams_file, what=""):
    """The help of a recipe, from its YAML; without one, a list of those there are. ``what`` says
    what the program does.
    """
    program = Path(sys.argv[0])
    lines = [f"usage: python {program} {hparams_file or 'HPARAMS.yaml'} [--OPTION VALUE ...]", ""]
    lines += [what.split("\nAuthors\n")[0].strip(), ""] if what else []
    if hparams_file is None:
        files = sorted((program.parent / "hparams").glob("*.yaml"))
        lines += [f"With {file} --help: its options." for file in files]
        lines += [] if files else ["With a YAML file and --help: its options."]
        return "\n".join(lines)
    options = read_options(hparams_file)
    lines.append(f"The options of {hparams_file}, with their defaults:")
    for option in options:
        if len(option.keys) == 1:
            lines += _describe(f"--{option.keys[0]} {option.default}", option)
    for preset in dict.fromkeys(option.keys[0] for option in options if len(option.keys) > 1):
        inner = [option for option in options if option.keys[0] == preset and option.keys[1:]]
        # One of the outermost level and one below, if there is one.
        ends = {len(option.keys): option for option in reversed(inner)}
        parts = [_form(option.keys[1:], option.default)[1:-1] for _, option in sorted(ends.items())]
        example = ", ".join(parts[:2])
        lines += ["", "The model in detail, in one option, for example"]
        lines += [f'  --{preset} "{{{example}}}"', ""]
        for option in inner:
            lines += _describe(_form(option.keys[1:], option.default), option)
    lines += ["", "SpeechBrain's run options (more in its documentation of RunOptions)"]
    lines += [f"  {f'--{name}':{_COLUMN}}{text}" for name, text in RUN_OPTIONS.items()]
    return "\n".join(lines)


def _describe(text, option):
    above = [line if line.startswith("\n") else f"  ({line})" for line in option.above]
    text = f"  {text}".rstrip()
    if option.comment and len(text) >= _COLUMN + 2:
        return [*above, text, " " * (_COLUMN + 2) + option.comment]
    return [*above, f"{text:{_COLUMN + 2}}{option.comment}".rstrip()]


def _form(keys, text):
    for key in reversed(keys):
        text = f"{{{key}: {text}}}"
    return text


def preset_form(keys, text):
    """How to give an option within a preset.

    Example
    -------
    >>> print(preset_form(("preset", "flow", "kernel_size"), "5"))
    --preset "{flow: {kernel_size: 5}}"
    """
    return f'--{keys[0]} "{_form(keys[1:], text)}"'


# ---- unknown options


def check_known(replaced, known, hparams_file):
    """Refuses options that a YAML does not have, with a suggestion. HyperPyYAML does so at the
    outermost level only; within a mapping it adds them, and nothing reads them.
    """
    for keys, value in _unknown(replaced, known):
        raise UserError(_hint(keys, value, read_options(hparams_file), hparams_file))


def _unknown(replaced, known, keys=()):
    for name, value in replaced.items():
        if name not in known:
            yield (*keys, str(name)), value
        elif isinstance(value, Mapping) and isinstance(known[name], Mapping):
            yield from _unknown(value, known[name], (*keys, name))
        elif isinstance(known[name], Mapping) and not tag_of(known[name]):
            form = preset_form((*keys, name, "NAME"), "VALUE")
            raise UserError(f"{name}: {value!r} is no mapping of options; give {form}")


def _hint(keys, value, options, hparams_file):
    *outer, name = keys
    text = "VALUE" if value is None or isinstance(value, Mapping) else str(value)
    where = f"{': '.join(outer)} in {hparams_file}" if outer else hparams_file
    paths = [option.keys for option in options]
    names = {path[-1] for path in paths} | (set() if outer else set(RUN_OPTIONS))
    near = [name] if name in names else difflib.get_close_matches(name, sorted(names), n=1)
    # Options beside the place where it was looked for come first.
    found = sorted((p for p in paths if near and p[-1] == near[0]), key=lambda p: len(p))
    found.sort(key=lambda p: p[:-1] != tuple(outer))
    forms = [preset_form(p, text) if len(p) > 1 else f"--{p[0]}" for p in found]
    forms = forms or [f"--{option}" for option in near]
    if not forms:
        return f"{name} is not an option of {where}; --help lists them"
    if near[0] == name:
        return f"{name} is not an option of {where}, but within it: {' or '.join(forms[:2])}"
    form = forms[0] if forms[0] == f"--{near[0]}" else f"{near[0]}: {forms[0]}"
    return f"{name} is not an option of {where}; did you mean {form}?"
