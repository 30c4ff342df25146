"""The map of the rooms is the tree's: every room has its line, and its arrows are the code's imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sweeps", "trainers", "orchestrator", "analysis")
PAGE = (ROOT / "docs" / "architecture.md").read_text()

_DIAGRAM = PAGE.partition("stateDiagram-v2\n")[2].partition("```")[0]

_ROW = re.compile(r"^\| `(\w+)/(\w+)/` \|[^|]+\|([^|]*)\|$", re.MULTILINE)


def rooms_of(package: str) -> set[str]:
    """Folders of a package that hold code."""
    return {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}


def arrows_of(package: str, room: str) -> set[str]:
    """The other rooms of the package that a room imports."""
    imported: set[str] = set()
    for path in (ROOT / package / room).rglob("*.py"):
        if "plugin" in path.parts:  # beside our packages in an installation, and in none of their rooms
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            imported |= {name.split(".")[1] for name in names if name.startswith(f"{package}.")}
    return (imported & rooms_of(package)) - {room}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_of_the_tree_has_a_line_and_no_line_has_lost_its_room(package):
    written = [room for of, room, _ in _ROW.findall(PAGE) if of == package]
    assert len(written) == len(set(written))
    assert set(written) == rooms_of(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_arrows_of_the_map_are_the_imports_of_the_code(package):
    drawn = {
        room: set(re.findall(r"\w+", arrows)) for of, room, arrows in _ROW.findall(PAGE) if of == package
    }
    assert drawn == {room: arrows_of(package, room) for room in rooms_of(package)}


def test_every_state_transition_names_an_outcome_of_the_store_or_a_phase_of_pending():
    from orchestrator.store.layout import OUTCOMES

    lines = re.findall(r"^  (\S+) --> (\S+?)(?::.*)?$", _DIAGRAM, re.MULTILINE)
    states = {state for line in lines for state in line} - {"[*]", "ready", "waiting", "leased"}
    assert states == set(OUTCOMES) - {"pending"}


def test_every_record_of_the_state_diagram_is_one_the_journal_writes():
    from orchestrator.store import records

    kinds = set(re.findall(r"^``(\w+)``", records.__doc__, re.MULTILINE))
    labels = re.findall(r"^  \S+ --> \S+: .*\(([\w, ]+)\)$", _DIAGRAM, re.MULTILINE)
    written = {word for label in labels for word in label.split(", ")} - {"not charged", "backoff"}
    assert len(written) > 4
    assert written <= kinds


def test_the_retry_table_states_the_default_budgets():
    from orchestrator.scheduling.retry import RetryPolicy

    policy = RetryPolicy()
    budgets = dict(re.findall(r"^\| ([a-z ]+) \| [^|]+ \| [^|]+ \| (\d+) \|$", PAGE, re.MULTILINE))
    assert budgets == {
        "infrastructure": str(policy.infrastructure),
        "oom": str(policy.oom),
        "error": str(policy.error),
        "timeout": str(policy.timeout),
    }


def test_the_page_says_who_owns_each_path_of_the_layout():
    from orchestrator.store import layout

    specified = layout.__doc__.partition("::\n")[2].partition("\n\n**")[0]
    paths = re.findall(r"^    (\S+)  ", specified, re.MULTILINE)
    assert len(paths) > 9
    owned = re.findall(r"^\| `([^`]+)`", PAGE, re.MULTILINE)
    kinds = {re.sub(r"<\w+>-<n>|<verb>-\*", "*", path) for path in owned}
    assert {re.sub(r"<\w+>-<n>|<verb>-\*", "*", path) for path in paths} <= kinds
