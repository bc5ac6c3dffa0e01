"""Which file becomes which."""

import os
from pathlib import Path
from typing import NamedTuple

from waveglow_vq.audio.formats import how_to_convert
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import count_kinds, walk_files


class FilePlan(NamedTuple):
    """What a command does."""

    pairs: list  # of input file and output file, Paths
    folder: Path  # where the outputs go; None if the input is a single file
    left_out: str = ""  # what else a folder holds, in words


def plan_files(source, output, suffixes, new_suffix, force=False):
    """Pairs input and output files, and checks them, before anything is computed.

    For a file, ``output`` is the file to write, or a folder that exists, where it gets the input's
    name. For a folder, it is the folder to write to, which gets the same tree. Files of a folder
    are taken by ``suffixes``, at any depth, links included; the others are counted. A file that is
    named may be of any kind. Outputs may exist only with ``force``.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "in" / "more").mkdir(parents=True)
    >>> (folder / "in" / "more" / "a.flac").touch()
    >>> plan = plan_files(folder / "in", folder / "out", (".wav", ".flac"), ".wav")
    >>> [(str(a.relative_to(folder)), str(b.relative_to(folder))) for a, b in plan.pairs]
    [('in/more/a.flac', 'out/more/a.wav')]
    """
    source, output = Path(source), Path(output)
    if not os.path.exists(source):  # where Path.exists fails for names that are too long
        raise UserError(f"INPUT: {source} does not exist")
    if source.is_dir():
        plan = _plan_folder(source, output, suffixes, new_suffix)
    else:
        if output.is_dir():
            output = output / source.with_suffix(new_suffix).name
        if output.suffix.lower() != new_suffix:
            raise UserError(f"OUTPUT: expected a {new_suffix} file name, got {output}")
        if source.suffix.lower() not in suffixes and (hint := _hint([source], suffixes)):
            raise UserError(f"INPUT: {source} is of an unsupported file type{hint}")
        if os.path.exists(output) and output.samefile(source):
            raise UserError(f"OUTPUT: {output} is the same file as INPUT; choose another name")
        plan = FilePlan([(source, output)], None)
    check_outputs([output for _, output in plan.pairs], force)
    return plan


def check_outputs(paths, force, option="OUTPUT"):
    """Refuses to overwrite what exists, without ``--force``.

    Example
    -------
    >>> check_outputs(["/"], force=False)
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: OUTPUT: / exists; choose another name, or replace it with --force
    """
    taken = [str(path) for path in paths if os.path.exists(path) and not _is_empty_folder(path)]
    if taken and not force:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        be, them = ("exist", "them") if more else ("exists", "it")
        raise UserError(
            f"{option}: {taken[0]}{more} {be}; choose another name, or replace {them} with --force"
        )


def _is_empty_folder(path):
    return Path(path).is_dir() and not any(Path(path).iterdir())


def _plan_folder(source, output, suffixes, new_suffix):
    files = walk_files(source)
    taken = [file for file in files if file.suffix.lower() in suffixes]
    left_out = [file for file in files if file.suffix.lower() not in suffixes]
    hint = _hint(left_out, suffixes)
    if not taken:
        kind = "audio files" if ".wav" in suffixes else f"{suffixes[0]} files"
        there = f", only {count_kinds(left_out)}{hint}" if left_out else ""
        raise UserError(f"INPUT: {source} holds no {kind}{there}")
    if output.exists() and not output.is_dir():
        raise UserError(f"OUTPUT: {output} is a file, but {source} is a folder; name a folder")
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"OUTPUT: {output} is inside INPUT, {source}; choose another folder")
    pairs, names = [], {}
    for file in taken:
        name = file.relative_to(source).with_suffix(new_suffix)
        if name in names:
            raise UserError(
                f"{names[name]} and {file} would both be written to {output / name}; rename one"
            )
        names[name] = file
        pairs.append((file, output / name))
    return FilePlan(pairs, output, count_kinds(left_out) + hint)


def _hint(paths, suffixes):
    """How to convert files of other kinds."""
    return how_to_convert(paths) if ".wav" in suffixes else ""
