"""What a person sees while a sweep runs: one bar on a terminal, a line now and then elsewhere, nothing when
quiet.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType

WINDOW_S = 30.0
"""The rate is that of the last half minute: long enough to be steady, short enough to follow a change."""

LINE_S = 15.0
"""Period of the lines written where there is no terminal."""


class Progress:
    """Counts, rate and ETA; draws them on standard error."""

    def __init__(self, *, total: int, quiet: bool = False) -> None:
        self._total = total
        self._quiet = quiet
        self._samples: deque[tuple[float, int]] = deque()
        self._counts: Mapping[str, int] = {}
        self._live = None
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

    @property
    def rate(self) -> float:
        """Results per second over the last half minute."""
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until nothing is left, ``None`` while the rate is unknown."""
        left = self._counts.get("pending", 0) + self._counts.get("running", 0)
        return left / self.rate if self.rate > 0 else None

    def update(self, counts: Mapping[str, int], num_workers: int) -> None:
        """Take the latest counts and draw them."""
        now_s = time.monotonic()
        self._counts = counts
        self._samples.append((now_s, _over(counts)))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()
        if self._live is not None:
            self._live.update(self._renderable(num_workers))
        elif not self._quiet and now_s - self._line_s >= LINE_S:
            self._line_s = now_s
            self._write(self._text())

    def say(self, text: str) -> None:
        """Show a line above the bar."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        elif not self._quiet:
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _text(self) -> str:
        counts = self._counts
        failed = counts["failed"] + counts["quarantined"]
        done = counts["done"] + counts["diverged"]
        eta = "" if self.eta_s is None else f" · {duration(self.eta_s)} left"
        return (
            f"{done}/{self._total} done · {counts['running']} running · {failed} failed"
            f" · {self.rate:.3g} runs/s{eta}"
        )

    def _renderable(self, num_workers: int) -> object:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, self._total), completed=_over(self._counts), width=40)
        workers = f"· {num_workers} worker{'s' if num_workers != 1 else ''}"
        grid.add_row(bar, self._text(), workers)
        return grid


def _over(counts: Mapping[str, int]) -> int:
    return sum(counts.get(k, 0) for k in ("done", "diverged", "failed", "quarantined"))


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``3 min 20 s``, ``5 h 12 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
