"""What is in the distributions that are built from this folder."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from waveglow_vq.commands.corpora import recipes

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_DISTRIBUTED = {"__pycache__", "results", ".ipynb_checkpoints"}
DOCS_RESULTS = ["docs", "results"]  # measurements, not what a run leaves


def is_leftover(name):
    """Whether such a file is left by tests, runs or notebooks."""
    return not NOT_DISTRIBUTED.isdisjoint(name.split("/")) and name.split("/")[:2] != DOCS_RESULTS


def build(folder, output, kind):
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(output)]
    command += [kind, "-d", str(output)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def files_below(folder):
    """Relative to the project, without what tests and runs leave."""
    files = [file.relative_to(ROOT) for file in (ROOT / folder).rglob("*") if file.is_file()]
    return {file.as_posix() for file in files if not is_leftover(file.as_posix())}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Names in the source distribution, and in the wheel that is built from it."""
    pytest.importorskip("setuptools", minversion="70.1")  # which builds wheels by itself
    output = tmp_path_factory.mktemp("dist")
    build(ROOT, output, "sdist")
    with tarfile.open(next(output.glob("*.tar.gz"))) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(output / "unpacked", filter="data")
    build(next((output / "unpacked").iterdir()), output, "bdist_wheel")
    with zipfile.ZipFile(next(output.glob("*.whl"))) as archive:
        return source, set(archive.namelist())


def test_the_source_has_all_that_tests_and_demo_need(distributions):
    source, _ = distributions
    expected = {
        "constraints.txt",
        "Makefile",
        "LICENSE",
        "README.md",
        "mkdocs.yml",
        "pyproject.toml",
    }
    for folder in ("waveglow_vq", "tests", "recipes", "hparams", "benchmarks", "docs", "notebooks"):
        expected |= files_below(folder)
    sounds = {name for name in expected if name.startswith("docs/sounds/")}
    assert source.isdisjoint(sounds)
    assert expected - source == sounds
    assert not any(map(is_leftover, source))


def test_the_wheel_has_what_training_needs_and_no_more(distributions):
    _, wheel = distributions
    data = {name for name in files_below("waveglow_vq") if not name.endswith(".pyc")}
    for folder in recipes.FILES:
        data |= {f"waveglow_vq/{name}" for name in files_below(folder)}
    assert {name for name in wheel if ".dist-info/" not in name} == data
