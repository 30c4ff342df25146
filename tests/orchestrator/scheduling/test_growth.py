"""What a growing cluster is asked for, what nodes hold, and when an idle worker gives its node back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.events import Beat, Capacity, Node, Shape, WorkerReady
from orchestrator.scheduling.fleet import Fleet
from orchestrator.scheduling.growth import Feeler, asked_for, useful_workers
from orchestrator.store.outcomes import Grant

SMALL, GANG, HALF = Shape(), Shape(world_size=2, gpus=1), Shape(gpus=0.5)


@pytest.mark.parametrize(
    ("shape", "room"),
    [
        (Shape(gpus=0.4), 4),
        (Shape(gpus=0.1), 20),
        (Shape(gpus=1), 2),
        (Shape(gpus=2), 1),
        (Shape(gpus=3), 0),
        (Shape(cpus=3), 10),
        (Shape(cpus=3, gpus=0.5), 4),
        (Shape(memory_gib=50), 2),
    ],
)
def test_a_node_holds_as_many_processes_as_the_scarcest_of_its_parts_carries(shape, room):
    assert Node(cpus=32, gpus=2, memory_gib=100).room(shape) == room


def test_nodes_are_enough_when_every_shape_finds_its_part_of_them():
    four = Capacity(slots=4, nodes=(Node(cpus=2), Node(cpus=2)), grows=True)
    wide = Shape(cpus=2)
    assert four.holds({})
    assert four.holds({SMALL: 4})
    assert four.holds({SMALL: 2, wide: 1})
    assert not four.holds({SMALL: 3, wide: 1})
    assert not four.holds({SMALL: 5})
    assert not four.holds({Shape(gpus=1): 1})
    assert not Capacity(slots=0, grows=True).holds({SMALL: 1})


def test_what_is_left_over_on_two_nodes_makes_no_third_worker():
    fleet = Fleet(Capacity(slots=64, gpus=6.0, nodes=(Node(gpus=3), Node(gpus=3))), "")
    shape = Shape(gpus=2)
    for asked in fleet.to_start(SchedulerConfig(), {shape: 10}, 0.0):
        fleet.enlist(asked, 0.0)
    assert len(fleet) == 2


def test_no_worker_starts_where_no_node_is_until_one_joins():
    fleet = Fleet(Capacity(slots=8, grows=True), "")
    assert not list(fleet.to_start(SchedulerConfig(), {SMALL: 3}, 0.0))
    fleet.capacity = Capacity(slots=8, grows=True, nodes=(Node(cpus=2),))
    for asked in fleet.to_start(SchedulerConfig(), {SMALL: 3}, 0.0):
        fleet.enlist(asked, 0.0)
    assert len(fleet) == 2


def test_as_much_is_asked_for_as_the_work_and_the_caps_allow():
    assert asked_for({SMALL: useful_workers(300, None)}, SchedulerConfig()) == {SMALL: 300}
    assert asked_for({SMALL: useful_workers(300, 1.0)}, SchedulerConfig()) == {SMALL: 10}
    assert asked_for({SMALL: useful_workers(3, 1e5)}, SchedulerConfig()) == {SMALL: 3}
    assert asked_for({SMALL: useful_workers(1, 1e-3)}, SchedulerConfig()) == {SMALL: 1}
    assert asked_for({SMALL: 0.0}, SchedulerConfig()) == {}
    assert asked_for({GANG: 5.0, SMALL: 9.0}, SchedulerConfig(max_slots=7)) == {GANG: 3, SMALL: 1}
    assert asked_for({HALF: 9.0}, SchedulerConfig(max_gpus=2)) == {HALF: 4}


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_all_that_can_be_given_is_found_in_few_steps_and_never_more_is_held(most, wanted):
    feeler, granted = Feeler(), 0
    for step in range(40):
        asked = feeler.next({SMALL: wanted}).get(SMALL, 0)
        assert asked <= wanted
        if not feeler.is_trying:
            assert asked == min(most, wanted)
            assert step <= 2 * math.log2(wanted + 4)
            return
        feeler.judge(feasible=asked <= most)
        granted = max(granted, asked if asked <= most else 0)
    raise AssertionError("it never settled")


def test_a_shape_that_cannot_be_had_leaves_the_others_what_they_need():
    feeler = Feeler()
    for _ in range(30):
        asked = feeler.next({GANG: 4, SMALL: 4})
        feeler.judge(feasible=GANG not in asked)
    assert feeler.next({GANG: 4, SMALL: 4}) == {SMALL: 4}


def grown(num, grows=True):
    """A fleet of idle workers, up at second 0, the first of which works."""
    fleet = Fleet(Capacity(slots=num, grows=grows, nodes=(Node(),)), "")
    for _ in range(num):
        worker = fleet.enlist(SMALL, 0.0)
        worker.ready = WorkerReady(worker=worker.name, host="h") is not None
    first = next(iter(fleet))
    first.leases[1] = Grant(0, 0, 1)
    first.hear(Beat(worker=first.name, token=1, progress=1), 0.0)
    return fleet


def retired(fleet, now_s, waiting=0, due=0):
    settings = SchedulerConfig(give_back_s=10.0)
    return len(fleet.retire(settings, {SMALL: waiting}, {SMALL: due}, now_s))


def test_idle_workers_beyond_the_runs_that_are_left_end_after_a_while_where_nodes_go():
    assert retired(grown(4), 9.0) == 0
    assert retired(grown(4), 11.0) == 3
    assert retired(grown(4), 11.0, waiting=1, due=1) == 1
    assert retired(grown(4, grows=False), 1e6) == 0


def test_a_worker_that_is_not_up_and_not_needed_any_more_ends_at_once():
    fleet = grown(3)
    list(fleet)[2].ready = False
    assert retired(fleet, 1.0) == 1
    assert retired(grown(3), 1.0) == 0
