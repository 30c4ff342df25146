"""Metrics that a command prints: regular expressions over the lines of its standard output, as they come."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

STEP = "step"
"""The pattern whose value is the step of what is printed from there on."""

MAX_LINE = 1 << 16
"""Bytes of a line without an end; more of it is not looked at."""

_LINE_END = re.compile(rb"[\r\n]+")

Row = tuple[int | None, Mapping[str, object]]
"""A step and what was measured at it; without a step, what holds for the run."""


class Printed:
    """Looks for patterns in what comes in pieces.

    A value belongs to the step that was printed last, or to the line it is in; without a pattern named
    ``step`` the first match of a metric is step 1, the next step 2.
    """

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._step_pattern = re.compile(patterns[STEP]) if STEP in patterns else None
        self._patterns = {name: re.compile(p) for name, p in patterns.items() if name != STEP}
        self._counts = dict.fromkeys(self._patterns, 0)
        self._step: int | None = None
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Row]:
        """The rows of the lines that are whole now."""
        *lines, self._rest = _LINE_END.split(self._rest + data)
        if len(self._rest) > MAX_LINE:
            lines, self._rest = [*lines, self._rest[:MAX_LINE]], b""
        for line in lines:
            yield from self._rows(line)

    def finish(self) -> Iterator[Row]:
        """The rows of a last line without an end."""
        yield from self._rows(self._rest)
        self._rest = b""

    def _rows(self, line: bytes) -> Iterator[Row]:
        text = line.decode(errors="replace")
        if self._step_pattern and (match := self._step_pattern.search(text)):
            with contextlib.suppress(ValueError):
                self._step = int(float(match[1]))
        row: dict[int, dict[str, object]] = {}
        for name, pattern in self._patterns.items():
            if match := pattern.search(text):
                self._counts[name] += 1
                step = self._counts[name] if self._step is None else self._step
                row.setdefault(step, {})[name] = value_of(match[1])
        yield from row.items()


def value_of(text: str | None) -> object:
    """What a text says: a whole number, a number, or itself."""
    for kind in (int, float):
        with contextlib.suppress(ValueError, TypeError):
            return kind(text)  # type: ignore[arg-type]
    return text
