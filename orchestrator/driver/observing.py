"""Reads of a committed result what a race or a search asks: the metric; its base value and the items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.planning.race_question import RaceQuestion
from orchestrator.planning.search_question import SearchQuestion
from orchestrator.scheduling.sweep_race import Observed
from orchestrator.store.spool import Line
from sweeps.spec.search_rules import worst_of
from trainers.run_result import Evaluation, RunResult, accuracy_name, scalars_from_json


def observed(line: Line, question: RaceQuestion) -> Observed | None:
    """What a result says to the question; ``None`` where it has no value that counts."""
    metric = question.metric
    result = RunResult.from_json(line.result())
    value, base = (finite(result.metrics.get(name)) for name in (metric, f"base_{metric}"))
    if line.header["outcome"] == "diverged":
        worst = worst_of(question.info)
        if question.spec.diverged == "left_out" or worst is None:
            return None
        return Observed(worst, base)
    if value is None:
        return None
    last, first = (_items(result.evaluations, metric, at) for at in (-1, 0))
    return Observed(value, base, _agreeing(last, value), _agreeing(first, base))


def value_of(line: Line, question: SearchQuestion) -> float | None:
    """The metric of a result as a search counts it; ``None`` where it has no value that counts."""
    if line.header["outcome"] == "diverged":
        return None if question.spec.diverged == "left_out" else worst_of(question.info)
    if line.header["outcome"] != "done":
        return None
    metrics, _ = scalars_from_json(line.result())
    return finite(metrics.get(question.metric))


def _items(evaluations: Sequence[Evaluation], metric: str, at: int) -> np.ndarray | None:
    """Share of right answers per item behind an accuracy, of the first (0) or last (−1) evaluation."""
    steps = sorted({e.step for e in evaluations})
    among = [e for e in evaluations if steps and e.step == steps[at]]
    for e in among:
        if accuracy_name(e, among) == metric:
            return np.asarray(e.correct, dtype=float) / e.num_samples
    return None


def _agreeing(items: np.ndarray | None, value: float | None) -> np.ndarray | None:
    """The items where they average to the value that they are said to be behind."""
    if (
        items is None
        or value is None
        or not len(items)
        or not math.isclose(items.mean(), value, abs_tol=1e-9)
    ):
        return None
    return items


def finite(value: Any) -> float | None:
    """What a trainer gave as a number; ``None`` for what is none, not finite, or too large for a float."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of more than 308 digits
        return None
