"""The learning-rate curves of a sweep, as numbers and as a line of text. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.manifest.manifest import Manifest
from sweeps.sharing.schedules import multipliers
from sweeps.spec import ScheduleSpec

LEVELS = "▁▂▃▄▅▆▇█"
MAX_WIDTH = 60
"""Characters of a sparkline; a longer run shows every n-th step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One schedule over one horizon."""

    label: str
    """Name of the schedule, with the parameters that are not at their defaults."""
    steps: int
    multipliers: tuple[float, ...]
    """Multiplier of the peak rate at each step, shape (steps,); empty where a run finds its rates."""


def curves_of(manifest: Manifest) -> list[Curve]:
    """Each distinct pair of schedule and horizon of a sweep, in the order of its runs; the horizon of a run
    that goes in rounds is one round.
    """
    curves: dict[tuple[str, int], Curve] = {}
    _, rows, which = np.unique(manifest.group_codes["curate"], return_index=True, return_inverse=True)
    rounds = np.array([manifest.group("curate", row).num_rounds for row in rows.tolist()], dtype=np.int64)
    lengths = (manifest.steps // rounds[which]).tolist() if len(rows) else []
    pairs = zip(manifest.group_codes["schedule"].tolist(), lengths, strict=True)
    first_run = {pair: i for i, pair in reversed(list(enumerate(pairs)))}
    for (_, steps), i in sorted(first_run.items(), key=lambda item: item[1]):
        schedule = manifest.group("schedule", i)
        label = label_of(schedule)
        known = () if schedule.probes else multipliers(schedule, steps)
        curves[label, steps] = Curve(label=label, steps=steps, multipliers=known)
    return list(curves.values())


def label_of(schedule: ScheduleSpec) -> str:
    """Return the schedule's name and what differs from its defaults, such as ``wsd decay_fraction=0.5``."""
    given = {f.name: getattr(schedule, f.name) for f in dataclasses.fields(schedule) if f.name != "name"}
    defaults = ScheduleSpec()
    changed = [f"{k}={v}" for k, v in given.items() if k != "norms" and v != getattr(defaults, k)]
    return " ".join([schedule.name, *changed])


def sparkline(values: Sequence[float], top: float = 1.0) -> str:
    """Draw values between 0 and ``top`` as a line of blocks, at most :data:`MAX_WIDTH` wide."""
    stride = -(-len(values) // MAX_WIDTH)
    return "".join(LEVELS[min(int(v / top * len(LEVELS)), len(LEVELS) - 1)] for v in values[::stride])


def curves_text(curves: Sequence[Curve]) -> str:
    """Return one line per curve: label, horizon, first and last multiplier, sparkline."""
    width = max((len(c.label) for c in curves), default=0)
    return "\n".join(f"{c.label:<{width}}  {c.steps:>5} steps  {_drawn(c.multipliers)}" for c in curves)


def _drawn(values: Sequence[float]) -> str:
    if not values:
        return "found as a run goes"
    return f"{values[0]:.2f} → {values[-1]:.2f}  {sparkline(values)}"
