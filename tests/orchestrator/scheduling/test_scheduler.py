"""Contracts of the scheduler, each shown with imaginary workers."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.scheduling.backlog import Group, Workload
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.events import (
    Announce,
    Beat,
    CancelAttempts,
    CancelRequested,
    Capacity,
    CapacityChanged,
    Dispatch,
    DrainRequested,
    KillWorker,
    NoteFailure,
    Reported,
    Settle,
    Shape,
    StartWorker,
    StopWorker,
    WorkerLeaving,
)
from orchestrator.scheduling.retry import RetryPolicy
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.store.outcomes import INFRASTRUCTURE, OOM, TIMEOUT
from tests.orchestrator.workers import World, done, failed, world


def of(kind, actions):
    return [a for a in actions if isinstance(a, kind)]


def test_an_undisturbed_sweep_gives_every_run_one_result():
    w = world(50, slots=3, num_groups=2)
    w.work_to_the_end()
    assert sorted(w.accepted) == list(range(50))
    assert set(w.granted.values()) == {1}


def test_runs_that_are_over_are_not_handed_out_again():
    scheduler = Scheduler(
        Workload(groups=[Group(shape=Shape(), affinity="m")], group_of=[0] * 4),
        capacity=Capacity(slots=1),
        settled=[0, 2],
    )
    w = World(scheduler)
    w.work_to_the_end()
    assert sorted(w.accepted) == [1, 3]


def test_one_canary_per_model_goes_first_until_it_makes_progress():
    w = world(10, slots=4, num_groups=2)
    w.act()
    w.all_up()
    dispatched = of(Dispatch, w.act())
    assert sorted(g.run for d in dispatched for g in d.grants) == [0, 5]
    assert not of(Dispatch, w.act())
    w.beat(dispatched[0].worker, progress=1)
    assert [g.run for d in of(Dispatch, w.act()) for g in d.grants] == [1, 2]


def test_a_canary_that_shows_nothing_holds_the_others_only_so_long():
    w = world(10, slots=2, canary_hold_s=30.0)
    w.act()
    w.all_up()
    w.act()
    w.now_s = 29.0
    for name in list(w.holding):
        w.beat(name)
    assert not of(Dispatch, w.act())
    w.now_s = 31.0
    assert of(Dispatch, w.act())


def test_short_runs_travel_in_batches_and_the_last_batches_are_small():
    w = world(1000, slots=2, unit_s=0.5)
    w.act()
    w.all_up()
    sizes = []
    for _ in range(2000):
        sizes += [len(d.grants) for d in of(Dispatch, w.act())]
        if w.scheduler.finished:
            break
        w.now_s += 0.01
        for name, grants in list(w.holding.items()):
            if grants:
                w.finish(name, done(grants[0], wall_s=0.01))
    assert w.scheduler.finished
    assert max(sizes) == 50, "half a second of 10 ms runs"
    assert sizes[-1] == 1


def test_a_worker_keeps_the_model_it_has_hot():
    w = world(40, slots=2, num_groups=2)
    served: dict[str, list[int]] = {}
    for _ in range(200):
        for d in of(Dispatch, w.act()):
            served.setdefault(d.worker, []).extend(g.run // 20 for g in d.grants)
        if w.scheduler.finished:
            break
        w.all_up()
        w.now_s += 3
        for name, grants in list(w.holding.items()):
            if grants:
                w.finish(name, done(grants[0], wall_s=3.0))
    switches = [sum(a != b for a, b in itertools.pairwise(s)) for s in served.values()]
    assert w.scheduler.finished
    assert max(switches) <= 1


def test_a_late_result_of_a_lost_worker_is_accepted_and_its_successor_recalled():
    w = world(1, slots=2)
    w.act()
    w.up("w1")
    (first,) = of(Dispatch, w.act())
    w.lose("w1")
    w.now_s = 100.0
    w.act()
    w.all_up()
    (second,) = of(Dispatch, w.act())
    w.tell(Reported(worker="w1", reports=(done(first.grants[0]),)))
    (recall,) = of(CancelAttempts, w.act())
    assert recall.tokens == (second.grants[0].token,)
    assert w.accepted == {0: first.grants[0].token}
    assert w.scheduler.num_late == 1


def test_a_second_result_of_a_run_is_never_accepted():
    w = world(1, slots=1)
    w.act()
    w.all_up()
    (d,) = of(Dispatch, w.act())
    for _ in range(3):
        w.finish(d.worker, done(d.grants[0]))
        w.act()
    assert w.accepted == {0: d.grants[0].token}


def test_only_the_run_in_progress_is_charged_when_a_worker_is_lost():
    w = world(100, slots=1)
    w.act()
    w.all_up()
    (canary,) = of(Dispatch, w.act())
    w.finish(canary.worker, done(canary.grants[0], wall_s=0.1))
    batch = [g for d in of(Dispatch, w.act()) for g in d.grants]
    assert len(batch) > 1
    w.beat(canary.worker)
    w.lose(canary.worker)
    (charged,) = of(NoteFailure, w.act())
    assert charged.run == batch[0].run
    assert charged.failure.failure_class == INFRASTRUCTURE
    w.work_to_the_end()
    assert len(w.accepted) == 100


def test_a_silent_worker_is_killed_and_its_run_goes_elsewhere():
    w = world(1, slots=1, lease_s=60.0)
    w.act()
    w.all_up()
    w.act()
    for _ in range(70):
        w.now_s += 1
        killed = of(KillWorker, w.act())
        if killed:
            break
    assert killed[0].record_stack
    assert 60 < w.now_s < 63
    w.work_to_the_end()
    assert len(w.accepted) == 1


def test_silence_while_the_driver_itself_was_away_proves_nothing():
    w = world(1, slots=1, lease_s=60.0)
    w.act()
    w.all_up()
    w.act()
    w.now_s += 3600
    assert not of(KillWorker, w.act())


def test_a_hung_worker_that_still_beats_is_replaced_and_the_run_charged_with_a_timeout():
    w = world(1, slots=1, watchdog_s=100.0)
    w.act()
    w.all_up()
    w.act()
    actions = []
    while not of(KillWorker, actions):
        w.now_s += 1
        for name in list(w.holding):
            w.beat(name, progress=7)
        actions = w.act()
    assert 100 < w.now_s < 104
    assert of(KillWorker, actions)[0].record_stack
    assert of(NoteFailure, actions)[0].failure.failure_class == TIMEOUT


def test_a_run_over_its_time_limit_is_killed_though_it_makes_progress():
    group = Group(shape=Shape(), affinity="m", timeout_s=30.0)
    w = World(Scheduler(Workload(groups=[group], group_of=[0]), capacity=Capacity(slots=1)))
    w.act()
    w.all_up()
    actions = w.act()
    while not of(KillWorker, actions):
        w.now_s += 1
        for name in list(w.holding):
            w.beat(name, progress=int(w.now_s))
        actions = w.act()
    assert 30 < w.now_s < 34


@pytest.mark.parametrize(("may_pass", "num_attempts"), [(True, 2), (False, 1)])
def test_an_exception_is_tried_again_once_if_it_may_pass_and_the_sweep_goes_on(may_pass, num_attempts):
    w = world(20, slots=1)
    w.work_to_the_end(lambda grant: failed(grant, may_pass=may_pass) if grant.run == 7 else done(grant))
    assert w.settled == {7: "quarantined"}
    assert w.granted[7] == num_attempts
    assert len(w.accepted) == 19


def test_when_the_first_runs_all_fail_alike_the_sweep_stops():
    w = world(100, slots=2, breaker_runs=4)
    w.work_to_the_end(failed)
    assert len(w.granted) <= 6
    assert w.scheduler.num_open > 90
    assert w.scheduler.groups[0].tripped


def test_the_breaker_says_what_went_wrong():
    w = world(100, slots=1, breaker_runs=1)
    w.act()
    w.all_up()
    (d,) = of(Dispatch, w.act())
    w.finish(d.worker, failed(d.grants[0]))
    (announced,) = of(Announce, w.act())
    assert "model-0" in announced.text
    assert "it broke" in announced.text


def test_a_broken_model_is_held_back_and_the_others_go_on():
    w = world(40, slots=2, num_groups=2, breaker_runs=3)
    w.work_to_the_end(lambda grant: failed(grant) if grant.run < 20 else done(grant))
    assert sorted(w.accepted) == list(range(20, 40))
    assert len([i for i in w.granted if i < 20]) <= 4


def test_failures_after_the_first_result_do_not_trip_the_breaker():
    w = world(30, slots=1, breaker_runs=3)
    w.work_to_the_end(lambda grant: done(grant) if grant.run == 0 else failed(grant))
    assert len(w.settled) == 29
    assert len(w.accepted) == 1


def test_out_of_memory_is_tried_with_a_smaller_batch():
    w = world(1, slots=1)
    w.act()
    w.all_up()
    (first,) = of(Dispatch, w.act())
    assert first.grants[0].shrink == 0
    w.finish("w1", failed(first.grants[0], OOM))
    (second,) = of(Dispatch, w.act())
    assert second.grants[0].shrink == 1


def test_a_run_that_ran_out_of_memory_keeps_away_from_that_host():
    w = world(3, slots=2)
    w.act()
    w.up("w1", host="small")
    w.up("w2", host="large")
    (canary,) = of(Dispatch, w.act())
    w.beat(canary.worker, progress=1)
    other = next(n for n in w.holding if n != canary.worker)
    (busy,) = of(Dispatch, w.act())
    assert busy.worker == other
    w.finish(canary.worker, failed(canary.grants[0], OOM))
    (again,) = of(Dispatch, w.act())
    assert again.grants[0].run == canary.grants[0].run
    w.finish(canary.worker, failed(again.grants[0], OOM))
    w.act()
    assert canary.grants[0].run not in [g.run for g in w.holding[canary.worker]]
    w.finish(other, done(busy.grants[0], wall_s=5))
    w.act()
    assert canary.grants[0].run in [g.run for g in w.holding[other]]


def test_cancelled_runs_are_not_run_and_a_running_one_is_told_to_stop():
    w = world(5, slots=1)
    w.act()
    w.all_up()
    (d,) = of(Dispatch, w.act())
    w.tell(CancelRequested(runs=(d.grants[0].run, 3)))
    actions = w.act()
    assert of(CancelAttempts, actions)[0].tokens == (d.grants[0].token,)
    assert sorted(s.run for s in of(Settle, actions)) == [0, 3]
    w.work_to_the_end()
    assert sorted(w.accepted) == [1, 2, 4]


def test_a_result_that_arrives_after_the_cancel_is_not_accepted():
    w = world(2, slots=1)
    w.act()
    w.all_up()
    (d,) = of(Dispatch, w.act())
    w.tell(CancelRequested(runs=(0,)))
    w.finish(d.worker, done(d.grants[0]))
    w.work_to_the_end()
    assert sorted(w.accepted) == [1]


def test_a_drain_hands_out_nothing_more_and_requeues_uncharged_when_its_grace_ends():
    w = world(10, slots=2)
    w.act()
    w.all_up()
    (d,) = of(Dispatch, w.act())
    w.beat(d.worker, progress=1)
    w.act()
    w.tell(DrainRequested(reason="interrupted", grace_s=10.0))
    busy = next(n for n in w.holding if n != d.worker)
    w.finish(d.worker, done(d.grants[0]))
    assert not of(Dispatch, w.act())
    assert not w.scheduler.finished
    w.now_s += 11
    actions = w.act()
    assert busy in [k.worker for k in of(KillWorker, actions)]
    assert not of(NoteFailure, actions)
    assert w.scheduler.finished
    assert w.scheduler.num_open == 9


def test_a_second_drain_can_only_shorten_the_grace():
    w = world(1, slots=1)
    w.act()
    w.all_up()
    w.act()
    w.tell(DrainRequested(reason="interrupted", grace_s=100.0))
    w.tell(DrainRequested(reason="interrupted", grace_s=0.0))
    assert of(KillWorker, w.act())


def test_nothing_is_handed_out_that_would_not_end_before_the_deadline():
    workload = Workload(groups=[Group(shape=Shape(), affinity="m")], group_of=[0] * 10)
    w = World(Scheduler(workload, capacity=Capacity(slots=1), deadline_s=100.0))
    w.work_to_the_end(lambda grant: done(grant, wall_s=30.0), step_s=15.0)
    assert len(w.accepted) == 4, "one was handed out at 60 s, none at 75 s"


def test_capacity_that_comes_and_goes_is_used_and_given_back():
    w = world(100, slots=1)
    w.act()
    w.tell(CapacityChanged(capacity=Capacity(slots=5)))
    w.act()
    assert len(w.starting) == 5
    w.all_up()
    w.act()
    w.tell(CapacityChanged(capacity=Capacity(slots=2)))
    assert len(of(StopWorker, w.act())) == 3
    w.work_to_the_end()
    assert len(w.accepted) == 100


def test_a_cap_on_gpus_can_be_changed_while_the_sweep_runs():
    shape = Shape(gpus=0.5)
    workload = Workload(groups=[Group(shape=shape, affinity="m")], group_of=[0] * 50)
    w = World(Scheduler(workload, capacity=Capacity(slots=100, gpus=4.0)))
    w.act()
    assert len(w.starting) == 8
    w.all_up()
    w.act()
    w.scheduler.cap(max_slots=0, max_gpus=1.0)
    w.act()
    assert len(w.scheduler.fleet) == 2
    w.scheduler.cap(max_slots=0, max_gpus=0.0)
    w.now_s += 2
    w.act()
    assert len(w.scheduler.fleet) == 8


def test_a_gang_takes_a_slot_and_its_gpus_per_rank():
    gang = Shape(world_size=2, gpus=1.0)
    workload = Workload(groups=[Group(shape=gang, affinity="m")], group_of=[0] * 9)
    w = World(Scheduler(workload, capacity=Capacity(slots=64, gpus=5.0)))
    w.act()
    assert len(w.starting) == 2


def test_idle_workers_of_one_shape_make_room_for_another():
    shapes = [Shape(world_size=1), Shape(world_size=2)]
    groups = [Group(shape=s, affinity="m") for s in shapes]
    w = World(Scheduler(Workload(groups=groups, group_of=[0, 0, 1, 1]), capacity=Capacity(slots=2)))
    w.work_to_the_end()
    assert sorted(w.accepted) == [0, 1, 2, 3]


def test_a_worker_above_its_memory_watermark_is_replaced_once_idle():
    w = world(10, slots=1, memory_watermark_gib=2.0)
    w.act()
    w.all_up()
    (d,) = of(Dispatch, w.act())
    w.tell(Beat(worker=d.worker, token=d.grants[0].token, progress=1, memory_gib=2.5))
    assert not of(StopWorker, w.act())
    w.finish(d.worker, done(d.grants[0]))
    w.act()
    actions = w.act()
    assert of(StopWorker, actions) or w.starting
    w.work_to_the_end()
    assert len(w.accepted) == 10


def test_workers_that_die_while_starting_end_the_sweep_with_the_reason():
    w = world(10, slots=1, start_failures=3)
    for _ in range(200):
        w.act()
        if w.scheduler.finished:
            break
        for name in list(w.starting):
            w.lose(name)
        w.now_s += 1
    assert w.scheduler.finished
    assert "workers died while starting 3 times in a row" in w.scheduler.stop_reason


def test_a_node_that_dies_while_its_workers_start_does_not_end_the_sweep():
    w = world(20, slots=8, start_failures=3)
    w.act()
    assert len(w.starting) == 8
    for name in list(w.starting):
        w.lose(name)
    w.work_to_the_end()
    assert len(w.accepted) == 20
    assert not w.scheduler.stop_reason


def test_lost_workers_are_retried_with_growing_pauses_until_the_budget_ends():
    w = world(1, slots=1)
    starts = []
    while not w.settled:
        for d in of(Dispatch, w.act()):
            starts.append(w.now_s)
            w.lose(d.worker)
        w.all_up()
        w.now_s += 0.25
        assert w.now_s < 1000
    pauses = [b - a for a, b in itertools.pairwise(starts)]
    assert len(starts) == 1 + SchedulerConfig().policy.infrastructure
    assert pauses == sorted(pauses)
    assert w.settled == {0: "failed"}


def test_bundles_stay_together():
    bundles = [i // 3 for i in range(12)]
    workload = Workload(groups=[Group(shape=Shape(), affinity="m")], group_of=[0] * 12, bundle_of=bundles)
    w = World(Scheduler(workload, capacity=Capacity(slots=2)))
    batches = []
    for _ in range(100):
        batches += [[g.run for g in d.grants] for d in of(Dispatch, w.act())]
        if w.scheduler.finished:
            break
        w.all_up()
        w.now_s += 5
        for name, grants in list(w.holding.items()):
            for grant in list(grants):
                w.finish(name, done(grant, wall_s=5.0))
    assert sorted(batches) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


def test_starting_a_worker_names_a_run_it_will_serve():
    w = world(4, slots=1, num_groups=2)
    (start,) = of(StartWorker, w.act())
    assert start.runs_like == 0


def test_a_worker_that_waits_for_room_is_not_killed_for_being_late():
    w = world(start_s=10.0)
    w.act()
    waiting, forgotten = w.starting
    while w.now_s < 30.0:
        w.now_s += 1.0
        w.tell(Beat(worker=waiting, token=0, progress=0))
        w.act()
    assert waiting in w.starting
    assert forgotten not in w.starting


def test_a_worker_whose_machine_is_taken_away_ends_what_it_has_begun_and_gets_nothing_more():
    w = world(100, slots=2)
    w.act()
    w.all_up()
    (canary,) = of(Dispatch, w.act())
    w.finish(canary.worker, done(canary.grants[0], wall_s=0.1))
    w.act()
    leaving, other = canary.worker, next(n for n in w.holding if n != canary.worker)
    begun, *waiting = [g.run for g in w.holding[leaving]]
    assert waiting
    w.beat(leaving)
    w.tell(WorkerLeaving(worker=leaving))
    w.tell(CapacityChanged(capacity=Capacity(slots=1)))
    w.act()
    assert [g.run for g in w.holding[leaving]] == [begun], "what it has not begun is taken back"
    w.finish(leaving, done(w.holding[leaving][0]))
    assert leaving in [s.worker for s in of(StopWorker, w.act())]
    assert other in w.holding
    w.work_to_the_end()
    assert sorted(w.accepted) == list(range(100))


def test_no_run_is_charged_for_a_machine_that_was_taken_away():
    w = world(3, slots=1, policy=RetryPolicy(infrastructure=0))
    w.act()
    w.all_up()
    w.act()
    (name,) = w.holding
    w.tell(WorkerLeaving(worker=name))
    w.act()
    w.lose(name)
    assert not of(NoteFailure, w.act())
    w.work_to_the_end()
    assert sorted(w.accepted) == [0, 1, 2]
