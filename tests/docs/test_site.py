"""The site builds without a warning, asks nobody for anything, and names every key and every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

from orchestrator.cli import build_app
from orchestrator.cli.examples import EXAMPLES
from sweeps.spec.run_spec import known_keys

pytest.importorskip("mkdocs")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "build_site"))

FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)[^>]+src=["']?(https?:)?//"""
    r"""|<link[^>]+rel=["']?(?:stylesheet|preload|preconnect|icon)[^>]+href=["']?(https?:)?//"""
    r"""|@import\s+url\(["']?https?:|url\(["']?https?:"""
)
"""What a browser would fetch from elsewhere by itself; a link that a reader may follow is none."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_strictly_and_every_page_of_the_navigation_is_there(site):
    text = (ROOT / "mkdocs.yml").read_text()
    pages = re.findall(r"[\w/-]+\.md", text[text.index("nav:") :])
    assert len(pages) > 20
    assert [p for p in pages if not (site / p.replace(".md", ".html")).is_file()] == []


def test_a_page_asks_nothing_of_another_server(site):
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 20
    found = {
        p.name: match[0]
        for p in pages
        if (match := FETCHED.search(p.read_text(errors="replace"))) is not None
    }
    assert found == {}


def test_no_page_holds_a_diagram_for_which_the_theme_would_fetch_a_library(site):
    assert [p.name for p in site.rglob("*.html") if 'class="mermaid"' in p.read_text()] == []


def test_every_key_of_a_run_is_on_the_page_with_its_default_and_what_it_means(site):
    from keys import keys_page

    rows = dict(re.findall(r"^\| `([\w.]+)` \|(.*)$", keys_page(), re.MULTILINE))
    wanted = [key for key in known_keys() if key not in ("init_from", "epochs", "steps", "seed")]
    assert [key for key in wanted if key not in rows] == []
    for key in wanted:
        *_, default, meaning, _ = (cell.strip() for cell in [*rows[key].split(" | "), ""])
        assert default.startswith("`"), key
        assert len(meaning.removesuffix(" |")) > 8, f"{key} says too little: {meaning!r}"
    text = (site / "keys.html").read_text()
    assert "optim.lr" in text
    assert "resources.timeout_s" in text


def test_every_field_of_the_specification_has_a_docstring():
    from keys import field_docs

    from sweeps.spec.run_spec import GROUPS, group_type

    for group in GROUPS:
        kind = group_type(group)
        assert set(kind.__dataclass_fields__) <= set(field_docs(kind)), group


def test_every_command_is_on_the_page_with_its_options_and_examples(site):
    from verbs import verbs_page

    page = verbs_page()
    for name, command in typer.main.get_command(build_app()).commands.items():
        if command.hidden:
            continue
        section = page.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
        assert section, name
        options = [opt for p in command.params for opt in p.opts if opt.startswith("--") and opt != "--help"]
        assert [opt for opt in options if opt not in section] == []
        assert all(words in section for words in EXAMPLES[name])


def test_every_page_of_docs_is_in_the_navigation():
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    there = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert there <= listed


def test_make_docs_and_the_extra_install_what_the_site_needs():
    makefile = (ROOT / "Makefile").read_text()
    assert "docs" in re.search(r"--editable '\.\[([\w,]+)\]'", makefile)[1].split(",")
    settings = (ROOT / "mkdocs.yml").read_text()
    assert yaml.safe_load(settings)["theme"]["font"] is False


def test_the_pictures_of_the_statistics_are_drawn_by_their_script():
    import pictures

    used = set(re.findall(r"pictures/(\w+)\.svg", (ROOT / "docs" / "statistics.md").read_text()))
    assert used == set(pictures.PICTURES)
    for name in used:
        assert (ROOT / "docs" / "pictures" / f"{name}.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_a_picture_drawn_anew_says_what_the_committed_one_says():
    import pictures

    words = re.compile(r"<text[^>]*>([^<]*)")
    for name in pictures.PICTURES:
        stored = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text()
        assert words.findall(pictures.drawn(name)) == words.findall(stored), name
