"""Whatever order events come in, no run is lost and none is done twice; ``World`` checks each promise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.scheduling.events import (
    CancelRequested,
    Capacity,
    CapacityChanged,
    DrainRequested,
    Reported,
    WorkerLost,
)
from orchestrator.store.outcomes import ERROR, OOM, TIMEOUT
from tests.orchestrator.workers import World, done, failed, world

KINDS = (
    "up",
    "finish",
    "late",
    "duplicate",
    "lose",
    "fail",
    "beat",
    "clock",
    "capacity",
    "cancel",
    "cap",
    "rumour",
)

steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1000), st.integers(0, 1000)), max_size=150)


def pick(items, number):
    items = sorted(items)
    return items[number % len(items)] if items else None


def disturb(w: World, kind: str, a: int, b: int) -> None:
    """One event of an unfair world."""
    busy = [n for n, grants in w.holding.items() if grants]
    match kind:
        case "up" if w.starting:
            w.up(pick(w.starting, a), host=f"host-{b % 3}")
        case "finish" if busy:
            name = pick(busy, a)
            w.finish(name, done(w.holding[name][0], wall_s=0.01 * (b % 500)))
        case "late":
            stale = [(n, g) for n, grants in w.gone.items() for g in grants]
            if stale:
                name, grant = pick(stale, a)
                w.tell(Reported(worker=name, reports=(done(grant),)))
        case "duplicate" if busy:
            name = pick(busy, a)
            grant = w.holding[name][0]
            w.finish(name, done(grant))
            w.tell(Reported(worker=name, reports=(done(grant),)))
        case "lose" if w.holding or w.starting:
            w.lose(pick([*w.holding, *w.starting], a))
        case "fail" if busy:
            name = pick(busy, a)
            kind = pick([ERROR, OOM, TIMEOUT], b)
            w.finish(name, failed(w.holding[name][0], kind, fingerprint=f"f{b % 7}", may_pass=b % 2 == 0))
        case "beat" if w.holding:
            w.beat(pick(w.holding, a), progress=b)
        case "clock":
            w.now_s += (a - 300) / 10  # sometimes backwards
        case "capacity":
            w.tell(CapacityChanged(capacity=Capacity(slots=a % 5)))
        case "cancel" if a % 5 == 0:
            w.tell(CancelRequested(runs=(b % 30,)))
        case "cap":
            w.scheduler.cap(max_slots=a % 4, max_gpus=0.0)
        case "rumour":
            w.tell(WorkerLost(worker=f"w{b}-unknown", reason="never heard of"))


@settings(max_examples=300, deadline=None)
@given(steps=steps, groups=st.integers(1, 3))
def test_no_run_is_lost_or_doubled_under_any_order_of_events(steps, groups):
    w = world(30, slots=3, num_groups=groups, breaker_runs=1000, start_failures=10**6)
    for kind, a, b in steps:
        disturb(w, kind, a, b)
        w.act()
    w.tell(CapacityChanged(capacity=Capacity(slots=3)))
    w.scheduler.cap(max_slots=0, max_gpus=0.0)
    w.work_to_the_end()
    assert w.accepted.keys() | w.settled.keys() == set(range(30))
    assert w.scheduler.num_open == 0
    assert w.scheduler.num_leased == 0


@settings(max_examples=100, deadline=None)
@given(steps=steps, grace_s=st.integers(0, 30))
def test_a_drain_ends_in_bounded_time_from_any_state(steps, grace_s):
    w = world(30, slots=3, breaker_runs=1000, start_failures=10**6)
    for kind, a, b in steps:
        disturb(w, kind, a, b)
        w.act()
    before = dict(w.granted)
    w.tell(DrainRequested(reason="interrupted", grace_s=float(grace_s)))
    w.act()
    w.now_s = max(w.now_s, w.scheduler._now_s) + grace_s + 1
    w.act()
    assert w.scheduler.finished
    assert w.granted == before
    assert not w.scheduler.num_leased
    open_runs = 30 - len(w.accepted) - len(w.settled)
    assert w.scheduler.num_open == open_runs


@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_the_scheduler_is_a_function_of_what_it_is_told(steps):
    def story():
        w = world(30, slots=3, num_groups=2)
        decided = []
        for kind, a, b in steps:
            disturb(w, kind, a, b)
            decided.append(repr(w.act()))
        return decided

    assert story() == story()
