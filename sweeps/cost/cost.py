"""What a sweep will cost: seconds, GPU-hours, money, disk. Pure.

Seconds follow the work (:mod:`sweeps.cost.work_count`) at rates (:mod:`sweeps.cost.throughput`): so much to
set a run up, per batch of rollouts, per gradient and optimizer step, and per judged completion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.cost.throughput import GUESS_FACTOR, SYSTEMATIC, Rates
from sweeps.cost.work_count import SweepWork, Work
from sweeps.spec import SpecError

START_S = 8.6
"""Seconds of a launch that no run accounts for: measured with Ray on 2 cores; 5.7 with local processes."""

START_LOW_S, START_HIGH_S = 2.0, 20.0
"""What they may be elsewhere: in one process and without torch 2 are enough, a busy machine or a slow disk
takes twice as long and more.
"""

GRADIENT_SHARE = 0.7
"""Part of a step that is forward and backward: measured 0.74 for tiny-32, 0.73 for tiny-64, 0.63 for
tiny-192; assumed of other models.
"""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Runs that differ neither in model, trainer, engine, resources nor sampling."""

    model: str
    """Name of the model; of a trainer of somebody's own, the trainer's."""
    num_runs: int
    work: SweepWork
    rates: Rates
    num_items: float
    """Items of the benchmark; of several benchmarks, the mean over all passes."""
    world_size: int
    gpus: float
    """GPUs per run, over all its processes."""
    num_slots: int
    checkpoint_bytes: int
    """Bytes of weights kept for all of its runs."""
    num_verdicts: int
    text_bytes: int = 0
    """Bytes of the rollout texts that its runs keep, where those are long."""
    is_unknown: bool = False
    """Whether nothing tells how long its runs take: a trainer of somebody's own, none of them measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What is left of a sweep costs."""

    busy_s: float
    """Seconds of all workers together."""
    naive_busy_s: float
    gpu_hours: float
    usd: float | None
    """Money, where the price of a GPU-hour is known."""
    eta_s: float
    eta_low_s: float
    """Lower end of a 95 % interval of :attr:`eta_s`."""
    eta_high_s: float
    disk_bytes: int
    """Bytes in the sweep directory at the end, checkpoints included."""
    measured: Mapping[str, int]
    """Model, or trainer of somebody's own, to the number of measured runs behind its rates, the fewest of its
    parts; 0 for a guess.
    """
    unknown: tuple[str, ...] = ()
    """Trainers of somebody's own of which no run has been measured: every number of seconds leaves their runs
    out.
    """
    unknown_gpus: bool = False
    """Whether some of these runs take GPUs, so that GPU-hours and money are unknown too."""


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
        eta_low_s=(START_LOW_S if parts else 0.0) + low,
        eta_high_s=(START_HIGH_S if parts else 0.0) + high,
        disk_bytes=sum(_disk_bytes(p) for p in parts),
        measured={
            model: min(p.rates.num_measured for p in parts if p.model == model)
            for model in dict.fromkeys(p.model for p in parts)
        },
        unknown=tuple(dict.fromkeys(p.model for p in parts if p.is_unknown)),
        unknown_gpus=any(p.gpus > 0 for p in parts if p.is_unknown),
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


def check_budget(total: Price, budget: Mapping[str, float | None]) -> None:
    """Refuse what costs more than allowed.

    Args:
        budget: ``gpu_hours``, ``disk_gib``, ``usd``; ``None`` sets no limit.

    Raises:
        SpecError: naming the limit, the estimate and how to get below or above.
    """
    figures = {"gpu_hours": total.gpu_hours, "disk_gib": total.disk_bytes / 2**30, "usd": total.usd}
    for key, limit in budget.items():
        if limit is None:
            continue
        figure = figures.get(key)
        if total.unknown_gpus and key != "disk_gib":
            raise SpecError(
                f"budget.{key}={limit:g}: has no estimate, for no run of {', '.join(total.unknown)} has been "
                f"measured; launch a few first: sweep.subset.runs=2 budget.{key}=null"
            )
        if figure is None:
            raise SpecError(f"budget.{key}={limit:g}: has no estimate; set cluster.usd_per_gpu_hour")
        if figure > limit:
            raise SpecError(
                f"budget.{key}={limit:g}: the sweep would take about {figure:.3g}; "
                f"drop runs or raise budget.{key}"
            )
