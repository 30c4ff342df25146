"""The space of a search: a grid's axes without their product."""

from __future__ import annotations

import pytest

from sweeps.grid.axes import Interval
from sweeps.grid.columns import ABSENT
from sweeps.grid.expand import expand
from sweeps.grid.grid import axis, concat, product
from sweeps.grid.space import ends_of, space_of
from sweeps.spec.errors import SpecError

LR = Interval(low=1e-5, high=1e-3, log=True)


def conditional():
    return product(
        axis("schedule.decay_fraction", [0.1, 0.2], when="schedule=wsd"),
        axis("schedule", ["constant", "wsd"]),
        axis("seed", [0, 1]),
    )


def test_a_finite_space_has_the_points_of_its_grid():
    space = space_of(conditional().exclude("decay_fraction=0.2"))
    table = expand(conditional().exclude("decay_fraction=0.2"))
    cells = {
        tuple(c.values[c.codes[i]] if c.codes[i] != ABSENT else None for c in table.columns[:2])
        for i in range(table.num_runs)
    }
    assert {(p.get("schedule.decay_fraction"), p["schedule"]) for p in space.points()} == cells
    assert space.is_finite
    assert space.seeds == (0, 1)


def test_an_interval_of_whole_numbers_has_the_points_that_it_holds():
    def held(low, high):
        whole = axis("steps", [Interval(low=low, high=high)])
        return space_of(product(whole, axis("schedule", ["constant", "wsd"]), axis("seed", [0])))

    few, many = held(2, 4), held(-(2**63), 2**63 - 1)
    assert [p["steps"] for p in few.points()] == [2, 2, 3, 3, 4, 4]
    assert few.is_finite
    assert not few.is_listed
    assert not many.is_finite


def test_points_of_a_space_too_large_to_be_gone_through_are_not_counted():
    assert space_of(conditional()).num_points(10) == 3
    assert space_of(conditional()).num_points(2) == 3
    many = product(*(axis(f"a{k}", range(50)) for k in range(9)), axis("seed", [0]))
    assert space_of(many.exclude("a0>=1")).num_points(10) == 11


def test_points_are_told_from_others():
    space = space_of(product(*conditional().axes, axis("optim.lr", [LR])))
    good = {"schedule": "wsd", "schedule.decay_fraction": 0.1, "optim.lr": 1e-4}
    assert space.holds(good)
    assert not space.is_finite
    for change in (
        {"optim.lr": 2e-3},
        {"optim.lr": True},
        {"optim.lr": float("nan")},
        {"schedule": "cosine"},
        {"schedule": "constant"},  # the fraction does not exist then
        {"other": 1},
    ):
        assert not space.holds(good | change), change
    assert not space.holds({"schedule": "wsd", "optim.lr": 1e-4})


def test_a_table_of_points_has_the_grids_columns():
    space = space_of(product(*conditional().axes, axis("optim.lr", [LR])))
    points = [
        {"schedule": "constant", "optim.lr": 3e-4},
        {"schedule": "wsd", "schedule.decay_fraction": 0.2, "optim.lr": 1e-4},
    ]
    table = space.table(points, [1, 7])
    found = {c.key: [None if k == ABSENT else c.values[k] for k in c.codes] for c in table.columns}
    assert found == {
        "schedule.decay_fraction": [None, 0.2],
        "schedule": ["constant", "wsd"],
        "seed": [1, 7],
        "optim.lr": [3e-4, 1e-4],
    }


def test_ends_stand_for_an_interval():
    table = expand(ends_of(product(axis("optim.lr", [LR]), axis("seed", [0]))))
    assert table.columns[0].values == (1e-5, 1e-3)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (conditional().sample(runs=3), r"sweep\.subset: cannot be searched"),
        (concat(conditional()), r"sweep\.concat: cannot be searched"),
        (product(axis("a", [1, 2]), axis("b", [1, 2]), axis("seed", [0])).zip("a", "b"), r"sweep\.zip"),
        (product(axis("a", [1]), axis("seed", [Interval(low=0, high=9)])), "chooses no seeds"),
        (product(axis("a", [1], when="seed=0"), axis("seed", [0, 1])), "for all seeds of a trial"),
        (
            conditional().exclude("schedule=wsd seed=0"),
            "exclude 'schedule=wsd seed=0': .*all seeds of a trial",
        ),
        (product(axis("a", [1], when="b=1"), axis("b", [1], when="a=1"), axis("seed", [0])), "circle"),
        (product(axis("a", [1], when="c=1"), axis("seed", [0])), "unknown axis 'c'"),
    ],
)
def test_what_cannot_be_searched_is_refused(grid, message):
    with pytest.raises(SpecError, match=message):
        space_of(grid)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"low": 2.0, "high": 1.0}, "the first number must be below the second"),
        ({"low": 0.0, "high": 1.0, "log": True}, r"ratios need numbers above 0"),
        ({"low": 0, "high": 2**63}, r"9223372036854775808: must have finite numbers .* at most 64 bits"),
        ({"low": 0, "high": 10**400}, r"must have finite numbers for ends, whole ones of at most 64 bits"),
        ({"low": -1e308, "high": 1e308}, r"too far apart or too close for a float; move one of them"),
        ({"low": 1e-300, "high": 1e300, "log": True}, r"too far apart or too close for a float"),
        ({"low": 5e-324, "high": 1e-323}, r"too far apart or too close for a float"),
        ({"low": 0.0, "high": float("inf")}, "finite numbers"),
    ],
)
def test_an_interval_has_two_ends_in_order(ends, message):
    with pytest.raises(SpecError, match=message):
        Interval(**ends)


def test_an_interval_is_an_axis_by_itself_and_no_grids():
    with pytest.raises(SpecError, match="mixes an interval with other values"):
        axis("optim.lr", [LR, 1e-4])
    with pytest.raises(SpecError, match=r"optim\.lr=tag\(log,interval\(1e-05,0\.001\)\): has no countable"):
        expand(product(axis("optim.lr", [LR]), axis("seed", [0])))
    with pytest.raises(SpecError, match="add search=tpe"):
        expand(concat(product(axis("optim.lr", [LR]))))
