"""The site of `make docs`."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, SOUNDS


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs pip install waveglow-vq[docs]")
    if not SOUNDS.exists():
        pytest.skip("a source distribution has no sounds, which the site links to")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api" / "waveglow_vq.training.html").read_text("utf-8")
    # A class whose docstring has a table of arguments and an example.
    described = page.partition('id="waveglow_vq.training.schedule.WarmupHoldHalve"')[2]
    assert "<th>Name</th>" in described.partition("Examples:")[0]
    assert "googleapis" not in page  # nothing is fetched when it is read
