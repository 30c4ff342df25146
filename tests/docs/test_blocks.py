"""Every block of code on the pages runs, or says why it cannot here; long pages are slow."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.analysis.synthetic import quickstart_world, write_sweep
from tests.docs.blocks import CODE, PAGES, ROOT, Block, Folder, blocks_of, environment

REAL = ("README.md", "docs/operations.md")
"""Pages that look into the spools of the quickstart sweep, which is run for them."""

SLOW = {
    *REAL,
    "docker/README.md",
    "docs/tutorial.md",
    "docs/own-model.md",
    "docs/recipes.md",
    "docs/own-trainer.md",
    "docs/coming-from.md",
    "docs/racing.md",
    "docs/searching.md",
    "docs/early-stopping.md",
}
"""Pages that take longer than half a minute together with what is prepared for them."""

NOT_RUN = 12
"""Blocks that need what no test has: a cluster, a GPU, a key, a person. A new one belongs here only if it
must.
"""


def _page(path: Path):
    name = str(path.relative_to(ROOT))
    return pytest.param(path, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory) -> Path:
    """A real quickstart sweep of sixteen runs."""
    folder = tmp_path_factory.mktemp("quickstart") / "quickstart"
    words = ["sweep=quickstart", "seed=0,1", "example=carry-1", "--pool", "local", "--dir", str(folder)]
    subprocess.run(
        ["emsweep", "launch", *words], env=environment(), check=True, capture_output=True, timeout=280
    )
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [_page(path) for path in PAGES])
def test_every_block_of_the_page_runs_in_order(page, tmp_path, request):
    blocks = blocks_of(page)
    if "outputs/quickstart" in page.read_text():
        target = tmp_path / "outputs" / "quickstart"
        if str(page.relative_to(ROOT)) in REAL:
            shutil.copytree(request.getfixturevalue("quickstart"), target)
        else:
            write_sweep(target, quickstart_world())
    folder = Folder(tmp_path)
    for block in blocks:
        if not block.missing:
            folder.run(block)


def test_every_block_names_its_language():
    assert [block.where for page in PAGES for block in blocks_of(page) if not block.language] == []


def test_blocks_that_are_not_run_are_few_and_say_why():
    left_out = [b for page in PAGES for b in blocks_of(page) if "data-needs" in b.words]
    assert [b.where for b in left_out if len(b.words["data-needs"]) < 5] == []
    assert len(left_out) <= NOT_RUN, [f"{b.where}: {b.words['data-needs']}" for b in left_out]
    assert sum(b.language in CODE for page in PAGES for b in blocks_of(page)) > 4 * len(left_out)


def test_a_block_that_fails_fails_its_page(tmp_path):
    page = ROOT / "README.md"
    for language, text in (("sh", "false"), ("python", "1 / 0"), ("yaml", "a: [")):
        with pytest.raises((AssertionError, ZeroDivisionError, Exception)):
            Folder(tmp_path).run(Block(page=page, line=1, language=language, text=text))


def test_printed_lines_are_held_against_the_page_but_for_numbers(tmp_path):
    folder = Folder(tmp_path)
    folder.run(Block(page=ROOT / "README.md", line=1, language="sh", text="echo '3 runs  in 0.51 s'"))
    words = {"title": "output"}
    folder.run(Block(page=ROOT / "README.md", line=2, language="text", words=words, text="12 runs in 7 s\n"))
    with pytest.raises(AssertionError, match="is not printed"):
        folder.run(Block(page=ROOT / "README.md", line=3, language="text", words=words, text="no runs\n"))


def test_fences_are_read_with_their_words():
    page = ROOT / "docs" / "own-trainer.md"
    titled = [b for b in blocks_of(page) if re.search(r"\.(py|yaml)$", b.words.get("title", ""))]
    assert titled
