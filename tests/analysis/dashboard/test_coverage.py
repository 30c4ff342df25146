from __future__ import annotations

import pytest

from analysis import open_sweep
from analysis.dashboard.coverage import MAX_COLUMNS, MAX_ROWS, at_work, coverage, split_axes


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([("model", 4), ("example", 7), ("lr", 5), ("tau", 6)], (["model", "example"], ["lr", "tau"], [])),
        ([("a", 30), ("b", 30), ("c", 30)], (["a"], ["c"], ["b"])),
        ([("only", 3)], ([], ["only"], [])),
        ([("one", 1), ("two", 2)], ([], ["two"], [])),
        ([("huge", 500)], ([], [], ["huge"])),
        ([], ([], [], [])),
    ],
)
def test_axes_are_split_between_the_sides(sizes, expected):
    assert split_axes(sizes) == expected


def test_a_map_of_any_grid_fits_the_page():
    sizes = [(f"axis{i}", 2 + i) for i in range(8)]
    rows, columns, left_out = split_axes(sizes)
    lengths = dict(sizes)
    for side, most in ((rows, MAX_ROWS), (columns, MAX_COLUMNS)):
        total = 1
        for key in side:
            total *= lengths[key]
        assert total <= most
    assert sorted([*rows, *columns, *left_out]) == sorted(lengths)


def test_tiles_count_every_run_once_and_lead_to_theirs(ragged):
    sweep = open_sweep(ragged)
    coverage_map = coverage(sweep)
    assert len(coverage_map.tiles) == 24
    assert len({(tile.x, tile.y) for tile in coverage_map.tiles}) == 24
    assert sum(len(sweep.where(tile.filter).runs(["run_id"])) for tile in coverage_map.tiles) == 96
    done = sum(tile.shares[0] * 4 for tile in coverage_map.tiles)
    counts = sweep.counts()
    assert done == pytest.approx(counts["done"] + counts["diverged"])


def test_tiles_are_at_work_when_one_of_their_runs_is(ragged):
    sweep = open_sweep(ragged)
    coverage_map = coverage(sweep)
    runs = sweep.runs(["index"]).iloc[[0, 1, 17, 95]]["index"].tolist()
    working = at_work(sweep, coverage_map, runs)
    tiles = [tile for tile in coverage_map.tiles if tile.filter in working]
    assert len(tiles) == len(working)  # each is one of the map's
    held = {i for tile in tiles for i in sweep.where(tile.filter).runs(["index"])["index"]}
    assert set(runs) <= held
    others = set(range(96)) - held
    assert not at_work(sweep, coverage_map, sorted(others)) & working
    assert at_work(sweep, coverage_map, []) == frozenset()
