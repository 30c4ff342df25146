"""Runs whose rows do not all fit memory: in parts that fit, the same completions, said in the layout."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sweeps.spec import RunSpec
from tests.trainers.comparing import column, numbers
from tests.trainers.worlds import tiny_spec
from trainers.decoding.rows import cache_bytes, model_memory, row_bytes
from trainers.engine.free_memory import free_bytes
from trainers.evaluation.evaluate import settings_of
from trainers.model.base_model import load_weights
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import Cancelled, RunContext, WorkerContext
from trainers.step.decode_rows import DecodeRows, as_begun

LONGEST = 6
"""Tokens of the tiny problems' prompts."""


def cached(**groups) -> RunSpec:
    """64 rollouts and 250 completions of a benchmark, by the decoder with a cache."""
    groups["engine"] = {"decoder": "cached", **groups.get("engine", {})}
    return tiny_spec(steps=2, **groups)


def with_rows(trainer: PolicyTrainer, budget_bytes: int | None) -> PolicyTrainer:
    trainer.rows = DecodeRows(trainer.gang, trainer.load_base, trainer.eval_cache, budget_bytes)
    return trainer


@pytest.fixture(scope="module")
def worker():
    trainer = PolicyTrainer(WorkerContext())
    yield trainer
    trainer.close()


@pytest.fixture(scope="module")
def row() -> int:
    module = load_weights(cached().model, precision="fp32", attention="sdpa")
    return row_bytes(model_memory(module.config, 4), LONGEST, 16)


def test_a_run_in_parts_stays_below_its_budget_draws_the_same_and_repeats_by_its_layout(worker, row):
    spec, budget = cached(), 13 * row
    whole = with_rows(worker, None).run(spec, RunContext())
    assert (whole.layout["rollout_rows"], whole.layout["eval_rows"]) == (64, 512)
    held: list[int] = []

    def look(module, args, out) -> None:
        if out.past_key_values is not None:
            layers = out.past_key_values.layers
            held.append(
                sum(t.untyped_storage().nbytes() for layer in layers for t in (layer.keys, layer.values))
            )

    handle = worker.engines.latest.module.register_forward_hook(look)
    parts = with_rows(worker, budget).run(spec, RunContext())
    handle.remove()
    assert (parts.layout["rollout_rows"], parts.layout["eval_rows"]) == (8, 8)
    memory = model_memory(worker.engines.latest.module.config, 4)
    assert 0 < max(held) <= 8 * cache_bytes(memory, LONGEST, 16) <= budget
    assert parts.rollouts == whole.rollouts
    assert [e.correct for e in parts.evaluations] == [e.correct for e in whole.evaluations]
    assert column(parts.to_json(), "loss") == pytest.approx(column(whole.to_json(), "loss"), abs=2e-6)

    recorded = {name: parts.layout[name] for name in ("rollout_rows", "eval_rows")}
    engine = dataclasses.replace(spec.engine, **recorded)
    again = with_rows(worker, None).run(dataclasses.replace(spec, engine=engine), RunContext())
    assert numbers(again.to_json()) == numbers(parts.to_json())


def test_a_killed_run_goes_on_with_the_rows_it_began_with_where_there_is_more_memory_now(
    worker, row, tmp_path
):
    spec = dataclasses.replace(cached(resources={"save_every_steps": 2}), steps=5)
    whole = with_rows(worker, 13 * row).run(spec, RunContext())
    beats: list[str] = []
    with pytest.raises(Cancelled):
        worker.run(
            spec,
            RunContext(checkpoint_dir=tmp_path, cancelled=lambda: len(beats) == 3, heartbeat=beats.append),
        )
    resumed = with_rows(worker, None).run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=beats.append))
    assert len(beats) == 3 + 3
    assert resumed.layout == whole.layout
    assert resumed.layout["rollout_rows"] == 8
    assert numbers(resumed.to_json()) == numbers(whole.to_json())


def test_a_killed_run_goes_on_with_fewer_rows_where_there_is_less_memory_now():
    spec = cached(engine={"rollout_rows": 8})
    begun = {"rows_at_once": {"rollout_rows": 64, "eval_rows": 512}}
    assert as_begun(spec, begun) == spec
    assert as_begun(spec, {}) == spec


