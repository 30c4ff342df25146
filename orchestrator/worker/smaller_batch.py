"""What a run that ran out of memory computes at once the next time. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from sweeps.spec import RunSpec, phases_of


def with_smaller_batch(spec: RunSpec, shrink: int) -> RunSpec:
    """The spec with what it computes at once, in training and in evaluation, halved ``shrink`` times.

    It needs less memory, takes the same steps and keeps its run_id.
    """
    if not shrink:
        return spec
    rows = spec.engine.micro_batch or max(_rows_of_step(phase) for phase in phases_of(spec))
    # Rows that were asked for by number; the others are as many as fit.
    asked: dict[str, Any] = {k: n for k in ("rollout_rows", "eval_rows") if (n := getattr(spec.engine, k))}
    engine = dataclasses.replace(
        spec.engine,
        micro_batch=max(1, rows >> shrink),
        **{name: max(1, number >> shrink) for name, number in asked.items()},
    )
    judged = dataclasses.replace(spec.eval, batch_items=max(1, spec.eval.batch_items >> shrink))
    return dataclasses.replace(spec, engine=engine, eval=judged)


def _rows_of_step(spec: RunSpec) -> int:
    """Most rows that a step trains on at once."""
    drawn = spec.sampling.num_rollouts if spec.objective.draws_rollouts else 0
    return max(drawn, spec.objective.sequences_per_row * spec.data.prompts_per_step)
