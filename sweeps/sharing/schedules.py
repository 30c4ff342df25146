"""Learning-rate schedules as multipliers of the peak rate. Pure: trainer and planner use the same function.

Steps are s = 0 … N−1. During a warmup of w steps the multiplier is (s+1)/w, so that a run of ten steps wastes
none of them at zero; after it, u = (s−w)/(N−w) in [0, 1) is the progress of the decay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from sweeps.spec import ScheduleSpec
from sweeps.spec.train_groups import CANDIDATES

INVERSE_SQRT_TIMESCALE = 10_000
"""Timescale of ``inverse_sqrt`` without warmup, as in transformers' ``get_inverse_sqrt_schedule``."""


class ProbedRate(NamedTuple):
    """A rate that a run finds as it goes (``autolrs``): the one whose forecast, after a few steps at each of
    several, is best. Equal ones, after equal steps of one trunk, are the same number.
    """

    peak: float
    """Highest rate that is tried."""
    lowest_ratio: float
    """The lowest over the highest."""
    every_steps: int
    """Steps that are forecast."""
    probe_steps: int
    """Steps for which each rate is tried."""
    number: int
    """How often rates were tried before in the phase."""

    def is_due(self, step: int) -> bool:
        """Whether it is yet to be found at a step of the phase, from 0."""
        return step == self.number * self.every_steps

    @property
    def undone_steps(self) -> int:
        """Steps that are taken to find it, and undone."""
        return CANDIDATES * self.probe_steps

    @property
    def undone_draws(self) -> int:
        """Batches of rollouts drawn for them; their first ones are those of the step that follows."""
        return CANDIDATES * (self.probe_steps - 1)


Rate = float | ProbedRate
"""The learning rate of a step, or how it is found."""


