import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs pip install waveglow-vq[test]")

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "soft_em_toy.ipynb"


def outputs(notebook):
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


def found(notebook):
    """From the printed table: how often each method found all eight Gaussians."""
    text = "".join(o.text for o in outputs(notebook) if o.output_type == "stream")
    starts = int(re.search(r"from (\d+) random starts", text)[1])
    rows = re.findall(r"^  (\S.*\S) +(\d+)$", text, flags=re.MULTILINE)
    return starts, {name.strip(): int(count) for name, count in rows}


def check(notebook):
    kinds = [o.output_type for o in outputs(notebook)]
    assert "error" not in kinds
    assert sum("image/png" in o.get("data", {}) for o in outputs(notebook)) == 4
    assert not any(o.get("name") == "stderr" for o in outputs(notebook))
    starts, counts = found(notebook)
    assert counts["SoftEMQuantizer"] == starts
    assert counts["hard EM"] < starts


def test_committed_outputs():
    check(nbformat.read(NOTEBOOK, as_version=4))
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < 600_000
    assert not re.search(r"/(home|root|tmp|work|Users)/", re.sub(r'"image/png": "[^"]*"', "", text))


def test_notebook_executes():
    nbclient = pytest.importorskip("nbclient", reason="needs pip install waveglow-vq[test]")
    pytest.importorskip("ipykernel", reason="needs pip install waveglow-vq[test]")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    # The package is found from the repository's root also where it is not installed.
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOK.parents[1])}},
    )
    client.execute()
    check(notebook)
