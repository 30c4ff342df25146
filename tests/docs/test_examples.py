"""The sweep files that the page shows are files of tests/examples, to the letter, and can be planned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest

ROOT = Path(__file__).parents[2]
EXAMPLES = {"table": 96, "schedules": 64, "ladder": 64, "training_set": 24}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_shows_the_file_and_its_number_of_runs(name):
    path = ROOT / "tests" / "examples" / f"{name}.yaml"
    text = (ROOT / "docs" / "sweep-files.md").read_text()
    after = text[text.index(f"`sweep={name}.yaml`") :]
    shown = re.search(r"```yaml\n(.*?)```", after, re.DOTALL)
    assert shown is not None
    assert shown[1] == path.read_text()
    assert len(build_manifest(compose_sweep([f"sweep={path}"]))) == EXAMPLES[name]
