"""Two ways of doing the same, timed in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter, process_time


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds and wall seconds of a call."""
    cpu_s, wall_s = process_time(), perf_counter()
    work()
    return process_time() - cpu_s, perf_counter() - wall_s


def in_turn(rounds: int, first: Callable[[], object], second: Callable[[], object]) -> dict[str, float]:
    """Medians of both, and of their ratio."""
    for work in (first, second):
        work()
    times = [(seconds(first), seconds(second)) for _ in range(rounds)]
    return {
        "speedup": statistics.median(a[0] / b[0] for a, b in times),
        "before_cpu_s": statistics.median(a[0] for a, _ in times),
        "after_cpu_s": statistics.median(b[0] for _, b in times),
        "before_wall_s": statistics.median(a[1] for a, _ in times),
        "after_wall_s": statistics.median(b[1] for _, b in times),
    }
