"""How many seconds a unit of work takes: measured on finished runs, or guessed. Pure.

Measured rates hold for runs under the same settings (:func:`speed_key`), of this sweep or an earlier one;
otherwise they are guessed from the model's number of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.spec import ObjectiveSpec, RunSpec, canonical_json, group_science, group_to_dict
from sweeps.spec.curation import CurateSpec
from sweeps.spec.training_set import DataSpec

GUESS_FACTOR = 3.0
"""A guess from the number of parameters is good within this factor, both ways."""

SYSTEMATIC = 0.15
"""Relative error that more measured runs do not remove: another machine load, other prompts, longer answers.
"""

TINY_PARAMETERS = 5_000_000
"""Below this a model is bound by call overhead on a CPU core, not by arithmetic."""

TINY_SIZE = 300_000
"""Weights that add as much to a tiny model's seconds as the calls themselves. With the four constants below
fitted to tiny-64 and tiny-96 on one core, which took 3.6 and 4.0 ms for a step's rollouts, 4.8 and 5.6 ms for
the step itself, 69 and 99 µs for a judged completion.
"""

TINY_RUN_S = 0.01
"""Set-up of a tiny run on a warm worker."""

TINY_TOKEN_S = 1.7e-4
"""Decoding one position of a step's rollouts."""

TINY_TRAIN_S = 3.7e-3
"""One optimizer step."""

TINY_JUDGED_TOKEN_S = 4.4e-6
"""Decoding one position of one judged completion, in a batch of hundreds."""

GPU_FLOPS = 3.0e14
"""Assumed training arithmetic of one 80 GB GPU in bf16, a third of its peak; not measured."""

DECODE_FLOPS = 1.0e13
"""Assumed arithmetic of decoding 64 sequences with a KV cache, which is bound by memory traffic; not
measured.
"""

MEAN_EVAL_TOKENS = 800
"""Completion tokens per benchmark item assumed where completions may be longer."""

GIVEN_TOKENS = 512
"""Tokens of a prompt with its given completion, assumed."""

LAYOUT_KEYS = ("world_size", "gpus_per_worker", "cpus_per_worker")
"""Keys of ``resources`` that make a run faster or slower; the others say how long it may take and what is
kept.
"""

LINEAR_KEYS = ("steps", "limit", "num_samples")
"""Keys of ``eval`` that seconds are linear in: how often, on how many items, how many completions of each."""

LABEL_KEYS = ("name", "path", "timeout_s")
"""Keys of ``eval`` without a bearing on seconds; the file itself is told by its digest."""


def speed_key(spec: RunSpec) -> str:
    """Return what must agree for the seconds of one run to tell those of another.

    The weights, the trainer, the engine and its layout, sampling, and how the model is judged, but for
    :data:`LINEAR_KEYS`. Prompts, objectives and optimizers are left to :data:`SYSTEMATIC`. Of a trainer of
    somebody's own nothing is known but its name: all of its runs on as much of a machine count.
    """
    resources, judged = group_to_dict(spec.resources), group_to_dict(spec.eval)
    layout = {k: resources[k] for k in LAYOUT_KEYS}
    if not spec.trainer.computes_model:  # its parameters are what its sweeps vary, as a rule
        own = {"target": spec.trainer.target, "command": list(spec.trainer.command), "layout": layout}
        return canonical_json(own)
    given = {"given": given_key(spec.objective, spec.data, spec.curate)} if spec.objective.targets else {}
    return canonical_json(
        given
        | {
            "model": group_science(spec.model),
            "trainer": group_to_dict(spec.trainer),
            "engine": group_to_dict(spec.engine),
            "layout": layout,
            "sampling": group_to_dict(spec.sampling),
            "eval": {k: v for k, v in judged.items() if k not in (*LINEAR_KEYS, *LABEL_KEYS)},
        }
    )


