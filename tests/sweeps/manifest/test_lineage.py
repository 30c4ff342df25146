import numpy as np
import pytest

from orchestrator.driver.session import Session
from orchestrator.store import digest_writer
from orchestrator.store.earlier_sweep import EarlierSweep
from orchestrator.store.layout import Layout
from sweeps.compose import compose_sweep
from sweeps.cost.work_count import count_work
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest_file import read_manifest, write_manifest
from sweeps.sharing.batches import batches
from sweeps.sharing.stages import plan_stages
from sweeps.spec import phases_of
from sweeps.spec.errors import SpecError

SWEEP = """
# @package _global_
eval: {{steps: [0, 2], limit: 10}}
steps: 2
example: {{answer_field: answer}}
sweep:
  axes:
    init_from: [{init_from}]
    objective: [em, grpo]
    optim.lr: [1e-4, 2e-4]
    seed: range(3)
"""


def manifest(tmp_path, init_from="base, objective=em, objective=grpo", *words, sweep=SWEEP):
    path = tmp_path / "order.yaml"
    path.write_text(sweep.format(init_from=init_from))
    return build_manifest(compose_sweep([f"sweep={path}", *words]), EarlierSweep)


def by_axes(built, **wanted):
    wanted = {key.replace("__", "."): value for key, value in wanted.items()}
    rows = [i for i in range(len(built)) if built.axis_values(i).items() >= wanted.items()]
    [row] = rows
    return row


def test_a_cell_means_its_run_with_the_same_seed_and_all_else_alike(tmp_path):
    built = manifest(tmp_path)
    assert len(built) == 3 * 2 * 2 * 3
    child = by_axes(built, init_from="objective=em", objective="grpo", optim__lr=2e-4, seed=2)
    parent = by_axes(built, init_from="base", objective="em", optim__lr=2e-4, seed=2)
    first, second = phases_of(built.spec(child))
    assert first == built.spec(parent)
    assert first.run_id == built.run_ids[parent]
    assert second.run_id == built.run_ids[child]
    assert len(set(built.run_ids)) == len(built)


def test_other_runs_keep_their_identity(tmp_path):
    with_others = manifest(tmp_path)
    assert set(manifest(tmp_path, "base").run_ids) < set(with_others.run_ids)


def test_null_and_base_are_the_same_start(tmp_path):
    built = manifest(tmp_path, "null, objective=em")
    assert built.run_ids == manifest(tmp_path, "base, objective=em").run_ids
    write_manifest(built, tmp_path / "manifest.parquet")
    assert read_manifest(tmp_path / "manifest.parquet").digest == built.digest


def test_three_phases_may_be_named_from_inside(tmp_path):
    inner = "\"objective=grpo init_from='objective=em'\""
    built = manifest(tmp_path, f"base, objective=em, {inner}")
    row = by_axes(built, init_from=inner.strip('"'), objective="em", optim__lr=1e-4, seed=0)
    assert [p.objective.name for p in phases_of(built.spec(row))] == ["em", "grpo", "em"]


def test_a_run_may_be_named_by_its_id(tmp_path):
    alone = manifest(tmp_path, "base")
    wanted = by_axes(alone, objective="em", optim__lr=1e-4, seed=1)
    run_id = alone.run_ids[wanted]
    built = manifest(tmp_path, f"base, '{run_id[:12]}'")
    children = [i for i in range(len(built)) if built.axis_values(i)["init_from"] != "base"]
    assert {built.spec(i).parent.run_id for i in children} == {run_id}
    assert len(children) == len(alone)


def test_a_manifest_with_phases_survives_its_file(tmp_path):
    built = manifest(tmp_path)
    write_manifest(built, tmp_path / "manifest.parquet")
    again = read_manifest(tmp_path / "manifest.parquet")
    assert again.digest == built.digest
    assert [again.spec(i).run_id for i in range(len(again))] == built.run_ids


