"""The layout of the package: who may import whom, and how large files and folders may be."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "waveglow_vq"
# From the bottom up: each imports only from itself and from what stands before it.
ORDER = [
    ["errors", "signals", "moved", "torchaudio_compat", "pretrained"],
    ["utils"],
    ["audio"],
    ["text"],
    ["demo"],
    ["lobes"],
    ["data"],
    ["inference"],
    ["export"],
    ["checkpoints"],
    ["evaluation"],
    ["training"],
    ["commands"],
    ["__main__"],
]
LEVELS = {name: level for level, names in enumerate(ORDER) for name in names}
# Names that several rooms have, for the same kind of thing.
SHARED_NAMES = {"__init__", "base", "model", "report"}
FILES = 14
LINES = 400


def modules():
    """Dotted name below the package -> file."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }


def imports(path, known):
    """The modules of the package that a file imports, inside of functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.removeprefix("waveglow_vq.") in known
                found.add(full if is_module else node.module)
    names = (name.removeprefix("waveglow_vq.") for name in found if name.startswith("waveglow_vq."))
    return {name for name in names if name in known}


@pytest.fixture(scope="module")
def graph():
    known = modules()
    return {name: imports(path, known) for name, path in known.items()}


def test_every_package_has_its_place():
    assert {name.partition(".")[0] for name in modules()} == set(LEVELS)


def test_nothing_is_imported_from_above(graph):
    level = {name: LEVELS[name.partition(".")[0]] for name in graph}
    upward = [(a, b) for a, targets in graph.items() for b in targets if level[b] > level[a]]
    assert upward == []


def test_no_module_imports_itself_by_way_of_others(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("top", ["waveglow_vq", "tests", "recipes", "benchmarks"])
def test_files_and_folders_are_small(top):
    files = [path for path in (ROOT / top).rglob("*.py") if ".venv" not in path.parts]
    long = {str(f): n for f in files if (n := len(f.read_text("utf-8").splitlines())) > LINES}
    assert long == {}
    folders = Counter(path.parent for path in files if path.name != "__init__.py")
    assert {str(folder): n for folder, n in folders.items() if n > FILES} == {}


def test_a_name_has_one_meaning():
    files = Counter(path.stem for path in modules().values())
    assert {name for name, n in files.items() if n > 1} <= SHARED_NAMES
    classes = Counter(
        node.name
        for path in modules().values()
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, n in classes.items() if n > 1] == []
