"""A small real model folder and sweep files on disk."""

import json
import shutil
import textwrap

import pytest

from sweeps.manifest.data_files import local_path

TINY = "pkg://trainers/tiny/models/tiny-64"


@pytest.fixture
def model_folder(tmp_path):
    """A copy of a shipped model that a test may damage."""
    folder = tmp_path / "model"
    shutil.copytree(local_path(TINY), folder)
    return folder


@pytest.fixture
def sweep_file(tmp_path):
    """Writes a sweep file from the text of its `sweep:` node and returns its path."""

    def write(node, top="", name="mine"):
        path = tmp_path / f"{name}.yaml"
        body = textwrap.indent(textwrap.dedent(node).strip("\n"), "  ")
        path.write_text(f"# @package _global_\n{textwrap.dedent(top)}sweep:\n{body}\n")
        return path

    return write


@pytest.fixture
def prompts(tmp_path):
    """A JSON-lines file of three prompts."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": f"p{i}", "problem": f"1{i}+23=", "answer": f"{33 + i}"}) + "\n"
            for i in range(3)
        )
    )
    return path
