"""What a sweep will cost: seconds, GPU-hours, money, disk. Pure.

Seconds follow the work (:mod:`sweeps.work`) at rates per base model: so much to set a run up, per batch of
rollouts, per gradient and optimizer step, and per pass over the benchmark. Rates are measured from runs that
are already done, of this sweep or an earlier one; a model that has never run is guessed from its number of
parameters, and the interval says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.spec import SpecError
from sweeps.work import SweepWork, Work

GUESS_FACTOR = 3.0
"""A guess from the number of parameters is good within this factor, both ways."""

SYSTEMATIC = 0.15
"""Relative error that more measured runs do not remove: another machine load, other prompts, longer answers.
"""

START_S = 8.0
"""Seconds until the first run starts: Ray 4 s, torch and DeepSpeed in the workers 4 s, on 2 cores."""

GRADIENT_SHARE = 0.7
"""Part of a step that is forward and backward; the optimizer's is larger on tiny models, smaller on large
ones.
"""

TINY_PARAMETERS = 5_000_000
"""Below this a model is bound by call overhead on a CPU core, not by arithmetic."""

GPU_FLOPS = 3.0e14
"""Sustained training arithmetic of one 80 GB GPU in bf16: a third of its peak."""

DECODE_FLOPS = 1.0e13
"""Sustained arithmetic of decoding 64 sequences with a KV cache, which is bound by memory traffic."""

MEAN_EVAL_TOKENS = 800
"""Completion tokens per benchmark item assumed for a large model that has not been measured."""

SPOOL_BYTES_PER_RUN = 9_000
"""Spool of one tiny run with evaluation at five steps, rollout text included (measured: 9,051)."""

TABLE_BYTES_PER_RUN = 1_500
"""Its share of the Parquet tables, the state and the manifest (measured at 13,440 runs)."""

BYTES_PER_EVALUATION = 1_100
"""Added by each further evaluation of 500 items, greedy and sampled (packed verdicts and token counts)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """Timings of one finished run."""

    model: str
    """Label of the base model, as in :attr:`ModelCost.model`."""
    steps: int
    """Optimizer steps taken."""
    eval_passes: int
    """Completions per benchmark item, over all evaluations of the trained model."""
    rollout_s: float
    """Seconds spent on rollouts."""
    train_s: float
    """Seconds spent on gradients and optimizer steps."""
    eval_s: float
    """Seconds spent on evaluation."""
    wall_s: float
    """Seconds in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds that one model's work takes."""

    run_s: float
    """Set-up of a run and what no other rate covers."""
    rollout_s: float
    """One batch of rollouts."""
    train_s: float
    """One gradient and optimizer step."""
    eval_s: float
    """One pass over the benchmark."""
    spread: float = 0.0
    """Standard deviation of a run's seconds over their mean."""
    num_measured: int = 0
    """Runs behind the rates; 0 for a guess."""


def calibrate(observations: Sequence[Observation]) -> Rates:
    """Return the rates of one model from its finished runs.

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
        rollout_s=_median([o.rollout_s / max(1, o.steps) for o in observations]),
        train_s=_median([o.train_s / max(1, o.steps) for o in observations]),
        eval_s=_median([o.eval_s / o.eval_passes for o in observations if o.eval_passes] or [0.0]),
        spread=deviation / typical if typical > 0 else 0.0,
        num_measured=len(observations),
    )


def guess(parameters: int, num_rollouts: int, max_new_tokens: int, num_items: int) -> Rates:
    """Return rates guessed from a model's size: 2 operations per parameter and token decoded, 6 per token
    trained.

    Args:
        parameters: weights of the model.
        num_rollouts: rollouts per optimizer step.
        max_new_tokens: longest completion; completions are assumed to reach it.
        num_items: items of the benchmark.
    """
    if parameters <= TINY_PARAMETERS:
        size = 1 + parameters / 200_000  # 24k to 210k parameters take 1.1 to 2 times the call overhead
        return Rates(
            run_s=0.01, rollout_s=0.003 * size, train_s=0.005 * size, eval_s=0.0001 * num_items * size
        )
    tokens = num_rollouts * max_new_tokens
    return Rates(
        run_s=30.0,
        rollout_s=2 * parameters * tokens / DECODE_FLOPS,
        train_s=6 * parameters * tokens / GPU_FLOPS,
        eval_s=2 * parameters * num_items * MEAN_EVAL_TOKENS / DECODE_FLOPS,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The runs of one base model under one set of resources."""

    model: str
    """Label of the base model."""
    num_runs: int
    """Runs to do."""
    work: SweepWork
    """Their work."""
    rates: Rates
    """Seconds per unit of work."""
    world_size: int
    """Processes per run."""
    gpus: float
    """GPUs per run, over all its processes."""
    num_slots: int
    """Runs at once."""
    checkpoint_bytes: int
    """Bytes of weights kept for all of its runs."""
    num_evaluations: int
    """Evaluations of all its runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What is left of a sweep costs."""

    busy_s: float
    """Seconds of all workers together."""
    naive_busy_s: float
    """The same without sharing."""
    gpu_hours: float
    """GPU-hours."""
    usd: float | None
    """Money, where the price of a GPU-hour is known."""
    eta_s: float
    """Wall seconds on the workers assumed."""
    eta_low_s: float
    """Lower end of a 95 % interval of :attr:`eta_s`."""
    eta_high_s: float
    """Upper end."""
    disk_bytes: int
    """Bytes in the sweep directory at the end, checkpoints included."""
    measured: Mapping[str, int]
    """Model to the number of measured runs behind its rates; 0 for a guess."""


