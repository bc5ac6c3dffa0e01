"""Command lines that are too long or too large for a test (```console) are read: programs, options,
YAML files, targets of make and extras of the package exist."""

import argparse
import re
import runpy
import shlex
import sys
from pathlib import Path

from waveglow_vq.__main__ import main
from waveglow_vq.training.run import hyperparameters

import pytest
from torch.distributed.run import get_args_parser

from tests.docs.pages import PAGES, ROOT, blocks, name_of, write_files

RECIPES = sorted(path.parent for path in ROOT.glob("recipes/*/train.py"))
WITH_COMMANDS = [page for page in PAGES if any(b.language == "console" for b in blocks(page))]


class Understood(BaseException):
    """Raised in place of what a program does once it has read its command line."""


def stop(*_, **__):
    raise Understood


def commands(code):
    """The words of each command, without what is said by programs in between."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            continue  # an apostrophe in what a program says
        while words:
            end = next((i for i, word in enumerate(words) if set(word) <= set("&|;<>")), None)
            command, words = words[:end], words[end + 1 :] if end is not None else []
            while command and re.match(r"\w+=", command[0]):
                command = command[1:]  # a variable of the environment
            if command:
                yield command


@pytest.fixture
def understand(monkeypatch):
    """Starts a Python program, up to where it has read its command line."""

    parser = argparse.ArgumentParser
    parse_args, parse_known_args = parser.parse_args, parser.parse_known_args

    def start(run, what, words, folder):
        def parse_and_stop(self, *arguments, **options):
            patch.setattr(parser, "parse_known_args", parse_known_args)  # parse_args calls it
            stop(parse_args(self, *arguments, **options))

        def parse_known_and_stop(self, *arguments, **options):
            stop(parse_known_args(self, *arguments, **options))

        with monkeypatch.context() as patch:
            patch.chdir(folder)
            patch.syspath_prepend(folder)
            patch.setattr(sys, "argv", [str(what), *words])
            if Path(what).name.startswith("train"):
                patch.setattr(hyperparameters, "load_hyperpyyaml", stop)
            else:
                patch.setattr(parser, "parse_args", parse_and_stop)
                patch.setattr(parser, "parse_known_args", parse_known_and_stop)
            with pytest.raises((Understood, SystemExit)) as ended:
                run(str(what), run_name="__main__")
            # --help ends a program with status 0.
            assert isinstance(ended.value, Understood) or not ended.value.code, words

    return start


def check(words, folders, understand):
    """Looks whether a command could run in one of the folders."""
    program, *rest = words
    program = Path(program).name
    if program == "make":
        targets = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
        assert {word for word in rest if "=" not in word} <= set(" ".join(targets).split())
    elif program == "pip":
        extras = re.findall(r'^        "(\w+)":', (ROOT / "setup.py").read_text("utf-8"), re.M)
        named = [names.split(",") for names in re.findall(r"\[(.*?)\]", " ".join(rest))]
        assert {name for names in named for name in names} <= set(extras)
    elif program == "waveglow-vq":
        understand(lambda *_, **__: main(), program, rest, ROOT)
    elif program == "torchrun":
        options = get_args_parser().parse_args(rest)
        check(["python", options.training_script, *options.training_script_args], folders,
              understand)  # fmt: skip
    elif program.startswith("python") and rest[0] == "-m":
        understand(runpy.run_module, rest[1], rest[2:], ROOT)
    elif program.startswith("python"):
        folder = next(folder for folder in folders if (folder / rest[0]).is_file())
        if rest[1:] not in ([], ["..."]):
            understand(runpy.run_path, rest[0], rest[1:], folder)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_command_lines_are_understood(page, understand, tmp_path):
    write_files(page, tmp_path)
    for block in blocks(page):
        folders = [tmp_path, page.parent, ROOT, *RECIPES]
        for program, *rest in commands(block.code) if block.language == "console" else ():
            if program == "cd":
                folders = [next(f / rest[0] for f in folders if (f / rest[0]).is_dir())]
            else:
                check([program, *rest], folders, understand)
