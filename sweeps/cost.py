"""What a sweep will cost: seconds, GPU-hours, money, disk. Pure.

Seconds follow the work (:mod:`sweeps.work`) at rates: so much to set a run up, per batch of rollouts, per
gradient and optimizer step, and per judged completion. Rates are measured from runs that are already done, of
this sweep or an earlier one, if they ran under the same settings (:func:`speed_key`); otherwise they are
guessed from the model's number of parameters, and the interval says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.spec import RunSpec, SpecError, canonical_json, group_science, group_to_dict
from sweeps.work import SweepWork, Work

GUESS_FACTOR = 3.0
"""A guess from the number of parameters is good within this factor, both ways."""

SYSTEMATIC = 0.15
"""Relative error that more measured runs do not remove: another machine load, other prompts, longer answers.
"""

START_S = 8.6
"""Seconds of a launch that no run accounts for: measured with Ray on 2 cores; 5.7 with local processes."""

GRADIENT_SHARE = 0.7
"""Part of a step that is forward and backward: measured 0.74 for tiny-32, 0.73 for tiny-64, 0.63 for
tiny-192; assumed of other models.
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

RUN_BYTES = 2_500
"""A run's share of spool, state, manifest and tables, apart from its steps, verdicts and long rollouts. This
and the two below give 11.5 kB for a run of ``quickstart``, whose 96 took 11.1 kB each.
"""

STEP_BYTES = 250
"""One step's numbers, in spool and table."""

VERDICT_BYTES = 1.3
"""Verdict and length of one judged completion, in spool and table."""

TEXT_BYTES = 4
"""Text of one token of natural language, about four characters; rollouts of two steps are kept."""

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
    :data:`LINEAR_KEYS`. Prompts, objectives and optimizers are left to :data:`SYSTEMATIC`.
    """
    resources, judged = group_to_dict(spec.resources), group_to_dict(spec.eval)
    return canonical_json(
        {
            "model": group_science(spec.model),
            "trainer": group_to_dict(spec.trainer),
            "engine": group_to_dict(spec.engine),
            "layout": {k: resources[k] for k in LAYOUT_KEYS},
            "sampling": group_to_dict(spec.sampling),
            "eval": {k: v for k, v in judged.items() if k not in (*LINEAR_KEYS, *LABEL_KEYS)},
        }
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """Timings of one finished run."""

    steps: int
    """Optimizer steps taken."""
    judged: int
    """Completions judged over all evaluations of the trained model: items times passes."""
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
        rollout_s=_median([o.rollout_s / max(1, o.steps) for o in observations]),
        train_s=_median([o.train_s / max(1, o.steps) for o in observations]),
        judged_s=_median([o.eval_s / o.judged for o in observations if o.judged] or [0.0]),
        spread=deviation / typical if typical > 0 else 0.0,
        num_measured=len(observations),
    )


def guess(parameters: int, num_rollouts: int, max_new_tokens: int, eval_tokens: int) -> Rates:
    """Return rates guessed from a model's size: 2 operations per parameter and token decoded, 6 per token
    trained; of a tiny model, the seconds of the shipped ones.

    Args:
        parameters: weights of the model.
        num_rollouts: rollouts per optimizer step.
        max_new_tokens: longest rollout; rollouts are assumed to reach it.
        eval_tokens: longest completion of a benchmark item.
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
        train_s=6 * parameters * tokens / GPU_FLOPS,
        judged_s=2 * parameters * judged_tokens / DECODE_FLOPS,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Runs that differ neither in model, trainer, engine, resources nor sampling."""

    model: str
    """Label of the base model."""
    num_runs: int
    """Runs to do."""
    work: SweepWork
    """Their work."""
    rates: Rates
    """Seconds per unit of work."""
    num_items: float
    """Items of the benchmark; of several benchmarks, the mean over all passes."""
    world_size: int
    """Processes per run."""
    gpus: float
    """GPUs per run, over all its processes."""
    num_slots: int
    """Runs at once."""
    checkpoint_bytes: int
    """Bytes of weights kept for all of its runs."""
    num_verdicts: int
    """Judged completions that all of its runs record."""
    text_bytes: int = 0
    """Bytes of the rollout texts that its runs keep, where those are long."""


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
    """Model to the number of measured runs behind its rates, the fewest of its parts; 0 for a guess."""


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
        measured={
            model: min(p.rates.num_measured for p in parts if p.model == model)
            for model in dict.fromkeys(p.model for p in parts)
        },
    )


def mean_run_seconds(parts: Sequence[Part], *, sharing: bool) -> dict[str, float]:
    """Model to the seconds that one of its runs keeps its workers, on average."""
    runs: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for p in parts:
        runs[p.model] = runs.get(p.model, 0) + p.num_runs
        work = p.work.shared if sharing else p.work.naive
        seconds[p.model] = seconds.get(p.model, 0.0) + _seconds(work, p)
    return {model: seconds[model] / runs[model] for model in runs}


def _seconds(work: Work, part: Part) -> float:
    r = part.rates
    return (
        part.num_runs * r.run_s
        + work.rollout_batches * r.rollout_s
        + (GRADIENT_SHARE * work.gradients + (1 - GRADIENT_SHARE) * work.steps) * r.train_s
        # A warm worker judges an untrained model once, sharing or not.
        + (work.eval_passes + part.work.shared.base_eval_passes) * part.num_items * r.judged_s
    )


def _error(part: Part) -> float:
    """Factor by which the seconds of ``part`` may be off, both ways."""
    if part.rates.num_measured == 0:
        return GUESS_FACTOR
    random = part.rates.spread * math.sqrt(1 / part.rates.num_measured + 1 / max(1, part.num_runs))
    return 1 + SYSTEMATIC + 1.96 * random


def _disk_bytes(part: Part) -> int:
    recorded = (
        RUN_BYTES * part.num_runs + STEP_BYTES * part.work.naive.steps + VERDICT_BYTES * part.num_verdicts
    )
    return round(recorded) + part.text_bytes + part.checkpoint_bytes


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