def given_key(objective: ObjectiveSpec, data: DataSpec, curate: CurateSpec) -> str:
    """What of given completions bears on seconds: which are read, of how many rows a step, and whether
    rollouts are drawn beside them, or for them; empty where none are.
    """
    if not objective.targets:
        return ""
    rounds = ""
    if curate.is_on:
        rounds = f", rounds of {curate.prompts or data.num_rows} times {curate.completions}"
    return f"{objective.targets} of {data.prompts_per_step}, drawing {objective.draws_rollouts}{rounds}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """Timings of one finished run."""

    steps: int
    draws: int
    """Times that completions were drawn: at every step, once a round, or never."""
    judged: int
    """Completions judged over all evaluations of the trained model: items times passes."""
    rollout_s: float
    train_s: float
    """Seconds spent on gradients and optimizer steps."""
    eval_s: float
    wall_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds that work takes under one :func:`speed_key`."""

    run_s: float
    """Set-up of a run and what no other rate covers."""
    rollout_s: float
    """One batch of rollouts."""
    train_s: float
    """One gradient and optimizer step."""
    judged_s: float
    """One judged completion."""
    spread: float = 0.0
    """Standard deviation of a run's seconds over their mean."""
    num_measured: int = 0
    """Runs behind the rates; 0 for a guess."""


def calibrate(observations: Sequence[Observation]) -> Rates:
    """Return the rates of finished runs of one :func:`speed_key`.

    The median over runs is taken, so that the first runs of a worker, which load the model, do not count.

    Raises:
        ValueError: without an observation.
    """
    if not observations:
        raise ValueError("no observations: rates need at least one finished run")
    rest = [max(0.0, o.wall_s - o.rollout_s - o.train_s - o.eval_s) for o in observations]
    totals = [o.wall_s for o in observations]
    typical = _median(totals)
    deviation = _median([abs(t - typical) for t in totals]) * 1.4826  # of a normal distribution
    return Rates(
        run_s=_median(rest),
        rollout_s=_median([o.rollout_s / max(1, o.draws) for o in observations]),
        train_s=_median([o.train_s / max(1, o.steps) for o in observations]),
        judged_s=_median([o.eval_s / o.judged for o in observations if o.judged] or [0.0]),
        spread=deviation / typical if typical > 0 else 0.0,
        num_measured=len(observations),
    )


def calibrate_runs(seconds: Sequence[float]) -> Rates:
    """Return the rates of runs of which only their whole seconds are known. They may differ in what they do,
    so that their mean counts; a few of them say little of the others, however alike.

    Raises:
        ValueError: without an observation.
    """
    if not seconds:
        raise ValueError("no observations: rates need at least one finished run")
    mean = sum(seconds) / len(seconds)
    variance = sum((s - mean) ** 2 for s in seconds) / len(seconds)
    return Rates(
        run_s=mean,
        rollout_s=0.0,
        train_s=0.0,
        judged_s=0.0,
        spread=max(math.sqrt(variance) / mean if mean > 0 else 0.0, 1 / len(seconds)),
        num_measured=len(seconds),
    )


UNKNOWN = Rates(run_s=0.0, rollout_s=0.0, train_s=0.0, judged_s=0.0)
"""Rates of a trainer of somebody's own of which no run has been measured: nothing to guess from."""


def guess(
    parameters: int, num_rollouts: int, max_new_tokens: int, eval_tokens: int, given_rows: int = 0
) -> Rates:
    """Return rates guessed from a model's size: 2 operations per parameter and token decoded, 6 per token
    trained; of a tiny model, the seconds of the shipped ones.

    Args:
        num_rollouts: rollouts per optimizer step.
        max_new_tokens: longest rollout; rollouts are assumed to reach it.
        eval_tokens: longest completion of a benchmark item.
        given_rows: given completions per optimizer step, of :data:`GIVEN_TOKENS` each.
    """
    judged_tokens = min(eval_tokens, MEAN_EVAL_TOKENS)
    if parameters <= TINY_PARAMETERS:
        size = 1 + parameters / TINY_SIZE
        return Rates(
            run_s=TINY_RUN_S,
            rollout_s=TINY_TOKEN_S * max_new_tokens * size,
            train_s=TINY_TRAIN_S * size,
            judged_s=TINY_JUDGED_TOKEN_S * judged_tokens * size,
        )
    tokens = num_rollouts * max_new_tokens
    return Rates(
        run_s=30.0,
        rollout_s=2 * parameters * tokens / DECODE_FLOPS,
        train_s=6 * parameters * (tokens + given_rows * GIVEN_TOKENS) / GPU_FLOPS,
        judged_s=2 * parameters * judged_tokens / DECODE_FLOPS,
    )


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
