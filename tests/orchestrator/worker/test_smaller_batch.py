"""A run that ran out of memory computes less at once and stays the same run."""

from __future__ import annotations

from orchestrator.worker.smaller_batch import with_smaller_batch
from tests.trainers.worlds import tiny_spec


def test_a_run_out_of_memory_computes_less_at_once_and_stays_the_same_run():
    spec = tiny_spec(engine={"micro_batch": 8}, eval={"batch_items": 64})
    smaller = with_smaller_batch(spec, 2)
    assert (smaller.engine.micro_batch, smaller.eval.batch_items) == (2, 16)
    assert smaller.run_id == spec.run_id


def test_rows_asked_for_by_number_are_halved_and_the_others_left_to_what_fits():
    spec = tiny_spec(engine={"rollout_rows": 32, "eval_rows": 0})
    smaller = with_smaller_batch(spec, 1)
    assert (smaller.engine.rollout_rows, smaller.engine.eval_rows) == (16, 0)


def test_a_batch_of_everything_is_halved_from_the_number_of_rollouts_and_never_vanishes():
    spec = tiny_spec(sampling={"num_rollouts": 64}, eval={"batch_items": 2})
    assert with_smaller_batch(spec, 1).engine.micro_batch == 32
    assert with_smaller_batch(spec, 9).engine.micro_batch == with_smaller_batch(spec, 9).eval.batch_items == 1


def test_a_run_that_did_not_run_out_of_memory_is_left_as_it_is():
    spec = tiny_spec()
    assert with_smaller_batch(spec, 0) is spec
