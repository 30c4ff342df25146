"""What a sweep would run and cost, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.planning.plan_text import plan_text
from orchestrator.planning.prune_question import PruneQuestion
from orchestrator.planning.race_price import RacePrice
from orchestrator.planning.search_price import SearchPrice
from orchestrator.planning.training_sets import PlannedSet
from orchestrator.scheduling.cluster_model import SimulationResult
from sweeps.cost.cost import Price
from sweeps.cost.work_count import SweepWork
from sweeps.grid.columns import SEED_KEY
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_diff import Difference
from sweeps.manifest.toy_settings import ToySetting
from sweeps.sharing.packs import Packing


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would run, why, and at what cost."""

    directory: Path
    manifest: Manifest
    done: int
    failed: int = 0
    """Runs that failed; a launch leaves them as they are."""
    quarantined: int = 0
    """Runs that failed for good; a launch leaves them as they are."""
    cancelled: int = 0
    skipped: int = 0
    """Runs that a race did without."""
    stopped: int = 0
    """Runs that early stopping has ended."""
    left: int
    """Runs on disk that the sweep no longer asks for."""
    drift: Sequence[Difference]
    """Why runs on disk and runs asked for differ."""
    code_changed: list[str] = field(default_factory=list)
    """Files of functions and scripts that have changed since the runs on disk."""
    work: SweepWork
    price: Price
    tokens: int
    """Most completion tokens of their rollouts."""
    num_workers: int
    """Processes assumed to be at work at once."""
    num_gpus: float
    """GPUs assumed for the runs that take any."""
    cannot_run: str = ""
    """Why the machines that a launch would use hold some run never; empty where they hold all."""
    mended: tuple[str, ...] = ()
    """What is wrong with the models' files and dealt with when they are loaded."""
    settings: tuple[ToySetting, ...] = ()
    """Settings made for the tiny models under which others would be trained or judged."""
    training_sets: tuple[PlannedSet, ...] = ()
    """Training sets that runs walk over."""
    over_budget: str | None = field(default=None)
    race: RacePrice | None = None
    """Runs that a race will take, where one was asked for."""
    search: SearchPrice | None = None
    """What a search will take, where one was asked for; the manifest then holds runs like its own."""
    prune: PruneQuestion | None = None
    """By what runs are stopped early, where that was asked for."""
    note: str = ""
    """What became of a search that is none."""
    packing: Packing
    """Which of the runs to do are trained together."""
    most_in_a_pack: int = 0
    simulated: SimulationResult | None = field(default=None)
    """What an imaginary cluster makes of the runs to do, if one was named."""

    @property
    def new(self) -> int:
        """Runs that a launch would do."""
        without = self.failed + self.quarantined + self.cancelled + self.skipped + self.stopped
        return len(self.manifest) - self.done - without

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        m, naive, shared = self.manifest, self.work.naive, self.work.shared
        return {
            "sweep": m.sweep,
            "dir": str(self.directory),
            "runs": len(m),
            "cells": m.num_cells,
            "new": self.new,
            "done": self.done,
            "failed": self.failed,
            "quarantined": self.quarantined,
            "cancelled": self.cancelled,
            "skipped": self.skipped,
            "stopped": self.stopped,
            "left": self.left,
            "duplicates": m.num_duplicates,
            "steps_naive": naive.steps,
            "steps_shared": shared.steps,
            "rollout_batches_naive": naive.rollout_batches,
            "rollout_batches_shared": shared.rollout_batches,
            "gradients_naive": naive.gradients,
            "gradients_shared": shared.gradients,
            "eval_passes_naive": naive.eval_passes + naive.base_eval_passes,
            "eval_passes_shared": shared.eval_passes + shared.base_eval_passes,
            "completion_tokens_max": self.tokens,
            "sharing": bool(m.options.get("sharing")),
            "race": self.race.to_json() if self.race else None,
            "search": self.search.to_json() if self.search else None,
            "prune": self.prune.rule if self.prune else None,
            "packed": self.packing.num_packed,
            "not_packed": dict(self.packing.refused),
            "busy_s": None if self.price.unknown else self.price.busy_s,
            "gpu_hours": None if self.price.unknown_gpus else self.price.gpu_hours,
            "usd": None if self.price.unknown_gpus else self.price.usd,
            **self._eta(),
            "simulation": self.simulated.to_json() if self.simulated else None,
            "num_workers": self.num_workers,
            "num_gpus": self.num_gpus,
            "cannot_run": self.cannot_run or None,
            "measured_runs": dict(self.price.measured),
            "disk_bytes": self.price.disk_bytes,
            "over_budget": self.over_budget,
            "training_sets": [each.to_json() for each in self.training_sets],
            "axes": {a.key: list(a.values) for a in m.axes if not self.search or a.key == SEED_KEY},
            "code_changed": list(self.code_changed),
            "drift": [
                {"key": d.key, "only_old": list(d.only_old), "only_new": list(d.only_new)} for d in self.drift
            ],
            "settings": [setting.to_json() for setting in self.settings],
            "needs": [{"what": n.what, "missing": list(n.missing), "fix": n.fix} for n in m.needs],
            "digest": m.digest,
        }

    def _eta(self) -> dict[str, float | None]:
        """Time left with its interval, ``None`` where it is unknown or the machines hold a run never; on an
        imaginary cluster run times are as uncertain as here.
        """
        scale = self.simulated.makespan_s / self.price.eta_s if self.simulated and self.price.eta_s else 1.0
        names = ("eta_s", "eta_low_s", "eta_high_s")
        unknown = self.price.unknown or self.cannot_run
        return {k: None if unknown else scale * getattr(self.price, k) for k in names}

    def to_text(self) -> str:
        """Return the plan for people."""
        return plan_text(self)
