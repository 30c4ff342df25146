"""Which run a call of :func:`report` is about: that of this process, or the one that its script is for."""

from __future__ import annotations

import os
from typing import Any

from trainers.reporting.decision import GO_ON, Decision, Report
from trainers.reporting.script import VARIABLE, ScriptEnd

_here: tuple[int, Report] | None = None
"""The process that works on a run, and how that run is reported: a process forked from it is another."""

_script: ScriptEnd | None = None


class reporting_to:  # noqa: N801 (it is used as a function, and this is quicker than one with a `yield`)
    """Let :func:`report` in this process, whichever thread calls it, be about one run."""

    __slots__ = ("_before", "_listener")

    def __init__(self, listener: Report) -> None:
        self._listener = listener

    def __enter__(self) -> None:
        global _here
        self._before, _here = _here, (os.getpid(), self._listener)

    def __exit__(self, *_: object) -> None:
        global _here
        _here = self._before


def report(step: int, **metrics: Any) -> Decision:
    """Tell what was measured at a step, and hear whether to go on.

    Call it wherever the code of a run is: in a trainer, a function, a script, a Hydra application, a callback
    of another library. Steps are kept as they come, also of a run that dies, and are shown while it runs. A
    step may be reported in several calls: a later value of the same name replaces the earlier one. It never
    waits, and outside a sweep it does nothing.

    Args:
        step: number of the step, from 0.
        metrics: what was measured: numbers, texts or scalars of any library; ``**{"eval/loss": x}`` for names
            that are no Python words.

    Returns:
        The newest decision known; ``.stop`` is true once the run should end early.

    Raises:
        TypeError, ValueError: inside a sweep, for a step or a value that no table can hold.
    """
    if _here is not None and _here[0] == os.getpid():
        return _here[1](step, **metrics)
    folder = os.environ.get(VARIABLE)
    if not folder:
        return GO_ON
    return _script_end(folder).report(step, metrics)


def _script_end(folder: str) -> ScriptEnd:
    global _script
    if _script is None or _script.pid != os.getpid():
        _script = ScriptEnd(folder)
    return _script
