"""What a trainer hears when it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn, Protocol


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a run should go on, as far as is known at the moment."""

    stop: bool = False
    """True once the run should end early: save what is needed and return. What is returned then is not taken
    for the run's result, since the run was cancelled.
    """
    reason: str = ""
    """Why, in words; empty while the run should go on."""

    def __bool__(self) -> NoReturn:
        raise TypeError("a Decision is neither true nor false: write `if report(step, …).stop:`")


GO_ON = Decision()
"""What is heard unless something else was decided."""


class Report(Protocol):
    """Tells what was measured at a step and hears the newest decision known; it never waits for one."""

    def __call__(self, step: int, **metrics: Any) -> Decision: ...


def report_nothing(step: int, **metrics: Any) -> Decision:
    """What ``report`` is where nobody listens."""
    return GO_ON
