"""The page's walkthrough runs as it stands, on a sweep of the quickstart's shape."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.analysis.synthetic import quickstart_world, write_sweep

PAGE = Path(__file__).parents[2] / "docs" / "answers.md"
HEADING = "# From runs to answers"


def _blocks() -> list[str]:
    section = PAGE.read_text().partition(HEADING)[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


def test_the_walkthrough_answers_its_three_questions(tmp_path, monkeypatch, capsys):
    blocks = _blocks()
    assert len(blocks) == 4, f"docs/answers.md needs the section {HEADING!r} with its four blocks"
    write_sweep(tmp_path / "outputs" / "quickstart", quickstart_world())
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/answers.md", "exec"), names)
    printed = capsys.readouterr().out
    assert len(names["runs"]) == 96
    assert names["best_lr"] in (1e-4, 2e-4)
    assert "4 matched seeds" in printed
    assert "share of variance" in printed
    assert "winner's curse" in printed
    assert (tmp_path / "decoupling.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("word", ["emsweep table", "compare", "report"])
def test_the_walkthrough_names_the_verbs(word):
    assert word in PAGE.read_text().partition(HEADING)[2]
