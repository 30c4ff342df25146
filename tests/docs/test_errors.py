"""The errors that the page explains are in the source, to the letter."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
QUOTED = re.findall(r"^\| `([^`]+)` \|[^|]+\|[^|]+\|$", PAGE, re.MULTILINE)


@cache
def messages() -> tuple[str, ...]:
    """Every string of the source, adjacent ones joined, with a gap where a value is filled in."""
    found = set()
    for package in ("sweeps", "trainers", "orchestrator", "analysis"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found.add("".join(_part(value) for value in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                    found.add(node.value)
    return tuple(found)


def _part(value: ast.expr) -> str:
    return value.value if isinstance(value, ast.Constant) else "\0"


def pattern_of(quote: str) -> re.Pattern[str]:
    """The quoted text with anything in the place of its dots."""
    return re.compile(".*".join(re.escape(piece) for piece in quote.split("…")), re.DOTALL)


def test_the_page_explains_the_commonest_forty():
    assert len(QUOTED) >= 40
    assert len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("quote", QUOTED)
def test_every_text_that_the_page_quotes_is_a_message_of_the_source(quote):
    assert any(pattern_of(quote).search(message) for message in messages())


def test_a_text_of_no_message_is_found_out():
    assert not any(pattern_of("no such message is … written").search(message) for message in messages())