def test_recorded_rows_of_a_run_that_fitted_change_no_bit_of_it(worker):
    spec = cached()
    first = with_rows(worker, None).run(spec, RunContext())
    engine = dataclasses.replace(spec.engine, rollout_rows=64, eval_rows=512)
    again = worker.run(dataclasses.replace(spec, engine=engine), RunContext())
    assert numbers(again.to_json()) == numbers(first.to_json())
    assert again.layout == first.layout


def test_runs_that_fit_or_say_their_rows_are_left_as_they_are(worker, row):
    module = load_weights(cached().model, precision="fp32", attention="sdpa")
    fitting = [tiny_spec(), cached(), cached(sampling={"num_rollouts": 8})]
    assert with_rows(worker, None).rows.settled(fitting, module) == fitting
    said = cached(engine={"rollout_rows": 48, "eval_rows": 100})
    assert with_rows(worker, row).rows.settled([said], module) == [said]


def test_the_tree_keeps_no_cache_and_takes_all_rollouts_at_once(worker, row):
    module = load_weights(cached().model, precision="fp32", attention="sdpa")
    [settled] = with_rows(worker, 13 * row).rows.settled([tiny_spec()], module)
    assert (settled.engine.rollout_rows, settled.engine.eval_rows) == (0, 8)


def test_runs_of_one_engine_settle_on_what_fits_the_longest_of_them(worker, row):
    module = load_weights(cached().model, precision="fp32", attention="sdpa")
    longer = cached(sampling={"max_new_tokens": 64})
    rows = with_rows(worker, 13 * row).rows
    assert [spec.engine.rollout_rows for spec in rows.settled([cached()], module)] == [8]
    settled = rows.settled([cached(), longer], module)
    assert [spec.engine.rollout_rows for spec in settled] == [4, 4]
    assert [spec.run_id for spec in settled] == [cached().run_id, longer.run_id]


def test_a_row_that_does_not_fit_is_refused_with_what_it_takes_and_what_is_free(worker, row):
    module = load_weights(cached().model, precision="fp32", attention="sdpa")
    message = r"sampling\.max_new_tokens=16 after a prompt of 6 tokens: a row takes up to .* GiB .* are free"
    with pytest.raises(MemoryError, match=message):
        with_rows(worker, row - 1).rows.settled([cached(eval={"path": None})], module)
    with pytest.raises(MemoryError, match=r"eval\.max_new_tokens=12 after a prompt of \d+ tokens"):
        with_rows(worker, 1000).run(tiny_spec(), RunContext())


def test_an_items_completions_are_drawn_in_parts_where_they_do_not_fit_together(worker):
    spec = tiny_spec(eval={"num_samples": 9, "limit": 12})
    benchmark = worker.eval_cache.benchmark(spec)
    module = load_weights(cached().model, precision="fp32", attention="sdpa")
    with torch.inference_mode():
        whole, parts = (
            benchmark.evaluate(module, settings_of(spec.eval), step=0, seed=3, gang=worker.gang, rows=rows)
            for rows in (0, 4)
        )
    assert [e.correct for e in parts] == [e.correct for e in whole]
    assert [e.tokens for e in parts] == [e.tokens for e in whole]


@pytest.mark.slow
def test_ranks_with_shares_of_other_sizes_make_equally_many_forwards(two_ranks):
    spec = cached(
        sampling={"num_rollouts": 65},
        eval={"num_samples": 4, "limit": 7},
        resources={"world_size": 2},
        engine={"rollout_rows": 32, "eval_rows": 3},
    )
    [parts] = two_ranks.run([spec])
    whole = dataclasses.replace(spec, engine=dataclasses.replace(spec.engine, rollout_rows=0, eval_rows=0))
    [at_once] = two_ranks.run([whole])
    assert parts["rollouts"] == at_once["rollouts"]
    assert parts["layout"]["rollout_rows"] == 32
    assert [e["correct"] for e in parts["evaluations"]] == [e["correct"] for e in at_once["evaluations"]]


def test_a_process_never_counts_on_more_than_it_was_given(worker):
    resources = tiny_spec(resources={"memory_gib": 1e-3}).resources
    assert free_bytes(resources, torch.device("cpu")) == 0
    assert free_bytes(tiny_spec().resources, torch.device("cpu")) > 2**20
