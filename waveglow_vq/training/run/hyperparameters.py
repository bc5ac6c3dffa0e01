"""The hyperparameters of a recipe: reads SpeechBrain's command line, whose pitfalls become errors,
and builds the YAML.
"""

import contextlib
import io
import math
import os
from pathlib import Path

from waveglow_vq.errors import UserError
from waveglow_vq.training.run.command_line import (
    AUTO,
    into_sections,
    open_keys,
    read_recipe,
    split_arguments,
    typed_overrides,
    without_sections,
)
from waveglow_vq.training.run.guards import check_numbers, write_errors
from waveglow_vq.training.run.recipe_help import check_known, show_help

import ruamel.yaml
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml, resolve_references
from speechbrain.utils.distributed import infer_device
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

# Segments per step and process of ``batch_size: auto``; the learning rates of the YAML files are
# for the first.
BATCH_ON_CPU, BATCH_ON_GPU = 8, 64


def parse_arguments(arguments):
    """SpeechBrain's ``parse_arguments``, which refuses what that would misread. Returns the path of
    the YAML, the RunOptions and the overrides.

    Example
    -------
    >>> parse_arguments(["vq.yaml", "--data_folder"])
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: --data_folder needs a value: --data_folder VALUE
    """
    show_help(arguments)
    defaults = RunOptions().as_dict()
    options = [*HELP_TEXTS.keys() & defaults.keys(), "jit_module_keys", "compile_module_keys"]
    flags = [name for name in options if defaults[name] is False]
    valued = [name for name in options if defaults[name] is not False]
    hparams_file, run_arguments, given = split_arguments(arguments, flags, valued)
    known = without_sections(read_recipe(hparams_file))
    for name in given:
        full = [f"--{option}" for option in options if option.startswith(name)]
        if full and name not in known and name not in valued:
            raise UserError(f"--{name}: write the option in full ({' or '.join(full)})")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, run_opts, _ = sb.parse_arguments([hparams_file, *run_arguments])
    except SystemExit:
        # The mistake follows the usage of all options.
        raise UserError(said.getvalue().rsplit("error: ", 1)[-1].strip()) from None
    given = {name: text for name, text in given.items() if name in known or name not in valued}
    return hparams_file, run_opts, typed_overrides(hparams_file, given)


class _Hyperparameters(dict):
    def __missing__(self, name):
        raise UserError(f"the YAML file has no {name!r}; give one that belongs to this script")


def load_hparams(hparams_file, overrides):
    """Builds the objects of a recipe's YAML. The keys of its sections stand beside the others."""
    yaml = ruamel.yaml.YAML()
    try:
        replaced = yaml.load(overrides) or {}
    except ruamel.yaml.YAMLError as error:
        raise UserError(f"the options cannot be read as YAML: {error}") from None
    written = read_recipe(hparams_file)
    replaced = into_sections(replaced, written)
    left_open = open_keys(written, replaced)
    with open(hparams_file, encoding="utf-8") as stream:
        try:
            # As round-trip YAML, which keeps tags as they are and builds nothing.
            known = yaml.load(resolve_references(stream, left_open).read())
        except (ValueError, OSError, ruamel.yaml.YAMLError) as error:
            raise UserError(f"{hparams_file} cannot be read: {error}") from None
    if "pretrainer" in known and "output_folder" not in known:
        raise UserError(
            f"{hparams_file} belongs to an export, which from_hparams loads; to repeat a run, give "
            "the hyperparams.yaml of its own folder"
        )
    check_known(replaced, known, hparams_file)
    # Before anything is built with them.
    check_numbers(without_sections(replaced))
    with open(hparams_file, encoding="utf-8") as stream, write_errors():
        try:
            return _Hyperparameters(without_sections(load_hyperpyyaml(stream, replaced)))
        except UserError:
            raise
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{hparams_file} cannot be built: {error}; check the options"
            ) from error


def choose_batch(hparams_file, overrides, run_opts):
    """Overrides with numbers in the place of ``batch_size: auto`` and of the learning rate that
    belongs to it; hparams/segments.yaml says which. They are what the run saves, so that it can be
    repeated and resumed elsewhere."""
    yaml, written = ruamel.yaml.YAML(), read_recipe(hparams_file)
    try:
        replaced = yaml.load(overrides) or {}
        if {**without_sections(written), **without_sections(replaced)}["batch_size"] != AUTO:
            return overrides
        with open(hparams_file, encoding="utf-8") as stream:
            text = resolve_references(stream, into_sections(replaced, written)).read()
        options = without_sections(yaml.load(text))
        rate, saved = options["learning_rate"], Path(options["output_folder"], "hyperparams.yaml")
    except (KeyError, OSError, ValueError, ruamel.yaml.YAMLError):
        return overrides  # whoever builds it says what is wrong
    device = run_opts["device"] or infer_device()
    size = BATCH_ON_GPU if str(device).startswith("cuda") else BATCH_ON_CPU
    if saved.is_file():
        size = without_sections(read_recipe(saved)).get("batch_size", size)
    name = "grad_accumulation_factor"
    given = name in run_opts.overridden_args
    steps = run_opts[name] if given else options.get(name, run_opts[name])
    check_numbers({"batch_size": size, "learning_rate": rate, name: steps})
    segments = size * steps * int(os.environ.get("WORLD_SIZE", 1))
    chosen = {"batch_size": size}
    if segments != BATCH_ON_CPU:
        chosen["learning_rate"] = float(f"{rate * math.sqrt(segments / BATCH_ON_CPU):.6g}")
    for section, values in into_sections(chosen, written).items():
        inside = isinstance(values, dict)
        replaced[section] = {**(replaced.get(section) or {}), **values} if inside else values
    return merge_overrides("", replaced)


def merge_overrides(overrides, replaced, preset=None):
    """Overrides with others in their place. ``preset`` holds values within the preset.

    Example
    -------
    >>> print(merge_overrides("{seed: 1, size: tiny}", {"seed": 2}, {"channels": 8}))
    seed: 2
    size: tiny
    preset:
      channels: 8
    """
    yaml, stream = ruamel.yaml.YAML(), io.StringIO()
    merged = {**(yaml.load(overrides) or {}), **replaced}
    if preset:
        merged["preset"] = {**(merged.get("preset") or {}), **preset}
    yaml.dump(merged, stream)
    return stream.getvalue().strip()
