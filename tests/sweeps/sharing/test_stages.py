import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.sharing.stages import plan_stages, start_key
from sweeps.spec import InitSpec, RunSpec, ScheduleSpec, group_to_dict
from tests.sweeps.toy import Toy


def run(**changes):
    """A run with some values changed, keyed like `schedule__name`."""
    spec = RunSpec()
    for key, value in changes.items():
        group, _, name = key.partition("__")
        old = getattr(spec, group)
        spec = dataclasses.replace(
            spec, **{group: dataclasses.replace(old, **{name: value}) if name else value}
        )
    return spec


RUNS = st.builds(
    run,
    steps=st.integers(1, 6),
    seed=st.integers(0, 1),
    optim__lr=st.sampled_from([1.0, 2.0]),
    optim__weight_decay=st.sampled_from([0.0, 0.1]),
    schedule__name=st.sampled_from(["constant", "linear", "cosine", "wsd"]),
    schedule__warmup_steps=st.integers(0, 3),
    objective__temperature=st.sampled_from([0.5, 1.0]),
    sampling__temperature=st.sampled_from([0.5, 1.0]),
    eval__path=st.sampled_from([None, "b"]),
    eval__steps=st.lists(st.integers(0, 6), max_size=3).map(tuple),
    eval__num_samples=st.integers(1, 2),
    engine__micro_batch=st.sampled_from([0, 2]),
)


@settings(max_examples=60, deadline=None)
@given(specs=st.lists(RUNS, min_size=1, max_size=12))
def test_shared_runs_record_bit_for_bit_what_unshared_runs_do(specs):
    assert Toy().run_group(specs) == [Toy().run(spec) for spec in specs]


@settings(max_examples=40, deadline=None)
@given(specs=st.lists(RUNS, min_size=1, max_size=12))
def test_no_state_is_reached_twice(specs):
    shared, reached = Toy(), set()
    for record in shared.run_group(specs):
        reached |= {weights for (weights,) in (v for k, v in record.items() if isinstance(k, int))}
    assert shared.counts["steps"] == len(reached)


def test_horizons_under_a_constant_rate_are_prefixes_of_the_longest():
    [stage] = plan_stages([run(steps=n, schedule__name="constant") for n in (4, 2, 4, 1)])
    assert stage.num_steps == 4
    chain = [stage]
    while chain[-1].children:
        chain += chain[-1].children
    assert [(s.first_step, len(s.lrs), s.ends) for s in chain] == [(1, 1, (3,)), (2, 1, (1,)), (3, 2, (0, 2))]


def test_horizons_under_a_schedule_that_depends_on_them_share_nothing_but_step_zero():
    specs = [run(steps=n, schedule__name="linear", seed=1) for n in (3, 4)]
    stages = plan_stages(specs)
    assert sum(s.num_steps for s in stages) == 3 + 3  # both begin at the peak rate, then part
    assert [s.runs for s in stages] == [(0, 1)]
    assert [c.runs for c in stages[0].children] == [(0,), (1,)]


def test_runs_fork_where_their_rates_part():
    specs = [run(steps=10, schedule__name="wsd", schedule__decay_fraction=f) for f in (0.2, 0.4)]
    [stage] = plan_stages([*specs, run(steps=10)])
    assert (stage.first_step, len(stage.lrs), stage.runs) == (1, 6, (0, 1, 2))
    assert {c.runs for c in stage.children} == {(0, 2), (1,)}


def test_different_rates_share_rollouts_and_gradient_but_no_step():
    shared = Toy()
    shared.run_group([run(optim__lr=lr, steps=2) for lr in (1.0, 2.0, 3.0)])
    assert shared.counts["steps"] == 6
    assert shared.counts["rollout_batches"] == shared.counts["gradients"] == 1 + 3


def test_evaluation_axes_train_nothing_twice():
    shared = Toy()
    shared.run_group([run(steps=3, eval__path="b", eval__max_new_tokens=n) for n in (8, 16, 32)])
    assert shared.counts["steps"] == 3


@pytest.mark.parametrize("key", ["engine__zero_stage", "engine__micro_batch", "resources__world_size"])
def test_another_layout_shares_nothing(key):
    stages = plan_stages([run(), run(**{key: 2})])
    assert [s.runs for s in stages] == [(0,), (1,)]


def test_where_training_starts_is_told_by_all_that_decides_it_and_nothing_else():
    def starting(**changes):
        return run(init=InitSpec(changes=changes))

    assert start_key(run()) == ""
    assert start_key(run(init=InitSpec(runs=("a" * 32,), folders=("kept",)))) != ""
    starts = [starting(seed=1), starting(seed=2), starting(seed=1, steps=5)]
    assert len({start_key(spec) for spec in starts}) == 3
    assert start_key(dataclasses.replace(starts[2], steps=3, seed=7)) == start_key(starts[2])


def test_runs_that_find_their_rates_share_what_they_find_alike_and_nothing_with_other_schedules():
    found = [run(schedule__name="constant", steps=n) for n in (100, 150, 200)]
    search = ScheduleSpec(name="autolrs")
    found = [dataclasses.replace(spec, schedule=search) for spec in found]
    stages = plan_stages([*found, run(steps=100)])
    assert [s.runs for s in stages] == [(0, 1, 2), (3,)]
    assert (stages[0].ends, len(stages[0].lrs)) == ((0,), 100)
    assert [(c.runs, len(c.lrs)) for c in stages[0].children] == [((1,), 50), ((2,), 100)]
    other = dataclasses.replace(search, probe_lowest_ratio=0.1)
    parted = plan_stages([found[0], dataclasses.replace(found[0], schedule=other)])
    assert [s.runs for s in parted] == [(0,), (1,)]


def test_what_later_runs_start_from_tells_how_rates_were_found():
    search = [ScheduleSpec(name="autolrs", probe_lowest_ratio=ratio) for ratio in (0.1, 0.2)]
    starts = [
        dataclasses.replace(
            run(steps=3),
            init=InitSpec(changes={"init": {}, "steps": 100, "schedule": group_to_dict(schedule)}),
        )
        for schedule in search
    ]
    assert len({start_key(spec) for spec in starts}) == 2