def rates(schedule: ScheduleSpec, peak: float, num_steps: int) -> tuple[Rate, ...]:
    """Return the learning rate of every step of a phase, shape (num_steps,)."""
    if not schedule.probes:
        return tuple(peak * m for m in multipliers(schedule, num_steps))
    every = schedule.probe_every_steps
    found = [
        ProbedRate(peak, schedule.probe_lowest_ratio, every, schedule.probe_steps, number)
        for number in range(schedule.num_probings(num_steps))
    ]
    return tuple(found[min(s // every, len(found) - 1)] for s in range(num_steps))


def multiplier(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """Return the multiplier of the peak learning rate at ``step`` of a schedule that tries no rates.

    Args:
        step: 0 for the first optimizer step, below ``num_steps``.
        num_steps: optimizer steps N of the whole run.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    return _AFTER_WARMUP[schedule.name](schedule, step, num_steps)


def multipliers(schedule: ScheduleSpec, num_steps: int) -> tuple[float, ...]:
    """Return the multipliers of every step of a run, shape (num_steps,)."""
    return tuple(multiplier(schedule, s, num_steps) for s in range(num_steps))


def _progress(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    return (step - schedule.warmup_steps) / (num_steps - schedule.warmup_steps)


def _constant(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    return 1.0


def _linear(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """Linear to zero (arXiv 2502.15938): (N−s)/(N−w), so that the last step is not at zero."""
    return 1 - _progress(schedule, step, num_steps)


def _cosine(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """From 1 to m: m + (1−m)·½(1 + cos πu), m = ``min_ratio``."""
    low = schedule.min_ratio
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * _progress(schedule, step, num_steps)))


def _inverse_sqrt(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """1/√((s+τ−w)/τ), τ = w, or 10,000 without warmup."""
    scale = schedule.warmup_steps or INVERSE_SQRT_TIMESCALE
    return 1 / math.sqrt((step + scale - schedule.warmup_steps) / scale)


def _wsd(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """Warmup, stable, decay: 1, then 1−u or 1−√u over the last n steps, u = (j+1)/(n+1), j = 0 … n−1.

    Published code (epfml/schedules-and-scaling) uses u = j/n, which would leave a single decay step at 1.
    """
    num_decay = min(max(1, round(schedule.decay_fraction * num_steps)), num_steps - schedule.warmup_steps)
    past = step - (num_steps - num_decay)
    if past < 0:
        return 1.0
    u = (past + 1) / (num_decay + 1)
    return 1 - (math.sqrt(u) if schedule.decay_shape == "sqrt" else u)


def _rex(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """(1−u)/(1−u/2) (arXiv 2107.04197)."""
    u = _progress(schedule, step, num_steps)
    return (1 - u) / (1 - u / 2)


def _power(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """min(1, (s/T)^b), and 1 at s = 0 (arXiv 2408.13359).

    The paper's a·(s·c)^b over a peak rate lr, c tokens per step, is this with T = (a/lr)^(−1/b)/c.
    """
    return min(1.0, (step / schedule.power_timescale) ** schedule.power_exponent) if step else 1.0


def _infinite(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """Cosine from 1 to c, hold at c, then c·(m/c)^v to m, v = 1/n … 1 (arXiv 2503.02844).

    c = ``hold_ratio``, m = ``final_ratio``.
    """
    hold, after = schedule.hold_ratio, num_steps - schedule.warmup_steps
    num_anneal = min(max(1, round(schedule.decay_fraction * num_steps)), after)
    num_cooldown = min(round(schedule.cooldown_fraction * num_steps), after - num_anneal)
    since = step - schedule.warmup_steps
    if since < num_cooldown:
        return hold + (1 - hold) * 0.5 * (1 + math.cos(math.pi * since / num_cooldown))
    past = step - (num_steps - num_anneal)
    return hold if past < 0 else hold * (schedule.final_ratio / hold) ** ((past + 1) / num_anneal)


ONECYCLE_LAST = 1e-4
"""Last multiplier of ``onecycle`` as a share of its first one, as in torch."""


def _onecycle(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """A cosine up to the peak and another one down (arXiv 1708.07120), torch's ``OneCycleLR``."""
    since, last = step - schedule.warmup_steps, num_steps - schedule.warmup_steps - 1
    top = max(schedule.rise_fraction * (last + 1) - 1, 0.0)
    first = schedule.start_ratio
    if since < top:
        return _between(first, 1.0, since / top)
    return _between(1.0, first * ONECYCLE_LAST, (since - top) / (last - top)) if last > top else 1.0


def _between(start: float, end: float, u: float) -> float:
    """Half a cosine from one value to another."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * u))


def _refined(schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    return refined(schedule.norms[schedule.warmup_steps :], schedule.norms_power)[
        step - schedule.warmup_steps
    ]


MEDIAN_SHARE = 0.1
"""Share of the steps that the median over gradient norms spans, τ."""


@lru_cache(maxsize=256)
def refined(norms: tuple[float, ...], power: int) -> tuple[float, ...]:
    """Linear decay refined by the gradient norms of a first run (arXiv 2310.07831): w_t·Σ_{p≥t} w_p over its
    maximum, w = Ĝ^−power, Ĝ the running median of the norms.

    The paper sums over p > t, so that its last step is at zero; here equal norms give ``linear``. It takes L1
    norms for Adam. Those that runs record are L2, which differ from them by how evenly a gradient is spread;
    a table of other norms is as good.

    Args:
        norms: of each step, above 0, before clipping.
        power: 1 for Adam and its like, 2 for SGD.
    """
    weights = [norm**-power for norm in running_median(norms)]
    rates, left = [0.0] * len(weights), 0.0
    for t in reversed(range(len(weights))):
        left += weights[t]
        rates[t] = weights[t] * left
    peak = max(rates)
    return tuple(rate / peak for rate in rates)


def running_median(values: Sequence[float]) -> list[float]:
    """Medians over 2·⌊⌊τT⌋/2⌋+1 neighbours; the first value goes on before the beginning, and the end is
    mirrored.
    """
    half, last = int(MEDIAN_SHARE * len(values)) // 2, len(values) - 1

    def at(i: int) -> float:
        return values[max(i, 0) if i <= last else 2 * last - i]

    return [sorted(at(j) for j in range(i - half, i + half + 1))[half] for i in range(len(values))]


_AFTER_WARMUP = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "inverse_sqrt": _inverse_sqrt,
    "wsd": _wsd,
    "rex": _rex,
    "power": _power,
    "infinite": _infinite,
    "onecycle": _onecycle,
    "refined": _refined,
}
