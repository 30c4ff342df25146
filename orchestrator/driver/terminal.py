"""What a person sees while a sweep runs: a bar on a terminal, a line now and then elsewhere, or nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from orchestrator.driver.eta import Rate
from sweeps.spec.printable import printable
from sweeps.spec.redaction import redact
from sweeps.spec.text import duration

LINE_S = 15.0
"""Period of the lines written where there is no terminal."""


class Progress:
    """Draws counts, rate and time left on standard error."""

    def __init__(self, *, total: int, quiet: bool = False) -> None:
        self._total = total
        self._quiet = quiet
        self._live: Any = None
        self._line_s = time.monotonic()

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def grow(self, total: int) -> None:
        """There are more runs."""
        self._total = total

    def show(self, counts: Mapping[str, int], rate: Rate, num_workers: int) -> None:
        """Draw the present state."""
        if self._quiet:
            return
        now_s = time.monotonic()
        if self._live is not None:
            self._live.update(self._bar(counts, rate, num_workers))
        elif now_s - self._line_s >= LINE_S:
            self._line_s = now_s
            self._write(self._text(counts, rate))

    def say(self, text: str) -> None:
        """Show a line above the bar."""
        text = printable(redact(text, os.environ, hexadecimal=False))
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        elif not self._quiet:
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _text(self, counts: Mapping[str, int], rate: Rate) -> str:
        failed = counts["failed"] + counts["quarantined"]
        done = counts["done"] + counts["diverged"]
        eta = rate.eta_s(counts["pending"] + counts["running"])
        left = "" if eta is None else f" · {duration(eta[0])} left"
        return (
            f"{done}/{self._total} done · {counts['running']} running · {failed} failed"
            f" · {rate.runs_per_s:.3g} runs/s{left}"
        )

    def _bar(self, counts: Mapping[str, int], rate: Rate, num_workers: int) -> object:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, self._total), completed=num_over(counts), width=40)
        workers = f"· {num_workers} worker{'s' if num_workers != 1 else ''}"
        grid.add_row(bar, self._text(counts, rate), workers)
        return grid


def num_over(counts: Mapping[str, int]) -> int:
    """Runs that ended by themselves, with a result or without."""
    return sum(counts[k] for k in ("done", "diverged", "failed", "quarantined", "stopped"))
