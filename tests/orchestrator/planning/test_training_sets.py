"""What a plan says of training sets is counted as people count."""

from __future__ import annotations

import pytest

from orchestrator.planning.training_sets import PlannedSet, planned_sets
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest


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


def test_draws_of_as_many_rows_are_told_together_and_equal_ones_are_one():
    words = ("data=addition", "data.limit=1,1280", "data.limit_by=content", "data.subset_seed=range(3)")
    manifest = build_manifest(compose_sweep([*words, "eval=none"]))
    few, all_rows = sorted(planned_sets(manifest), key=lambda planned: planned.rows)
    assert (few.runs, few.draws, all_rows.draws) == (3, 3, 1)
    assert str(few).startswith("addition: 1 row (3 draws), shuffle")


def test_rounds_are_told_by_what_they_draw_and_passes_by_the_prompts_that_are_completed():
    words = ["data=addition_solved", "objective=sft", "data.prompts_per_step=8", "eval=none"]
    rounds = ["curate=escaping_collapse", "curate.prompts=128", "curate.completions=2", "curate.beta=0,0.1"]
    sweep = compose_sweep([*words, *rounds])
    manifest = build_manifest(sweep)
    [planned] = planned_sets(manifest)
    told = "1,280 rows, shuffle, 5 rounds of 256 completions, 8 a step · 0.5 epochs · 2 runs"
    assert str(planned) == f"addition_solved: {told}"
    assert planned.to_json()["completions_per_round"] == 256
