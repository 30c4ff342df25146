import dataclasses
import functools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.compose import compose_sweep
from sweeps.cost import work_count
from sweeps.cost.work_count import count_work
from sweeps.grid.grid import axis, product
from sweeps.manifest.build import build_manifest
from sweeps.sharing.batches import batches
from sweeps.spec import InitSpec
from tests.sweeps.shipped import shipped
from tests.sweeps.toy import Toy

KEYS = {
    "steps": st.integers(1, 5),
    "seed": st.integers(0, 3),
    "optim.lr": st.sampled_from([1e-4, 2e-4]),
    "optim.weight_decay": st.sampled_from([0.0, 0.1]),
    "schedule": st.sampled_from(["constant", "linear", "cosine"]),
    "schedule.warmup_steps": st.integers(0, 2),
    "objective.temperature": st.sampled_from([0.5, 1.0]),
    "sampling.temperature": st.sampled_from([0.5, 1.0]),
    "eval.steps": st.lists(st.integers(0, 5), max_size=2),
    "eval.num_samples": st.integers(1, 2),
}


@functools.cache
def composed():
    """One composition that knows every option the tests use."""
    return compose_sweep(["example=text"], grid=product(axis("schedule", ["constant", "linear", "cosine"])))


def build(grid):
    return build_manifest(dataclasses.replace(composed(), grid=grid))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_counts_are_what_a_trainer_that_counts_finds(data):
    keys = data.draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4, unique=True))
    manifest = build(product(*(axis(k, data.draw(st.lists(KEYS[k], min_size=1, max_size=3))) for k in keys)))
    specs = [manifest.spec(i) for i in range(len(manifest))]
    work = count_work(manifest)
    alone, shared = Toy(), Toy()
    for spec in specs:
        alone.run(spec)
    shared.run_group(specs)
    for name in ("steps", "rollout_batches", "gradients", "eval_passes", "base_eval_passes"):
        assert getattr(work.naive, name) == alone.counts[name], name
        assert getattr(work.shared, name) == shared.counts[name], name


def test_horizons_save_what_the_study_of_stage_trees_saved():
    work = count_work(build_manifest(shipped("horizons")))
    assert work.naive.steps / work.shared.steps >= 4.8


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(num=st.integers(1, 30), steps=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_batches_hold_each_run_once_and_part_only_between_trunks_of_kin(num, steps):
    axes = (axis("optim.weight_decay", [0.0, 0.1]), axis("steps", steps), axis("seed", range(4)))
    manifest = build(product(*axes))
    batch_list = batches(manifest, range(len(manifest)), num)
    assert sorted(row for batch in batch_list for row in batch) == list(range(len(manifest)))
    for batch in batch_list:
        assert len({manifest.seeds[row] for row in batch}) == 1
        decays = {manifest.spec(row).optim.weight_decay for row in batch}
        assert len(batch) <= num or len(decays) == 1
    assert sum(_steps(manifest, batch) for batch in batch_list) == count_work(manifest).shared.steps


def _steps(manifest, batch):
    counted = Toy()
    counted.run_group([manifest.spec(row) for row in batch])
    return counted.counts["steps"]


def test_steps_that_try_rates_are_counted_once_for_runs_that_find_the_same():
    """Twice 10 rates for 8 steps each in the longer run, once in the shorter, whose are the first ones."""
    words = ["schedule=autolrs", "schedule.probe_every_steps=80", "example=text", "eval=none"]
    work = count_work(build_manifest(compose_sweep([*words, "steps=80,170"])))
    assert work.naive.steps == work.naive.gradients == 80 + 170 + 3 * 80
    assert work.shared.steps == 170 + 2 * 80
    assert work.naive.rollout_batches == 80 + 170 + 3 * 70
    assert work.shared.rollout_batches == 170 + 2 * 70


def test_so_are_those_of_runs_that_start_from_others():
    """The phases of a run are walked; its work is that of a run after a run."""
    words = ["schedule=autolrs", "schedule.probe_every_steps=80", "example=text", "eval=none"]
    plain = build_manifest(compose_sweep([*words, "steps=170"])).spec(0)
    start = InitSpec(changes={"init": {}, "steps": 80})
    work = work_count._count_phases([plain, dataclasses.replace(plain, init=start)])
    assert work.naive.steps == 2 * (170 + 2 * 80) + 80 + 80
    assert work.shared.steps == (170 + 2 * 80) + (170 + 2 * 80)
    assert work.shared.rollout_batches == 2 * (170 + 2 * 70)
