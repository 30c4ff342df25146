"""Proposals: what each sampler says depends on its questions and answers alone."""

from __future__ import annotations

import itertools
import math
import sys

import pytest

from sweeps.deciding.proposing import Proposal, Proposer, rounded
from sweeps.grid.axes import Interval
from sweeps.grid.grid import axis, product
from sweeps.grid.space import space_of
from sweeps.spec.errors import SpecError
from sweeps.spec.sampler_rules import SAMPLERS, SamplerSpec

GRID = product(
    axis("schedule", ["constant", "wsd"]),
    axis("schedule.decay_fraction", [Interval(low=0.05, high=0.5)], when="schedule=wsd"),
    axis("optim.lr", [Interval(low=1e-5, high=1e-3, log=True)]),
    axis("steps", [Interval(low=2, high=20)]),
    axis("seed", [0, 1]),
)
SPACE = space_of(GRID)


def score(point):
    return -(math.log(point["optim.lr"] / 1e-4) ** 2) - (point["schedule"] == "wsd")


def searched(kind, num, *, maximize=True, space=SPACE, seed=4):
    """Proposals, each told of two steps behind the question, as two workers would."""
    proposer = Proposer(space, SamplerSpec(kind=kind, seed=seed), maximize=maximize)
    found = []
    for number in range(num):
        if number >= 2:
            proposer.tell(number - 2, (1 if maximize else -1) * score(found[number - 2].point))
        found.append(proposer.ask())
    return found


NUM = {"gp": 13}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_proposal_is_a_point_of_the_space(kind):
    found = searched(kind, NUM.get(kind, 30))
    assert [p.number for p in found] == list(range(len(found)))
    assert all(SPACE.holds(p.point) for p in found)
    assert {p.point["schedule"] for p in found} == {"constant", "wsd"}
    assert all(isinstance(p.point["steps"], int) for p in found)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_search_that_is_taken_up_again_proposes_what_it_would_have(kind):
    whole = searched(kind, NUM.get(kind, 30))
    half = len(whole) - 2
    proposer = Proposer(SPACE, SamplerSpec(kind=kind, seed=4), maximize=True)
    for number, proposal in enumerate(whole):
        if number >= 2:
            proposer.tell(number - 2, score(whole[number - 2].point))
        if number < half:
            proposer.again(proposal)
        else:
            assert proposer.ask() == proposal


@pytest.mark.parametrize(
    ("kind", "maximize"), [("tpe", True), ("tpe", False), ("cmaes", False), ("gp", True)]
)
def test_samplers_that_learn_look_where_it_was_good_whichever_way_is_better(kind, maximize):
    found = searched(kind, 16 if kind == "gp" else 60, maximize=maximize)
    distance = [abs(math.log(p.point["optim.lr"] / 1e-4)) for p in found]
    num = len(found) // 4
    assert sum(distance[-num:]) < sum(distance[:num]), "the last quarter is nearer than the first"


def test_another_seed_is_another_search():
    assert searched("random", 5, seed=1) != searched("random", 5, seed=2)


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "qmc"])
def test_a_trial_of_another_space_is_passed_over(kind):
    proposer = Proposer(SPACE, SamplerSpec(kind=kind), maximize=True)
    proposer.again(Proposal(number=0, point={"schedule": "cosine", "optim.lr": 1.0, "steps": 3}))
    proposer.tell(0, 1.0)
    assert SPACE.holds(proposer.ask().point)
    assert proposer.next_number == 2


def test_refused_and_stopped_proposals_are_no_values():
    proposer = Proposer(SPACE, SamplerSpec(kind="tpe", startup=1), maximize=True)
    for number in range(6):
        proposer.ask()
        proposer.tell(number, None, stopped=number % 2 == 0)
    assert SPACE.holds(proposer.ask().point)


@pytest.mark.parametrize(
    ("interval", "value", "expected"),
    [
        (Interval(low=1e-5, high=1e-3, log=True), 0.00013374901234, 0.0001337),
        (Interval(low=0.0, high=1.0), 0.123456789, 0.1235),
        (Interval(low=0.99, high=1.0), 0.991234567, 0.991235),
        (Interval(low=0.99, high=1.0, log=True), 0.991234567, 0.991235),
        (Interval(low=0.0, high=4e6), 1234567.8, 1234600.0),
        (Interval(low=1.00004, high=2.0), 1.000041, 1.00004),
    ],
)
def test_numbers_are_short_and_inside(interval, value, expected):
    found = rounded(value, interval)
    assert found == pytest.approx(expected, rel=1e-12)
    assert interval.low <= found <= interval.high


def test_rounding_keeps_thousands_of_numbers_apart():
    for interval in (Interval(low=1e-5, high=1e-3, log=True), Interval(low=0.9, high=0.901)):
        values = {
            rounded(interval.low + k / 3000 * (interval.high - interval.low), interval) for k in range(3001)
        }
        assert len(values) > 2000


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SpecError, match=r"search=tpe: needs optuna.*pip install 'emsweep\[search\]'"):
        Proposer(SPACE, SamplerSpec(kind="tpe"), maximize=True)


def test_cmaes_needs_its_own_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    Proposer(SPACE, SamplerSpec(kind="tpe"), maximize=True)
    with pytest.raises(SpecError, match="needs cmaes"):
        Proposer(SPACE, SamplerSpec(kind="cmaes"), maximize=True)


def test_choices_may_be_lists_and_nothing():
    space = space_of(product(axis("example.rows", [[0, 1], [2]]), axis("seed", [0])))
    found = {str(p.point["example.rows"]) for p in searched_values(space, 12)}
    assert found == {"[0, 1]", "[2]"}


def searched_values(space, num):
    proposer = Proposer(space, SamplerSpec(kind="tpe", startup=3), maximize=True)
    for number in itertools.count():
        if number == num:
            return
        proposal = proposer.ask()
        proposer.tell(number, 0.0)
        yield proposal
