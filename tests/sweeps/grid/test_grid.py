import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.grid.columns import ABSENT
from sweeps.grid.expand import expand
from sweeps.grid.filters import parse_filter
from sweeps.grid.grid import MAX_RUNS, Grid, axis, concat, product, upper_bound
from sweeps.grid.sweep_file import read_sweep
from sweeps.spec import SpecError


def rows(table):
    """The expanded grid as one mapping per run, absent axes left out."""
    return [
        {c.key: c.values[c.codes[i]] for c in table.columns if c.codes[i] != ABSENT}
        for i in range(table.num_runs)
    ]


def test_the_first_axis_varies_slowest():
    table = expand(product(axis("a", [1, 2]), axis("b", ["x", "y"])))
    assert rows(table) == [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")]


AXES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "seed"]), st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(axes=AXES, excluded=st.integers(0, 4))
def test_product_and_exclude_agree_with_a_plain_enumeration(axes, excluded):
    key = next(iter(axes))
    grid = product(*(axis(k, v) for k, v in axes.items())).exclude(f"{key}={excluded}")
    plain = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    expected = [r for r in plain if r[key] != excluded]
    if not expected:
        with pytest.raises(SpecError, match="leaves no run"):
            expand(grid)
    else:
        assert rows(expand(grid)) == expected


def test_zipped_axes_advance_together():
    grid = product(axis("a", [1, 2, 3]), axis("s", [0, 1]), axis("b", "xyz")).zip("a", "b")
    expected = [{"a": a, "b": b, "s": s} for a, b in ((1, "x"), (2, "y"), (3, "z")) for s in (0, 1)]
    assert [c.key for c in expand(grid).columns] == ["a", "s", "b"]
    assert rows(expand(grid)) == expected


def test_a_conditional_axis_exists_only_where_its_condition_holds():
    grid = product(
        axis("schedule", ["constant", "wsd"]),
        axis("schedule.decay_fraction", [0.1, 0.2], when="schedule=wsd"),
    )
    assert rows(expand(grid)) == [
        {"schedule": "constant"},
        {"schedule": "wsd", "schedule.decay_fraction": 0.1},
        {"schedule": "wsd", "schedule.decay_fraction": 0.2},
    ]


def test_a_condition_may_name_an_axis_declared_later_and_columns_keep_their_order():
    grid = product(axis("d", [1, 2], when="s=wsd"), axis("s", ["constant", "wsd"]))
    table = expand(grid)
    assert [c.key for c in table.columns] == ["d", "s"]
    assert sorted(map(str, rows(table))) == sorted(
        map(str, [{"s": "constant"}, {"d": 1, "s": "wsd"}, {"d": 2, "s": "wsd"}])
    )


def test_conditions_chain():
    grid = product(axis("a", [0, 1]), axis("b", [0, 1], when="a=1"), axis("c", [5, 6], when="b=1"))
    assert rows(expand(grid)) == [
        {"a": 0},
        {"a": 1, "b": 0},
        {"a": 1, "b": 1, "c": 5},
        {"a": 1, "b": 1, "c": 6},
    ]


def test_concatenated_sub_grids_multiply_with_the_outer_axes_and_unset_keys_take_the_base_value():
    inner = concat(product(axis("a", [1, 2])), product(axis("b", ["y"])))
    table = expand(Grid(axes=(axis("s", [0, 1]),), parts=inner.parts), {"a": 9, "b": "x"})
    part = [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 9, "b": "y"}]
    assert rows(table) == [{"s": s} | r for s in (0, 1) for r in part]


def test_equal_values_share_a_code_so_that_duplicates_meet():
    table = expand(product(axis("lr", [1e-4, 0.0001, 1])))
    assert table.columns[0].values == (1e-4, 1.0)
    assert table.columns[0].codes.tolist() == [0, 0, 1]


def test_cells_are_every_axis_but_the_seed():
    table = expand(product(axis("a", [1, 2]), axis("seed", range(3)), axis("b", [1, 2])))
    by_cell = {}
    for row, cell in zip(rows(table), table.cells().tolist(), strict=True):
        by_cell.setdefault(cell, []).append(row)
    assert len(by_cell) == 4
    assert all(len({(r["a"], r["b"]) for r in group}) == 1 and len(group) == 3 for group in by_cell.values())


@given(num=st.integers(1, 30), seed=st.integers(0, 3))
def test_a_larger_subset_contains_the_smaller_and_the_order_is_kept(num, seed):
    grid = product(axis("a", range(5)), axis("seed", range(6)))
    small = rows(expand(grid.sample(runs=num, seed=seed)))
    large = rows(expand(grid.sample(runs=num + 3, seed=seed)))
    everything = rows(expand(grid))
    assert len(small) == min(num, 30)
    assert all(r in large for r in small)
    assert small == [r for r in everything if r in small]


