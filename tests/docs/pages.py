"""What the pages of the documentation hold: code, links and headings."""

import re
import shutil
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("recipes/*/README.md")),
    ROOT / "benchmarks/README.md",
]
# No part of source distributions.
SOUNDS = ROOT / "docs/sounds"
_FENCES = re.compile(r"^( *)```(\w*)([^\n`]*)\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)
_LINKS = re.compile(r'\]\(([^)\s]+)|^\[[^\]]+\]: *(\S+)|\b(?:src|href)="([^"]+)"', re.MULTILINE)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


class Block(NamedTuple):
    """Fenced code: its language, its title (the file that it is) or "", where it begins."""

    language: str
    title: str
    line: int
    code: str


def blocks(page):
    text = page.read_text("utf-8")
    for match in _FENCES.finditer(text):
        title = re.search(r'title="([^"]+)"', match[3])
        line = text.count("\n", 0, match.start()) + 1
        yield Block(match[2], title[1] if title else "", line, dedent(match[4]))


def prose(page):
    """The page without its code."""
    return re.sub(r"`[^`\n]+`", "``", _FENCES.sub("\n", page.read_text("utf-8")))


def links(page):
    return [next(filter(None, groups)) for groups in _LINKS.findall(prose(page))]


def anchors(page):
    """Of its headings, as GitHub makes them."""
    text = _FENCES.sub("\n", page.read_text("utf-8"))
    headings = re.findall(r"^#+ +(.*?) *#*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def write_files(page, folder):
    """Writes the blocks of a page that are files, beside copies of what they may refer to."""
    for name in ("recipes", "hparams", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("results", "__*"))
    for block in blocks(page):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.code, "utf-8")
