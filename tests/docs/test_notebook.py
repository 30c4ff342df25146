"""The walkthrough notebook runs from top to bottom, and what it shows is drawn by emsweep's own faces."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "walkthrough.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    scripts = str(Path(sys.executable).parent)
    changed = {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        client = nbclient.NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        return client.execute()
    finally:
        os.environ.clear()
        os.environ.update(before)


def shown(notebook) -> list[str]:
    """What the cells show as HTML, in order."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def printed(notebook) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def test_every_cell_runs_and_the_sweep_is_whole(executed):
    assert "emsweep launch sweep=mine/mine.yaml" in printed(executed)
    assert "All 18 runs have one" in printed(executed)
    assert "error:" not in printed(executed)


def test_sweep_table_comparison_and_best_cells_show_themselves(executed):
    faces = [html for html in shown(executed) if 'class="emsweep"' in html]
    assert len(faces) == 5
    assert "18 runs: 18 done" in faces[0]
    assert "6 matched seeds" in faces[2]


def test_the_committed_notebook_holds_no_outputs_of_somebody_s_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.get("outputs", []) == [] for cell in notebook.cells)
