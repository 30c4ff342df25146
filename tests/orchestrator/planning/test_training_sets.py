"""What a plan says of training sets is counted as people count."""

from __future__ import annotations

import pytest

from orchestrator.planning.training_sets import PlannedSet


@pytest.mark.parametrize(
    ("rows", "runs", "low", "high", "words"),
    [
        (1, 1, 1.0, 1.0, "1 row, file, 1 a step · 1 epoch · 1 run"),
        (1280, 96, 0.5, 0.5, "1,280 rows, file, 1 a step · 0.5 epochs · 96 runs"),
        (1280, 96, 1.0, 2.0, "1,280 rows, file, 1 a step · 1 to 2 epochs · 96 runs"),
    ],
)
def test_a_set_is_told_by_its_rows_its_epochs_and_its_runs(rows, runs, low, high, words):
    planned = PlannedSet(
        name="mine",
        path="mine.jsonl",
        rows=rows,
        prompts_per_step=1,
        order="file",
        runs=runs,
        epochs_min=low,
        epochs_max=high,
    )
    assert str(planned) == f"mine: {words}"
