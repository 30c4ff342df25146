"""A manifest that grows: what is there stays where it is, whatever comes behind."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sweeps.compose import compose_sweep
from sweeps.grid.space import space_of
from sweeps.manifest.build import Known, manifest_of_table
from sweeps.manifest.grown import grown
from sweeps.manifest.manifest_file import read_manifest, write_manifest


@pytest.fixture(scope="module")
def make():
    composed = compose_sweep(
        ["sweep=quickstart", "optim.lr=tag(log, interval(1e-5, 1e-3))", "search=tpe", "seed=range(3)"]
    )
    space, known = space_of(composed.grid), Known()

    def made(points, seeds):
        return manifest_of_table(composed, space.table(points, seeds), known=known, by_locality=False)

    return made


def points(num, seed=0):
    chosen = random.Random(seed)
    return [
        {
            "model": chosen.choice(["tiny-96", "tiny-64"]),
            "example": chosen.choice(["nocarry-1", "carry-1"]),
            "optim.lr": chosen.choice([1e-4, 2e-4, 5e-5, chosen.uniform(1e-5, 1e-3)]),
        }
        for _ in range(num)
    ]


ORDERS = {"model": ("tiny-64", "tiny-96"), "example": ("carry-1", "nocarry-1", "highent-1")}


def test_runs_that_come_one_by_one_are_those_that_come_together(make, tmp_path):
    wanted, seeds = points(30), [k % 3 for k in range(30)]
    whole = make(wanted, seeds)
    found = make(wanted[:1], seeds[:1])
    for point, seed in zip(wanted[1:], seeds[1:], strict=True):
        before = list(found.run_ids)
        found = grown(found, make([point], [seed]), ORDERS)
        assert found.run_ids[: len(before)] == before
    assert found.run_ids == whole.run_ids
    write_manifest(whole, tmp_path / "whole.parquet")
    stored = read_manifest(tmp_path / "whole.parquet")
    assert found.specs(range(len(found))) == stored.specs(range(len(stored)))
    assert whole.specs(range(len(found))) == stored.specs(range(len(stored)))
    assert [found.axis_values(i) for i in range(len(found))] == [
        whole.axis_values(i) for i in range(len(whole))
    ]
    assert list(found.names()) == list(whole.names())
    same_cell = found.cells[:, None] == found.cells[None, :]
    np.testing.assert_array_equal(same_cell, whole.cells[:, None] == whole.cells[None, :])
    assert [a.values for a in found.axes[:2]] == [("tiny-64", "tiny-96"), ("carry-1", "nocarry-1")]
    assert list(found.axes[2].values) == sorted(found.axes[2].values)
    write_manifest(found, tmp_path / "manifest.parquet")
    assert read_manifest(tmp_path / "manifest.parquet").digest == found.digest


def test_a_run_that_is_there_is_not_taken_twice(make):
    whole = make(points(5), [0] * 5)
    assert grown(whole, make(points(5)[2:4], [0, 0]), ORDERS) is whole
    assert len(grown(whole, make(points(6), [0] * 6), ORDERS)) == len(make(points(6), [0] * 6))
