"""Copy the training recipes and their presets into a folder."""

import os
import shlex
import shutil
from pathlib import Path

import waveglow_vq
from waveglow_vq.errors import UserError
from waveglow_vq.utils.files import user_path

EXAMPLES = """\
  waveglow-vq recipes .
  cd recipes/LJSpeech && python train.py hparams/mel.yaml --data_folder /data/LJSpeech-1.1
"""
# The folders, and what belongs to them; setup.py packs the same. Runs may leave more there.
FILES = {"recipes": ("*/*.py", "*/*.md", "*/hparams/*.yaml"), "hparams": ("*.yaml",)}


def add_arguments(parser):
    """Adds the arguments of the command."""
    parser.add_argument("folder", metavar="DIR", help="folder to copy recipes/ and hparams/ into")


def run(options):
    """Copies; says what was copied and what to type next. Returns the exit status."""
    folder = user_path(options.folder)
    copied = copy_recipes(folder)
    print(f"{folder}: {copied} files in {' and '.join(f'{name}/' for name in FILES)}")
    corpora = sorted(path.parent.name for path in folder.glob("recipes/*/train.py"))
    print(f"To train on {' or '.join(corpora)} (with --help it lists the options):")
    print(f"  cd {shlex.quote(str(folder / 'recipes' / corpora[0]))}")
    print("  python train.py hparams/mel.yaml --data_folder CORPUS")
    print("For a demo on generated speech that takes minutes: python demo.py")
    return 0


def copy_recipes(folder):
    """Copies the recipes and the presets that they include, as ``recipes`` and ``hparams`` of the
    folder; returns the number of files. If one of the two exists or cannot be written, neither is
    left.

    Example
    -------
    >>> import tempfile
    >>> copy_recipes(tempfile.mkdtemp()) > 20
    True
    """
    folder, source = user_path(folder), recipes_folder()
    for name in FILES:
        if os.path.lexists(folder / name):
            raise UserError(f"DIR: {folder / name} already exists; choose another folder")
    files = [file for name in FILES for file in files_of(source, name)]
    try:
        for file in files:
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except BaseException as error:
        for name in FILES:
            shutil.rmtree(folder / name, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"DIR: {folder} cannot be written: {error.strerror}") from error
        raise
    return len(files)


def recipes_folder():
    """The folder that holds ``recipes`` and ``hparams``: in a wheel the package, in a checkout the
    one around it."""
    package = Path(waveglow_vq.__file__).resolve().parent
    for folder in (package, package.parent):
        if (folder / "recipes").is_dir() and (folder / "hparams" / "mel.yaml").is_file():
            return folder
    raise UserError(f"{package} was installed without its recipes; install waveglow-vq again")


def files_of(source, name):
    """The files below :func:`recipes_folder` that belong to one of FILES, sorted."""
    return sorted(file for pattern in FILES[name] for file in (source / name).glob(pattern))