def price(parts: Sequence[Part], *, sharing: bool, usd_per_gpu_hour: float | None) -> Price:
    """Price the runs of ``parts``, with or without sharing."""
    busy = [_seconds(p.work.shared if sharing else p.work.naive, p) for p in parts]
    naive = [_seconds(p.work.naive, p) for p in parts]
    walls = [s / p.num_slots for s, p in zip(busy, parts, strict=True)]
    low = sum(w / _error(p) for w, p in zip(walls, parts, strict=True))
    high = sum(w * _error(p) for w, p in zip(walls, parts, strict=True))
    gpu_hours = sum(s * p.gpus for s, p in zip(busy, parts, strict=True)) / 3600
    start_s = START_S if parts else 0.0
    return Price(
        busy_s=sum(s * p.world_size for s, p in zip(busy, parts, strict=True)),
        naive_busy_s=sum(s * p.world_size for s, p in zip(naive, parts, strict=True)),
        gpu_hours=gpu_hours,
        usd=None if usd_per_gpu_hour is None else gpu_hours * usd_per_gpu_hour,
        eta_s=start_s + sum(walls),
        eta_low_s=start_s + low,
        eta_high_s=start_s + high,
        disk_bytes=sum(_disk_bytes(p) for p in parts),
        measured={p.model: p.rates.num_measured for p in parts},
    )


def _seconds(work: Work, part: Part) -> float:
    r = part.rates
    return (
        part.num_runs * r.run_s
        + work.rollout_batches * r.rollout_s
        + (GRADIENT_SHARE * work.gradients + (1 - GRADIENT_SHARE) * work.steps) * r.train_s
        # A warm worker judges an untrained model once, sharing or not.
        + (work.eval_passes + part.work.shared.base_eval_passes) * r.eval_s
    )


def _error(part: Part) -> float:
    """Factor by which the seconds of ``part`` may be off, both ways."""
    if part.rates.num_measured == 0:
        return GUESS_FACTOR
    random = part.rates.spread * math.sqrt(1 / part.rates.num_measured + 1 / max(1, part.num_runs))
    return 1 + SYSTEMATIC + 1.96 * random


def _disk_bytes(part: Part) -> int:
    own = SPOOL_BYTES_PER_RUN + TABLE_BYTES_PER_RUN
    return part.num_runs * own + BYTES_PER_EVALUATION * part.num_evaluations + part.checkpoint_bytes


def check_budget(found: Price, budget: Mapping[str, float | None]) -> None:
    """Refuse what costs more than allowed.

    Args:
        found: the price of the runs to do.
        budget: ``gpu_hours``, ``disk_gib``, ``usd``; ``None`` sets no limit.

    Raises:
        SpecError: naming the limit, the estimate and how to get below or above.
    """
    figures = {"gpu_hours": found.gpu_hours, "disk_gib": found.disk_bytes / 2**30, "usd": found.usd}
    for key, limit in budget.items():
        if limit is None:
            continue
        figure = figures.get(key)
        if figure is None:
            raise SpecError(f"budget.{key}={limit:g}: has no estimate; set cluster.usd_per_gpu_hour")
        if figure > limit:
            raise SpecError(
                f"budget.{key}={limit:g}: the sweep would take about {figure:.3g}; "
                f"drop runs or raise budget.{key}"
            )


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
