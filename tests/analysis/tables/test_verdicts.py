"""Verdicts of different items are never lined up with each other."""

from __future__ import annotations

import pyarrow as pa
import pytest

from analysis import open_sweep
from analysis.tables.verdicts import _matrix
from orchestrator.cli import main
from sweeps.spec.errors import UserError


def test_lists_of_one_length_are_a_matrix():
    column = pa.chunked_array([[[1, 0], [0, 1]], [[1, 1]]])
    assert _matrix(column, "accuracy_sampled").tolist() == [[1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("lists", [[[1] * 10, [1] * 30], [[1] * 2, [1] * 3], [[], [1, 1]]])
def test_lists_of_several_lengths_are_refused_even_where_their_sum_would_divide(lists):
    with pytest.raises(UserError, match="judged on different items"):
        _matrix(pa.chunked_array([lists]), "accuracy_sampled")


def test_runs_of_one_benchmark_are_counted_item_by_item_in_a_sweep_that_has_several(tmp_path):
    words = ["sweep=quickstart", "model=tiny-32", "example=carry-1", "optim.lr=1e-4", "seed=0,1", "steps=1"]
    words += ["eval.limit=2,3", "--pool", "inline", "--dir", str(tmp_path / "out"), "--yes", "--json"]
    assert main(["launch", *words]) == 0
    sweep = open_sweep(tmp_path / "out")
    with pytest.raises(UserError, match="judged on different items; filter by eval"):
        sweep.cell_table(over="both")
    for limit in (2, 3):
        part = sweep.where(f"eval.limit={limit}")
        counted = part.cell_table(over="both").frame["mean"]
        assert counted.tolist() == pytest.approx([part.runs()["accuracy_sampled"].mean()])