def test_what_is_counted_is_what_is_planned_and_travels_with_what_it_starts_from(tmp_path):
    built = manifest(tmp_path)
    work = count_work(built)
    # Alone: 12 runs of 2 steps and 24 of 4. Shared: each of 12 first phases, and each later one, once.
    assert work.naive.steps == 12 * 2 + 24 * 4
    assert work.shared.steps == 12 * 2 + 24 * 2
    for batch in batches(built, np.arange(len(built)), max_runs=64):
        ids = {built.run_ids[i] for i in batch}
        assert all(s.parent is None or s.parent.run_id in ids for s in map(built.spec, batch))
    without_parents = [i for i in range(len(built)) if built.spec(i).parent]
    left = built.take(without_parents)
    planned = [plan_stages([left.spec(i) for i in batch]) for batch in batches(left, range(len(left)), 64)]
    assert (
        sum(t.num_steps for trees in planned for t in trees)
        == count_work(left).shared.steps
        == 12 * 2 + 24 * 2
    )


ONE = SWEEP.replace("optim.lr: [1e-4, 2e-4]", "model: [tiny-32, tiny-64]")


@pytest.mark.parametrize(
    ("init_from", "sweep", "says"),
    [
        ("base, objective=rgra", SWEEP, "no run of this sweep has objective=rgra"),
        ("objective=em", SWEEP, "starts from the base model"),
        ("base, optim.lr=1e-4 seed>=0", SWEEP, "3 runs match"),
        ("base, schedule=wsd", SWEEP, "schedule"),
        ("base, model=tiny-32", ONE, "weights carry over within one model only"),
        ("base, 0123456789abcdef", SWEEP, "no such run"),
        ("base, nonsense", SWEEP, "neither axis values"),
        ("base, nowhere/0123456789abcdef", SWEEP, "no such manifest"),
    ],
)
def test_references_that_lead_nowhere_are_refused(tmp_path, init_from, sweep, says):
    with pytest.raises(SpecError, match=says):
        manifest(tmp_path, init_from, sweep=sweep)


def test_runs_that_would_start_from_one_another_are_refused(tmp_path):
    with pytest.raises(SpecError, match="start from one another"):
        manifest(tmp_path, '"objective=em,grpo init_from=*"', "objective=em", "optim.lr=1e-4")


def kept(tmp_path, outcome, steps_dir="step-2"):
    """A sweep directory as far as it matters here: manifest, outcomes, weights."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    earlier = manifest(tmp_path, "base", "resources.keep_checkpoints=last")
    folder = tmp_path / "earlier"
    (folder / "checkpoints" / earlier.run_ids[0] / steps_dir).mkdir(parents=True)
    with Session(Layout(folder)) as session:
        session.freeze(earlier, pool="inline")
    pq.write_table(
        pa.table({"run_id": earlier.run_ids, "outcome": [outcome] * len(earlier)}), folder / "runs.parquet"
    )
    digest_writer.record(Layout(folder), folder / "runs.parquet")
    return earlier, folder


def test_kept_weights_of_another_sweep_are_named_by_directory_and_id(tmp_path):
    earlier, folder = kept(tmp_path, "done")
    built = manifest(tmp_path, f"'{folder}/{earlier.run_ids[0]}'")
    inits = [built.spec(i).init for i in range(len(built))]
    [init] = {(i.runs, i.folders) for i in inits}
    assert init == ((earlier.run_ids[0],), (str(folder / "checkpoints" / earlier.run_ids[0] / "step-2"),))
    assert set(built.run_ids).isdisjoint(earlier.run_ids)


@pytest.mark.parametrize(
    ("outcome", "model", "row", "says"),
    [
        ("failed", "tiny-64", 0, "failed"),
        ("diverged", "tiny-64", 0, "diverged"),
        ("done", "tiny-64", 1, "keep_checkpoints=last"),
        ("done", "tiny-32", 0, "different architectures"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_before_anything_starts(tmp_path, outcome, model, row, says):
    earlier, folder = kept(tmp_path, outcome)
    with pytest.raises(SpecError, match=says):
        manifest(tmp_path, f"'{folder}/{earlier.run_ids[row]}'", f"model={model}")