def test_a_subset_of_cells_keeps_all_their_seeds():
    table = expand(product(axis("a", range(10)), axis("seed", range(4))).sample(cells=3, seed=1))
    assert table.num_runs == 12
    assert len({r["a"] for r in rows(table)}) == 3


def test_a_subset_does_not_depend_on_the_order_of_values():
    one = rows(expand(product(axis("a", [1, 2, 3, 4]), axis("b", [1, 2])).sample(runs=4)))
    other = rows(expand(product(axis("a", [4, 3, 2, 1]), axis("b", [2, 1])).sample(runs=4)))
    assert sorted(map(str, one)) == sorted(map(str, other))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (lambda: product(axis("a", [])), "axis a: is empty"),
        (lambda: product(axis("a", [1, "x"])), "mix int and str"),
        (lambda: product(axis("a", [1]), axis("a", [2])), "declared twice"),
        (lambda: product(axis("a", [1, 2]), axis("b", [1])).zip("a", "b"), "a has 2, b has 1 values"),
        (lambda: product(axis("a", [1, 2])).zip("a", "bb"), "'bb' is not an axis"),
        (lambda: product(axis("a", [1], when="zz=1")), "unknown axis 'zz'"),
        (lambda: product(axis("a", [1], when="b=1"), axis("b", [1], when="a=1")), "depends on itself"),
        (lambda: product(axis("a", [1, 2])).exclude("a>0"), "leaves no run"),
        (lambda: product(axis("a", [1, 2])).exclude("b=1"), "unknown axis 'b'"),
        (
            lambda: concat(product(axis("a", [1])), product(axis("a", ["x"]))),
            "int in sub-grid 1 but str in sub-grid 2",
        ),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(grid, message):
    with pytest.raises(SpecError, match=message):
        expand(grid())


def test_a_billion_runs_are_refused_from_the_lengths_alone():
    started = time.perf_counter()
    grid = product(*(axis(k, range(1000)) for k in "abc"))
    with pytest.raises(SpecError, match=r"up to 1,000,000,000 runs \(a 1,000 × b 1,000 × c 1,000\)"):
        expand(grid)
    with pytest.raises(SpecError, match="up to 1,000,000,000 runs"):
        axis("seed", range(10**9))
    assert time.perf_counter() - started < 1


@given(axes=AXES)
def test_the_upper_bound_is_exact_without_rules(axes):
    grid = product(*(axis(k, v) for k, v in axes.items()))
    assert upper_bound(grid) == expand(grid).num_runs <= MAX_RUNS


def test_selection_agrees_with_matching_row_by_row():
    table = expand(product(axis("a", [1, 2, 3]), axis("b", ["x", "y"], when="a>1")))
    for text in ("b=x", "!b=x", "b=null a=1", "a>=2 b!=y"):
        condition = parse_filter(text)
        assert table.select(condition).tolist() == [condition.matches(r) for r in rows(table)]
    assert isinstance(table.select(parse_filter("a=1")), np.ndarray)


def test_conditions_and_exclusions_name_axes_by_their_last_part():
    lr = axis("optim.lr", [1e-4, 2e-4])
    share = axis("schedule.decay_fraction", [0.1], when="lr>1e-4")
    table = expand(
        product(lr, share, axis("seed", [0, 1])).exclude("lr=1e-4 seed=1", "decay_fraction=0.1 seed=0")
    )
    assert [(r["optim.lr"], r["seed"]) for r in rows(table)] == [(1e-4, 0), (2e-4, 1)]


def test_a_zip_may_name_axes_by_their_last_part():
    def read(zipped):
        axes = {"optim.lr": [1, 2], "a.rate": [3, 4], "b.rate": [5, 6]}
        return read_sweep({"axes": axes, "zip": [zipped]}, lambda _, written: written).grid

    assert read(["lr", "a.rate"]).zips == (("optim.lr", "a.rate"),)
    assert expand(read(["lr", "a.rate"])).num_runs == 4
    with pytest.raises(SpecError, match=r"zip \[lr, rate\]: axis 'rate' is ambiguous: choose one of a.rate"):
        read(["lr", "rate"])
    with pytest.raises(SpecError, match=r"zip \[lrr, a.rate\]: unknown axis 'lrr' \(did you mean \"lr\"\?\)"):
        read(["lrr", "a.rate"])
