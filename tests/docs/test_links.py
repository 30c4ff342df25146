"""What the pages for contributors name is there: files, modules, targets of the Makefile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

ON_THE_SITE = ("keys.md", "commands.md", "clusters.md", "contributing.md", "changelog.md")
"""Pages of the site that are no files of ``docs/``: made from the code, or shown from elsewhere."""

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"^(?:sweeps|trainers|orchestrator|analysis|tests|docs|docker)/[\w./*{},-]*$")
_MODULE = re.compile(r"^(?:python -m )?((?:sweeps|trainers|orchestrator|analysis|tests)(?:\.\w+)+)")
_TARGET = re.compile(r"\bmake ([a-z]+)")


def prose(page: Path) -> str:
    """The page; of the changelog what is not released, without the old names in its tables' left column."""
    text = page.read_text()
    if page.name == "CHANGELOG.md":
        unreleased = re.split(r"^## \d", text, maxsplit=1, flags=re.MULTILINE)[0]
        return "\n".join(re.sub(r"^\|[^|]*\|", "|", line) for line in unreleased.splitlines())
    return text


def named(page: Path) -> list[str]:
    """Everything in code quotes."""
    return [word.strip() for word in _CODE.findall(prose(page))]


def alternatives(path: str) -> list[str]:
    """`a/{b,c}.py` as its two paths."""
    inner = re.search(r"\{([^{}]*)\}", path)
    if inner is None:
        return [path]
    return [path[: inner.start()] + one + path[inner.end() :] for one in inner[1].split(",")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page):
    links = [link.partition("#")[0] for link in _LINK.findall(page.read_text())]
    relative = [link for link in links if link and "://" not in link]
    if page.parent == ROOT / "docs":
        relative = [link for link in relative if link not in ON_THE_SITE]
    assert [link for link in relative if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_path_of_the_tree_that_is_named_exists(page):
    paths = [path for word in named(page) if _PATH.match(word) for path in alternatives(word)]
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_dotted_name_is_a_module_or_belongs_to_one(page):
    names = [match[1] for word in named(page) if (match := _MODULE.match(word))]
    assert [name for name in names if not is_there(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_make_target_that_is_named_is_one(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {target for word in named(page) for target in _TARGET.findall(word)}
    assert asked <= targets


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or a name in the text of the module before it."""
    if _is_module(name):
        return True
    module, _, attribute = name.rpartition(".")
    if "." not in name or not module:
        return False
    if _is_module(module):
        return re.search(rf"\b{attribute}\b", _file_of(module).read_text()) is not None
    return False


def _is_module(name: str) -> bool:
    return _file_of(name).is_file() or (ROOT / name.replace(".", "/")).is_dir()


def _file_of(name: str) -> Path:
    """Where a module's text is: nothing is imported to see that it is there."""
    place = ROOT / name.replace(".", "/")
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
